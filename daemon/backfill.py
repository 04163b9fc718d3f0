"""Has photos encoded that lack a vector: of a model that joined or changed, or one that a store lost."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from daemon.changes import Hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from daemon.index.index import Index
    from daemon.watch.pending import Pending

log = logging.getLogger(__name__)

PORTION = 32
"""Paths that are put at most: whoever waits for a photo that was just saved waits for them too."""
EXAMINED = 2000
"""Paths that are looked through at once for some that are there."""
RETRY_SECONDS = 60.0
"""When to try again what could not be encoded: its disk is away, say."""


class Backfill:
    """Feeds the paths of such photos to `pending`, a few at a time, in passes, so that everything else goes before them.

    `is_watched` says whether a path lies in a watched folder, `is_unverified` whether its disk may be away: such a path is left
    alone, and keeps an earlier version of a model. One thread begins and feeds; the rest may be called from any.
    """

    def __init__(
        self,
        index: Index,
        pending: Pending,
        is_watched: Callable[[str], bool],
        is_unverified: Callable[[str], bool],
    ) -> None:
        self._index = index
        self._pending = pending
        self._is_watched = is_watched
        self._is_unverified = is_unverified
        self._paths: Iterator[str] | None = None
        self._lacking: dict[str, int] = {}
        self._unable: dict[str, set[int]] = {}
        self._ready: deque[str] = deque()
        self._fed: set[str] = set()
        self._fed_at = 0.0
        self._rests_until = 0.0
        self._is_woken = False
        self._is_beginning = False

    @property
    def active(self) -> bool:
        """Whether a pass is under way, or about to be."""
        return self._is_woken or self._is_beginning or self._paths is not None

    def fills(self, collection: str) -> bool:
        """Whether photos are being encoded that a collection lacks."""
        return self.active and self.lacks(collection)

    def lacks(self, collection: str) -> bool:
        """Whether a collection lacked photos that its model can encode, when the last pass began."""
        return collection in self._lacking

    def give_up(self, version: str, photo: int) -> None:
        """Note that a version of a model gives no vector for a photo: it is not asked again before the next start."""
        self._unable.setdefault(version, set()).add(photo)

    def has_given_up(self, version: str, photo: int) -> bool:
        return photo in self._unable.get(version, ())

    def begin(self) -> None:
        """Go through everything that lacks a vector, from the start."""
        self._is_beginning, self._is_woken = True, False
        try:
            missing = self._watched(self._index.missing(self._unable))
            self._lacking = {name: len(photos) for name, photos in missing.items()}
            self._paths = self._index.paths_of(sorted(set().union(*missing.values()))) if missing else None
            self._ready.clear()
            self._rests_until = time.monotonic() + RETRY_SECONDS
            for replaced in self._index.replace_complete(self._is_watched, self._unable):
                said = "%s: the changed model is complete, and answers from now on"
                log.info(said, replaced.model, extra={"model": replaced.model})
        finally:
            self._is_beginning = False

    def _watched(self, missing: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """Leave out photos of which no file is watched: nobody encodes them, and no count has them."""
        photos = sorted(set[int]().union(*missing.values()))
        watched = self._index.held_by(photos, self._is_watched)
        found = {name: [photo for photo in lacking if photo in watched] for name, lacking in missing.items()}
        return {name: lacking for name, lacking in found.items() if lacking}

    def wake(self) -> None:
        """Begin soon: a photo that lacks a vector was met."""
        self._is_woken = True

    def feed(self) -> None:
        """Put the next few paths, once those before are dealt with."""
        if self._paths is None:
            if self._is_woken or (self._lacking and time.monotonic() >= self._rests_until):
                self.begin()
            return
        self._fed = self._pending.older_among(self._fed, self._fed_at)
        ended = False
        if not self._ready:
            examined = list(itertools.islice(self._paths, EXAMINED))
            self._ready.extend(path for path in examined if self._is_watched(path) and not self._is_unverified(path))
            ended = not examined
        if self._ready:
            self._put([self._ready.popleft() for _ in range(min(PORTION - len(self._fed), len(self._ready)))])
        elif ended and not self._fed:
            self._end_pass()

    def _put(self, portion: list[str]) -> None:
        self._pending.put_all(portion, Hint.FOUND)
        self._fed.update(portion)
        self._fed_at = time.monotonic()

    def _end_pass(self) -> None:
        """Go through it again as long as that gets on; what remains then cannot be encoded now."""
        before, is_woken = self._lacking, self._is_woken
        self.begin()
        if self._lacking == before and not is_woken:
            self._paths = None
