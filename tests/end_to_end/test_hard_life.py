"""What a daemon lives through, and what it must not cost: signals at any moment, killed stores, other users, odd folders."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from contextlib import suppress
from http.client import HTTPConnection
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.namespaces import mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Wait = Callable[..., Any]

BIN = Path(sys.executable).parent
HUNDREDS = 200


class UnixConnection(HTTPConnection):
    """Asks a question without a process for each: hundreds of them are to be asked."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def assert_each_found_first(lookalike: Any) -> None:
    """Assert that every photo on the disk is found at rank 1 by its own bytes, under its path, and that no more are known."""
    files = sorted(lookalike.folder.rglob("*.jpg"))
    connection = UnixConnection(lookalike.socket)
    for file in files:
        connection.request("POST", "/v1/search?limit=1", file.read_bytes(), {"content-type": "image/jpeg"})
        (best,) = loads(connection.getresponse().read())["results"]
        assert best["paths"] == [str(file)]
    connection.close()
    status = lookalike.status()
    assert (status["photos"], status["files"], status["failures"]) == (len(files), len(files), 0)


@pytest.fixture
def hundreds(lookalike: Any, photos: Any) -> Any:
    for seed in range(HUNDREDS):
        photos.write(lookalike.folder / str(seed % 7) / f"{seed}.jpg", seed)
    return lookalike


@pytest.fixture
def launched(lookalike: Any) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a daemon without waiting for its answer; ended after the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def launch(*arguments: Any, wrapper: Sequence[str] = (), **options: Any) -> subprocess.Popen[bytes]:
        command = [*wrapper, BIN / "lookaliked", "run", *arguments]
        with lookalike.log.open("ab") as log:
            settings = {"stdout": log, "stderr": log, "env": lookalike.environment, **options}
            processes.append(subprocess.Popen(command, **settings))
        return processes[-1]

    yield launch
    for process in processes:
        if process.poll() is None:
            lookalike.children += psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


def test_a_signal_while_models_are_made_ready_gives_them_up(lookalike: Any, launched: Any, wait_for: Wait) -> None:
    lookalike.cache = lookalike.root / "cache"
    process = launched(lookalike.folder)
    wait_for((lookalike.data_dir / "lock").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert list(lookalike.cache.rglob("manifest.json")) == []
    assert "Traceback" not in lookalike.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["", "valkey is ready", "milvus is ready", "answers at"])
def test_a_signal_while_it_starts_ends_it_in_order(
    lookalike: Any, launched: Any, wait_for: Wait, number: signal.Signals, moment: str
) -> None:
    process = launched(lookalike.folder)
    wait_for(lambda: (moment in lookalike.said()) if moment else (lookalike.data_dir / "lock").exists())
    lookalike.children += psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(30) == 0
    assert "Traceback" not in lookalike.said()


def test_a_script_s_background_job_ignores_the_interrupts_of_its_terminal(
    lookalike: Any, launched: Any, wait_for: Wait
) -> None:
    process = launched(lookalike.folder, wrapper=("sh", "-c", 'trap "" INT; exec "$0" "$@"'))
    # The lock is taken after the signals are seen to.
    wait_for((lookalike.data_dir / "lock").exists)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: process.poll() is not None or "answers at" in lookalike.said())
    assert process.poll() is None, lookalike.said()
    process.terminate()
    assert process.wait(30) == 0
    assert "SIGINT" not in lookalike.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_index_is_whole_however_often_indexing_was_cut_short(
    hundreds: Any, wait_for: Wait, number: signal.Signals
) -> None:
    encoded = 0
    for _ in range(2):
        hundreds.start()
        wait_for(lambda: hundreds.status()["encoded"] > 15 or hundreds.status()["photos"] == HUNDREDS)
        encoded += hundreds.status()["encoded"]
        started = time.monotonic()
        assert hundreds.stop(number) == (0 if number == signal.SIGTERM else -number)
        assert time.monotonic() - started < 20
    hundreds.start()
    encoded += hundreds.up_to_date()["encoded"]
    if number == signal.SIGTERM:
        assert encoded <= HUNDREDS, "what was encoded is written before the end"
    assert_each_found_first(hundreds)
    hundreds.stop()
    hundreds.start()
    assert hundreds.up_to_date()["encoded"] == 0


@pytest.mark.parametrize("name", ["valkey-server", "milvus_lite_server"])
def test_a_store_that_is_killed_while_hundreds_are_indexed_costs_none_of_them(
    hundreds: Any, wait_for: Wait, name: str
) -> None:
    hundreds.start()
    wait_for(lambda: hundreds.status()["encoded"] > 10)
    next(child for child in hundreds.children if name in " ".join(child.cmdline())).kill()
    wait_for(lambda: sum(store["restarts"] for store in hundreds.status()["stores"]) == 1)
    hundreds.children += psutil.Process(hundreds.process.pid).children(recursive=True)
    hundreds.up_to_date()
    assert_each_found_first(hundreds)


def test_both_stores_killed_at_once_are_started_again(lookalike: Any, photos: Any, wait_for: Wait) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    lookalike.start()
    lookalike.up_to_date()
    for child in lookalike.children:
        child.kill()
    photos.write(lookalike.folder / "b.jpg", 2)
    wait_for(lambda: [store["restarts"] for store in lookalike.status()["stores"]] == [1, 1])
    lookalike.children += psutil.Process(lookalike.process.pid).children(recursive=True)
    wait_for(lambda: lookalike.status()["state"] == "up to date" and lookalike.status()["files"] == 2)
    assert_each_found_first(lookalike)


def test_once_on_an_empty_folder_says_so_and_ends(lookalike: Any) -> None:
    done = lookalike.once()
    assert done.returncode == 0
    assert b"up to date: 0 photos in 0 files" in done.stderr


def test_a_folder_of_any_name_is_watched_and_its_name_is_shown_escaped(
    lookalike: Any, photos: Any, wait_for: Wait
) -> None:
    odd = lookalike.root / os.fsdecode(b"\xff [bold] \x1b[31m\n\xe2\x98\x80")
    photo = photos.write(odd / "a.jpg", 1)
    (odd / os.fsdecode(b"bad \xfe\x1b[2J.jpg")).write_bytes(b"text")
    lookalike.start(odd)
    wait_for(lambda: lookalike.holders(photo) == [str(photo)])
    assert lookalike.up_to_date()["failures"] == 1
    assert lookalike.command("status").returncode == 0
    assert "\x1b" not in lookalike.said()
    assert "[bold]" in lookalike.said()


def test_a_missing_folder_of_any_name_is_one_sentence(lookalike: Any) -> None:
    done = lookalike.daemon("run", os.fsdecode(os.fsencode(lookalike.root) + b"/\xff\x1b[31m"))
    assert done.returncode == 78
    assert b"does not exist" in done.stderr
    assert b"\x1b" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_log_that_nobody_reads_any_more_does_not_end_the_daemon(
    lookalike: Any, photos: Any, launched: Any, wait_for: Wait
) -> None:
    reader, writer = os.pipe()
    process = launched(lookalike.folder, stderr=writer)
    os.close(writer)
    os.close(reader)
    wait_for(lambda: process.poll() is not None or lookalike.command("status").returncode == 0)
    (lookalike.folder / "bad.jpg").write_bytes(b"text")
    photo = photos.write(lookalike.folder / "a.jpg", 1)
    wait_for(lambda: process.poll() is not None or lookalike.holders(photo) == [str(photo)])
    lookalike.children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.parametrize("ending", ["the window is closed", "Ctrl-C"])
def test_in_a_terminal_a_bar_is_drawn_and_its_end_is_the_daemons(
    hundreds: Any, launched: Any, wait_for: Wait, ending: str
) -> None:
    keyboard, terminal = pty.openpty()
    process = launched(
        hundreds.folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**hundreds.environment, "TERM": "xterm"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    os.set_blocking(keyboard, False)
    shown = bytearray()

    def sees(pattern: bytes) -> bool:
        # EIO: the daemon has ended.
        with suppress(OSError):
            shown.extend(os.read(keyboard, 65536))
        return re.search(pattern, shown) is not None

    wait_for(lambda: process.poll() is not None or sees(rb"indexing.* of \d+"), "the bar")
    assert process.poll() is None, shown.decode()
    hundreds.children += psutil.Process(process.pid).children(recursive=True)
    if ending == "Ctrl-C":
        os.write(keyboard, b"\x03")
        wait_for(lambda: sees(b"finishing the work in hand"))
        # What is written to a terminal waits for it to be read.
        wait_for(lambda: sees(b"never shown") or process.poll() is not None)
    os.close(keyboard)
    assert process.wait(30) == 0
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in hundreds.children))


def test_the_socket_and_the_data_are_their_owners_alone(lookalike: Any, photos: Any) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    lookalike.start()
    lookalike.up_to_date()
    assert lookalike.socket.stat().st_mode & 0o077 == 0
    assert lookalike.data_dir.stat().st_mode & 0o077 == 0
    assert (lookalike.socket.parent / "stores").stat().st_mode & 0o077 == 0


def test_nobody_else_keeps_files_in_the_users_cache(lookalike: Any, photos: Any) -> None:
    """Where onnxruntime may, it notes an id of the device there, and sends it to its maker."""
    photos.write(lookalike.folder / "a.jpg", 1)
    lookalike.cache = lookalike.root / "cache"
    lookalike.start()
    lookalike.up_to_date()
    assert os.listdir(lookalike.cache) == ["lookalike"]


def test_nothing_is_left_where_the_sockets_were(lookalike: Any) -> None:
    lookalike.start()
    assert lookalike.stop() == 0
    assert [path for path in lookalike.socket.parent.rglob("*") if path.is_socket()] == []


@pytest.fixture
def unprivileged() -> list[str]:
    """What to put before a command so that it may read no more than modes allow."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root reads everything, and setpriv is not there to prevent it")
    without = "-dac_override,-dac_read_search"
    return ["setpriv", f"--inh-caps={without}", f"--bounding-set={without}"]


def test_a_folder_inside_that_cannot_be_read_costs_no_other(
    lookalike: Any, photos: Any, launched: Any, unprivileged: list[str], wait_for: Wait
) -> None:
    photo = photos.write(lookalike.folder / "a.jpg", 1)
    hidden = photos.write(lookalike.folder / "locked" / "b.jpg", 2)
    secret = photos.write(lookalike.folder / "secret.jpg", 3)
    hidden.parent.chmod(0)
    secret.chmod(0)
    try:
        process = launched(lookalike.folder, wrapper=unprivileged)
        wait_for(lambda: process.poll() is not None or lookalike.command("status").returncode == 0)
        assert process.poll() is None, lookalike.said()
        wait_for(lambda: lookalike.status()["files"] == 1)
        wait_for(lambda: lookalike.status()["failures"] == 1)
        assert lookalike.holders(photo) == [str(photo)]
        wait_for(lambda: "locked" in lookalike.said())
        secret.chmod(0o644)
        wait_for(lambda: lookalike.status()["files"] == 2)
    finally:
        hidden.parent.chmod(0o755)
        secret.chmod(0o644)


def test_a_watched_folder_that_cannot_be_read_is_said_and_watched_when_it_can(
    lookalike: Any, photos: Any, launched: Any, unprivileged: list[str], wait_for: Wait
) -> None:
    locked = lookalike.root / "locked"
    photo = photos.write(locked / "a.jpg", 1)
    other = photos.write(lookalike.folder / "b.jpg", 2)
    file = lookalike.root / "both.yaml"
    file.write_text(f"folders: ['{lookalike.folder}', '{locked}']\n", encoding="utf-8")
    locked.chmod(0)
    try:
        refused = subprocess.run(
            [*unprivileged, BIN / "lookaliked", "run", locked],
            env=lookalike.environment,
            capture_output=True,
            check=False,
        )
        assert refused.returncode == 78
        assert b"cannot be read" in refused.stderr
        process = launched("--config", file, wrapper=unprivileged)
        wait_for(lambda: process.poll() is not None or lookalike.command("status").returncode == 0)
        wait_for(lambda: lookalike.holders(other) == [str(other)])
        assert any("cannot be read" in reason for reason in lookalike.status()["reasons"])
    finally:
        locked.chmod(0o755)
    wait_for(lambda: lookalike.status()["state"] == "up to date")
    assert lookalike.holders(photo) == [str(photo)]


@pytest.mark.mounts
def test_a_full_disk_under_the_cache_is_one_sentence(lookalike: Any) -> None:
    disk = lookalike.root / "disk"
    with mounted(disk, "size=2m"):
        file = lookalike.root / "lookalike.yaml"
        file.write_text(f"folders: ['{lookalike.folder}']\ncache_dir: '{disk}/cache'\n", encoding="utf-8")
        done = lookalike.daemon("run", "--config", file)
        assert done.returncode == 78
        assert b"No space left" in done.stderr
        assert str(disk).encode() in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_hidden_folders_hold_nothing_of_ours_whatever_else_is_ignored(lookalike: Any, photos: Any) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    file = lookalike.root / "lookalike.yaml"
    file.write_text(
        f"folders: ['{lookalike.folder}']\ndata_dir: '{lookalike.folder}/.index'\nwatch: {{ignore: []}}\n",
        encoding="utf-8",
    )
    done = lookalike.daemon("run", "--once", "--config", file)
    if done.returncode == 78:
        assert b"nothing may be written" in done.stderr
        return
    photos.write(lookalike.folder / ".index" / "b.jpg", 2)
    again = lookalike.daemon("run", "--once", "--config", file)
    assert b"up to date: 1 photo in 1 file" in again.stderr
