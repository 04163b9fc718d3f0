"""The data directory while the daemon runs: somebody may remove or replace it, or files in it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from daemon.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from daemon.index.embedded import DataLock, EmbeddedServer

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.5
"""For how long the same things have to be lost: a removal goes on file by file, and a store may just be replacing a file."""


class DataDir:
    """A service that notices lost files of the data directory, locks its file again, and has the stores start again without them.

    The index is then made again as after lost files at a start. A disk that is full, read-only or fails loses no files. The main thread
    owns it, as it owns the stores.
    """

    name = "data_dir"

    def __init__(
        self,
        path: Path,
        lock: DataLock,
        stores: Sequence[EmbeddedServer],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lock` is held already."""
        self._path = path
        self._lock = lock
        self._stores = stores
        self._clock = clock
        self._lost: list[DataLock | EmbeddedServer] = []
        self._since = 0.0

    def start(self) -> None:
        """Nothing to begin: the files are looked at with each check."""

    def stop(self) -> None:
        """Nothing to end: the lock is held as long as the process lives."""

    def check(self) -> None:
        """Make again what is lost, and say so once; AlreadyRunning when another daemon has taken the lock meanwhile."""
        now = self._clock()
        things: list[DataLock | EmbeddedServer] = [self._lock, *self._stores]
        lost = [one for one in things if one.is_lost]
        if lost != self._lost:
            self._lost, self._since = lost, now
        elif lost and now - self._since >= SETTLE_SECONDS:
            self._since = now
            self._make_again()

    def _make_again(self) -> None:
        lost_stores = [store for store in self._stores if store in self._lost]
        if self._lock in self._lost:
            try:
                self._lock.renew()
            except ConfigError as error:
                log.warning(
                    "the lock file in %s was removed, and cannot be made again: %s", self._path, error.problems[0]
                )
                return
        if lost_stores:
            log.error(
                "%s in %s were removed or replaced while lookaliked ran; the index is made again from the photos and what is left",
                "the files"
                if self._is_all_lost
                else f"the files of {' and '.join(store.name for store in lost_stores)}",
                self._path,
            )
        else:
            log.warning(
                "the lock file in %s was removed or replaced while lookaliked ran; it is made and locked again",
                self._path,
            )
        for store in lost_stores:
            store.start_again()

    @property
    def _is_all_lost(self) -> bool:
        return len(self._lost) == len(self._stores) + 1
