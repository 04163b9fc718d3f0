"""A folder to change, and the promise that a test leaves no thread and no file descriptor behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon import beneath
from daemon.changes import Hint, Remembered, signature
from daemon.watch.brake import Brake
from daemon.watch.filters import Filters
from daemon.watch.pending import Pending
from daemon.watch.reconcile import Recording, Walk
from daemon.watch.settle import Settle
from daemon.watch.watcher import Watcher
from tests.namespaces import bind, bound, mounted, unmount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.watch.folder import WatchedFolder

FILTERS = Filters([".*", "@eaDir"], [".jpg"])
NEVER = 1e6


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {seconds:g} s"
        time.sleep(0.02)


def held_watches() -> int:
    """Return how many inotify watches this process holds."""
    count = 0
    for fd in os.listdir("/proc/self/fdinfo"):
        with contextlib.suppress(OSError):
            count += Path("/proc/self/fdinfo", fd).read_text().count("inotify wd:")
    return count


@contextlib.contextmanager
def unprivileged(*paths: Path) -> Iterator[None]:
    """Be somebody whom permissions bind, and who owns `paths`."""
    if os.geteuid():
        yield
        return
    for path in paths:
        os.chown(path, 65534, -1)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class Memory:
    """What is remembered of the folders, for as long as the test lasts."""

    def __init__(self) -> None:
        self.folders: dict[str, Remembered] = {}

    def recall(self, folder: str) -> Remembered:
        return self.folders.get(folder, Remembered())

    def remember(self, folder: str, remembered: Remembered) -> None:
        self.folders[folder] = remembered


class Scene:
    """One folder, a watcher of it, and an index that does what the pipeline would."""

    def __init__(self, place: Path) -> None:
        self.folder, self.outside = place / "photos", place / "outside"
        self.folder.mkdir()
        self.outside.mkdir()
        self.index: dict[bytes, str] = {}
        self.failures: dict[str, str] = {}
        self.looked: list[tuple[str, Hint]] = []
        self.pending = Pending(Settle(0.0, 0.0))
        self.recording = Recording(
            below=self.below,
            failures=lambda: dict(self.failures),
            recorded=lambda paths: [path for path in paths if os.fsencode(path) in self.index],
            copies=lambda paths: [([path], [path, *self.copies[path]]) for path in paths if path in self.copies],
        )
        self.memory = Memory()
        self.copies: dict[str, list[str]] = {}
        """Files that hold the same photo as another one."""
        self.watcher: Watcher | None = None

    def below(self, folder: str) -> Iterator[tuple[bytes, str]]:
        prefix = os.fsencode(folder).rstrip(b"/") + b"/"
        return iter(sorted(item for item in self.index.items() if item[0].startswith(prefix)))

    def build(
        self,
        *,
        watch: str = "events",
        brake: Brake | None = None,
        rescan: float = NEVER,
        poll: float = NEVER,
        room: int = 10_000,
    ) -> Watcher:
        self.watcher = Watcher(
            [(str(self.folder), watch)],
            FILTERS,
            self.pending,
            self.recording,
            self.memory,
            brake=brake or Brake(ratio=0.2, count=2),
            rescan_seconds=rescan,
            poll_seconds=poll,
            max_pending=room,
        )
        return self.watcher

    eventually = staticmethod(eventually)

    def stop(self) -> None:
        if self.watcher:
            self.watcher.stop()

    def start(self, **options: Any) -> WatchedFolder:
        watcher = self.build(**options)
        watcher.start()
        return watcher.folders[0]

    def write(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def index_all(self) -> None:
        """Have in the index what is on the disk."""
        self.index |= self.on_disk

    def record(self, *names: str) -> None:
        """Have files in the index that are not on the disk."""
        self.index |= {os.fsencode(self.folder / name): "1 2 3" for name in names}

    @property
    def indexed(self) -> set[str]:
        return {os.path.relpath(os.fsdecode(path), self.folder) for path in self.index}

    @property
    def on_disk(self) -> dict[bytes, str]:
        return dict(Walk(str(self.folder), FILTERS))

    def work(self) -> None:
        """Look at what is pending, by the disk."""
        assert self.watcher is not None
        self.watcher.check()
        while len(self.pending):
            for path, hint, _ in self.pending.take(100):
                self.looked.append((os.path.relpath(path, self.folder), hint))
                self._look(self.watcher, path, hint)
                self.pending.done(path)

    def _look(self, watcher: Watcher, path: str, hint: Hint) -> None:
        try:
            is_ours = path.startswith(f"{self.folder}/")
            found = beneath.lstat(str(self.folder), path) if is_ours else os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            if hint is not Hint.FOUND and watcher.is_reachable(path):
                self.index.pop(os.fsencode(path), None)
                self.failures.pop(path, None)
                watcher.noticed([path])
            return
        watcher.noticed([path])
        if not watcher.admits(path):
            self.index.pop(os.fsencode(path), None)
            self.failures.pop(path, None)
        elif found.st_size == 0:
            self.failures[path] = signature(found)
        else:
            self.index[os.fsencode(path)] = f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        def worked() -> object:
            self.work()
            return condition()

        eventually(worked, seconds)

    def settle(self) -> None:
        """Work until nothing is asked for any more and the index equals the disk."""
        watcher = self.watcher
        assert watcher is not None
        self.until(lambda: watcher.walked and not watcher.busy and not len(self.pending) and self.index == self.on_disk)


@dataclass(frozen=True)
class Kit:
    """What the test modules share: they cannot import one another."""

    eventually: Callable[..., None] = eventually
    held_watches: Callable[[], int] = held_watches
    unprivileged: Callable[..., contextlib.AbstractContextManager[None]] = unprivileged
    mounted: Callable[..., contextlib.AbstractContextManager[None]] = mounted
    scene: type[Scene] = Scene
    unmount: Callable[[Path], None] = unmount
    bind: Callable[[Path, Path], None] = bind
    bound: Callable[[Path, Path], contextlib.AbstractContextManager[None]] = bound


@pytest.fixture(scope="session")
def watch_kit() -> Kit:
    return Kit()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter, as pytest's own may not be."""
    place = Path(tempfile.mkdtemp(prefix="watch-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture(autouse=True)
def _nothing_is_left_over() -> Iterator[None]:
    threads, fds = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    eventually(lambda: not [thread for thread in threading.enumerate() if thread not in threads])
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= fds)
