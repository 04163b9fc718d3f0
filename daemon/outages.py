"""The state of outages: which store is away, and whether both stores have been brought in step since."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.errors import StoreUnavailable

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outage:
    """Why work waits, while a store is away: a snapshot, which its owner never changes."""

    store: str = ""
    reason: str = ""
    count: int = 0
    """Outages since the start."""


class Outages:
    """Owns the state of outages. Any thread may note a trouble; one thread at a time recovers.

    Each trouble begins a new generation. A recovery ends the outage only when the generation is still the one it began with. So a
    trouble that a thread notes during a recovery always causes another recovery.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Outage()
        self._generation = 0
        self._recovering = False
        self._recoveries = 0

    @property
    def now(self) -> Outage:
        """The outage at this moment; its reason is empty while both stores are there."""
        return self._now

    def note(self, error: StoreUnavailable) -> None:
        """Note that a store did not answer, and say so in the log when an outage begins."""
        with self._lock:
            self._generation += 1
            begins = not self._now.reason
            self._now = Outage(error.store, str(error), self._now.count + begins)
        if begins:
            log.warning("%s; pending work is kept until it is back", error, extra={"store": error.store})

    @contextlib.contextmanager
    def recovery(self) -> Iterator[None]:
        """Run a recovery in this block; unless it raises, it ends the outage that was known when it began."""
        with self._lock:
            began, self._recovering = self._generation, True
        try:
            yield
        except BaseException:
            self._end_recovery()
            raise
        self._end_recovery(began)

    def _end_recovery(self, began: int | None = None) -> None:
        with self._lock:
            self._recoveries += 1
            self._recovering = False
            if began == self._generation:
                self._now = Outage(self._now.store, "", self._now.count)

    def recoveries(self) -> int | None:
        """Return how often the stores were brought in step; None while they are not."""
        with self._lock:
            return None if self._recovering or self._now.reason else self._recoveries
