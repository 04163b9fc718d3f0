"""What the kernel does at its limits, for real: a process is stopped until its queue runs over, or is given few watches."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
OWN_NAMESPACE = ["unshare", "--user", "--map-root-user"]


def namespaces_are_missing() -> bool:
    return shutil.which("unshare") is None or subprocess.run([*OWN_NAMESPACE, "true"], check=False).returncode != 0


class Child:
    """The process that watches, and all that it said."""

    def __init__(self, folder: Path, command: list[str], eventually: Callable[..., None]) -> None:
        self.eventually = eventually
        self.said: list[dict[str, Any]] = []
        script = str(Path(__file__).with_name("listening.py"))
        self.process = subprocess.Popen(
            [*command, sys.executable, script, str(folder), os.readlink("/proc/self/ns/user")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(json.loads(line) for line in self.process.stdout)

    def do(self, command: str) -> dict[str, Any]:
        """Have it do something; returns what it says afterwards."""
        assert self.process.stdin is not None
        done = sum("done" in line for line in self.said)
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        self.eventually(lambda: sum("done" in line for line in self.said) > done)
        return next(line for line in reversed(self.said) if "done" in line)

    def heard(self, **what: object) -> bool:
        return any(what.items() <= line.items() for line in self.said.copy())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait(60)
        self._reader.join(60)
        self.process.stdout.close()


@pytest.fixture
def child(place: Path, watch_kit: Any, request: pytest.FixtureRequest) -> Iterator[Child]:
    (place / "photos").mkdir()
    with contextlib.closing(Child(place / "photos", getattr(request, "param", []), watch_kit.eventually)) as child:
        yield child
    assert child.process.returncode == 0


@pytest.fixture
def queue_length() -> int:
    length = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if length > 65_536:
        pytest.skip(f"overflowing a queue of {length} events takes too long")
    return length


@contextlib.contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def write_more_than_fits(folder: Path, queue_length: int) -> None:
    for n in range(queue_length // 2 + 1000):
        os.close(os.open(folder / f"{n}.jpg", os.O_CREAT | os.O_WRONLY))


def test_what_happens_while_the_reader_stands_still_is_noticed_to_be_lost(
    child: Child, place: Path, queue_length: int
) -> None:
    folder = place / "photos"
    (folder / "old").mkdir()
    (folder / "left").mkdir()
    child.do("arm")
    with stopped(child.process):
        write_more_than_fits(folder, queue_length)
        (folder / "new" / "deep").mkdir(parents=True)
        (folder / "old").rename(folder / "renamed")
        (folder / "left").rename(place / "left")
    child.eventually(lambda: child.heard(rescan=str(folder), reason="the kernel dropped events"))
    assert not child.heard(rescan=str(folder / "new"))
    after = child.do("state")
    assert after["overflows"] == 1
    assert after["watches"] == 4, "it is watched anew before anybody is told to walk it"
    for name in ("new/deep/a.jpg", "renamed/a.jpg"):
        (folder / name).write_text("photo")
        child.eventually(lambda name=name: child.heard(changed=str(folder / name)))


def test_a_folder_of_more_directories_than_the_queue_is_long_overflows_once(
    child: Child, place: Path, queue_length: int
) -> None:
    """To take the watches of so many back is to overflow the queue with the kernel's own words."""
    folder = place / "photos"
    directories = queue_length + 1000
    if int(Path("/proc/sys/fs/inotify/max_user_watches").read_text()) < 2 * directories:
        pytest.skip("this machine gives too few watches")
    for n in range(directories):
        (folder / str(n)).mkdir()
    assert child.do("arm")["watches"] == 1 + directories
    with stopped(child.process):
        write_more_than_fits(folder, queue_length)
    child.eventually(lambda: child.heard(rescan=str(folder), reason="the kernel dropped events"))
    # Behind all that the kernel had to say about it.
    (folder / "0" / "mark.jpg").write_text("photo")
    child.eventually(lambda: child.heard(changed=str(folder / "0" / "mark.jpg")))
    after = child.do("state")
    assert after["overflows"] == 1
    assert after["watches"] == 1 + directories


needs_namespace = pytest.mark.skipif(namespaces_are_missing(), reason="this machine gives no user namespaces")
confined = pytest.mark.parametrize("child", [OWN_NAMESPACE], indirect=True)


@needs_namespace
@confined
def test_directories_beyond_the_limit_of_watches_are_known_until_it_is_raised(child: Child, place: Path) -> None:
    folder = place / "photos"
    for name in ("a/b/c", "d/e", "f"):
        (folder / name).mkdir(parents=True)
    assert child.do("limit max_inotify_watches 3")["error"] is None
    armed = child.do("arm")
    assert armed["error"] is None
    assert armed["watches"] == 3
    assert set(armed["refused"].values()) == {errno.ENOSPC}
    assert len(armed["refused"]) == 4
    (folder / "later").mkdir()
    child.eventually(lambda: child.heard(rescan=str(folder / "later")))
    child.eventually(lambda: str(folder / "later") in child.do("state")["refused"])

    child.do("limit max_inotify_watches 5")
    some = child.do("retry")
    assert some["watches"] == 5
    assert len(some["refused"]) == 3

    # What appeared below a directory that held no watch is met on the way.
    for refused in some["refused"]:
        Path(refused, "unseen").mkdir()
    child.do("limit max_inotify_watches 100")
    all_of_them = child.do("retry")
    assert all_of_them["refused"] == {}
    assert all_of_them["watches"] == 8 + 3
    for directory, _, _ in os.walk(folder):
        Path(directory, "z.jpg").write_text("photo")
        child.eventually(lambda path=directory + "/z.jpg": child.heard(changed=path))


@needs_namespace
@confined
@pytest.mark.parametrize(
    ("limit", "code"), [("max_inotify_watches", errno.ENOSPC), ("max_inotify_instances", errno.EMFILE)]
)
def test_a_folder_that_gets_nothing_is_an_error_until_the_limit_is_raised(
    child: Child, place: Path, limit: str, code: int
) -> None:
    child.do(f"limit {limit} 0")
    assert child.do("arm")["error"] == code
    child.do(f"limit {limit} 100")
    assert child.do("arm")["error"] is None
    (place / "photos" / "a.jpg").write_text("photo")
    child.eventually(lambda: child.heard(changed=str(place / "photos" / "a.jpg")))
