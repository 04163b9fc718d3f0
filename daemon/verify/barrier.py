"""Waiting until what has happened so far has been dealt with."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from daemon.beneath import Disk
    from daemon.changes import Hint

EVENT_SECONDS = 2.0
"""In which an event reaches `pending`: watchdog keeps half of a rename back for half a second, and a busy machine adds to that."""
TICK_SECONDS = 0.05


class Queue(Protocol):
    """The paths that may differ from the index."""

    def older_than(self, moment: float, below: str = "") -> int: ...
    def put_all(self, paths: Iterable[str], hint: Hint) -> None: ...


class Folder(Protocol):
    """A watched folder."""

    @property
    def path(self) -> str: ...
    @property
    def mode(self) -> str: ...


class Territory(Protocol):
    """The watched folders."""

    @property
    def folders(self) -> Sequence[Folder]: ...
    @property
    def disk(self) -> Disk: ...
    @property
    def walked(self) -> bool: ...
    @property
    def busy(self) -> bool: ...
    def admits(self, path: str) -> bool: ...
    def is_reachable(self, path: str) -> bool: ...
    def is_unverified(self, path: str) -> bool: ...
    def rescan(self, directory: str, reason: str) -> None: ...


class Barrier:
    """Lets go once every change from before it has been looked at, and knows what is still owed where it never did."""

    def __init__(
        self,
        pending: Queue,
        territory: Territory,
        stop: threading.Event,
        is_collecting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pending = pending
        self._territory = territory
        self._stop = stop
        self._is_collecting = is_collecting
        self._moment = 0.0
        self._passed = True

    def wait(self, seconds: float) -> None:
        """Wait for what has happened up to now, and at most so long."""
        deadline = time.monotonic() + seconds
        for folder in self._territory.folders:
            if folder.mode == "poll":
                # Nobody tells of what happens in it; a walk only does sooner what one would do anyway.
                self._territory.rescan(folder.path, "it is being verified")
        self._stop.wait(EVENT_SECONDS)
        self._moment = time.monotonic()
        while not (passed := self._is_through()) and time.monotonic() < deadline and not self._stop.wait(TICK_SECONDS):
            pass
        self._passed = passed

    def owes(self, paths: Iterable[str]) -> bool:
        """Whether the last wait ended too early to tell how the index stands to these files, or to all when none are given."""
        if self._passed:
            return False
        directories = {os.path.dirname(path) for path in paths}
        return (
            not directories
            or self._is_walking()
            or any(self._pending.older_than(self._moment, directory) for directory in directories)
        )

    def _is_walking(self) -> bool:
        return self._territory.busy or not self._territory.walked

    def _is_through(self) -> bool:
        # What is collected next would look like a difference.
        return not self._is_walking() and not self._pending.older_than(self._moment) and not self._is_collecting()
