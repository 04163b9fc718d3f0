"""Has photos encoded that lack a vector: of a model that joined or changed, or one that a store lost."""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING

from daemon.changes import Hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.index.index import Index
    from daemon.watch.pending import Pending

log = logging.getLogger(__name__)

PORTION = 32
"""Paths that are put at once, when fewer are pending: whoever waits for a photo that was just saved waits for them too."""
RETRY_SECONDS = 60.0
"""When to try again what could not be encoded: its disk is away, say."""


class Backfill:
    """Feeds the paths of such photos to `pending`, a portion at a time, so that everything else goes before them.

    One thread begins and feeds; the rest may be called from any.
    """

    def __init__(self, index: Index, pending: Pending, is_watched: Callable[[str], bool]) -> None:
        self._index = index
        self._pending = pending
        self._is_watched = is_watched
        self._paths: Iterator[str] | None = None
        self._missing: dict[str, set[int]] = {}
        self._fed_at = 0.0
        self._rests_until = 0.0
        self._is_woken = False

    @property
    def active(self) -> bool:
        """Whether there is something that can be encoded now."""
        return self._is_woken or self._paths is not None

    @property
    def models(self) -> frozenset[str]:
        """The models of which photos lack a vector that can be encoded now, or so it seems."""
        missing = self._missing
        return frozenset(one.model for one in self._index.collections if self.active and one.name in missing)

    def begin(self) -> None:
        """Go through everything that lacks a vector, from the start."""
        self._is_woken = False
        self._missing = self._index.missing()
        self._paths = self._index.backlog() if self._missing else None
        self._rests_until = time.monotonic() + RETRY_SECONDS
        for replaced in self._index.replace_complete(self._is_watched):
            log.info("%s: the changed model is complete, and answers from now on", replaced.model)

    def wake(self) -> None:
        """Begin soon: a photo that lacks a vector was met."""
        self._is_woken = True

    def feed(self) -> None:
        """Put the next portion, once the last one is dealt with."""
        if self._paths is None:
            if self._is_woken or time.monotonic() >= self._rests_until:
                self.begin()
            return
        if len(self._pending) >= PORTION:
            return
        if portion := list(itertools.islice(self._paths, PORTION)):
            self._pending.put_all(portion, Hint.FOUND)
            self._fed_at = time.monotonic()
        elif not self._pending.older_than(self._fed_at):
            self._end_pass()

    def _end_pass(self) -> None:
        """Go through it again as long as that gets on; what remains then cannot be encoded now."""
        before = self._missing
        self.begin()
        if self._missing == before:
            self._paths = None
