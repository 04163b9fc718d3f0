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
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


@dataclass(frozen=True)
class Kit:
    """What the test modules share: they cannot import one another."""

    eventually: Callable[..., None] = eventually
    held_watches: Callable[[], int] = held_watches
    unprivileged: Callable[..., contextlib.AbstractContextManager[None]] = unprivileged


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
