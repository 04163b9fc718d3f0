"""How much the index holds of the watched folders, and of all else."""

from __future__ import annotations

import itertools
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from daemon.index.index import Index
    from daemon.index.mappings import Counts

SHARE = 0.1
"""Comparing sets takes at most this share of the time, however often somebody asks for counts."""
CHEAP_SECONDS = 0.1
"""Comparing that takes less is done whenever something has changed."""
LISTED = 20
"""The most places of each kind that a tally lists."""
BEHIND_ALL = b"/" + b"\xff" * 256
"""A name that sorts behind every path below a directory: no name has so many bytes."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A place in which nothing is watched, and in which the index knows files."""

    path: str
    files: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Photos, files and failures of the watched folders; a photo counts when a watched file holds it."""

    photos: int = 0
    files: int = 0
    failures: int = 0
    below: Mapping[str, int] = field(default_factory=dict)
    """Files of each watched folder."""
    encoded: Mapping[str, int] = field(default_factory=dict)
    """How many of those photos have their vector in each collection."""
    other_photos: int = 0
    """Photos that no watched file holds."""
    other_files: int = 0
    other_failures: int = 0
    leftovers: tuple[Leftover, ...] = ()
    """Places that hold most of the rest."""


class Counting:
    """Counts for any number of threads. Raises StoreUnavailable.

    Where all is watched and nothing is set aside, the stores' own counters are right. Otherwise sets are compared, which takes a
    second for some 100,000 photos; those counts hold until something changes.
    """

    def __init__(self, index: Index, folders: Callable[[], Sequence[str]] | None = None) -> None:
        """`folders` returns those that are watched; without it, everything is."""
        self._index = index
        self._folders = folders
        self._exact: tuple[object, Tally] | None = None
        self._not_before = 0.0
        """When sets may be compared again, as time.monotonic() counts; 0 for at any time."""
        self._comparing = threading.Lock()

    def __call__(self) -> Tally:
        mappings = self._index.mappings
        written = mappings.written
        counts = mappings.counts()
        names = [one.name for one in self._index.collections]
        encoded = {name: mappings.count_encoded(name) for name in names}
        if self._folders is None:
            return Tally(counts.photos, counts.files, counts.failures, encoded=encoded)
        below = {folder: mappings.count_below(folder) for folder in self._folders()}
        if not (counts.aside or counts.failures) and sum(below.values()) == counts.files:
            return Tally(counts.photos, counts.files, 0, below, encoded)
        return self._compared((written, counts, below, encoded), counts, below, encoded)

    def _compared(self, state: object, counts: Counts, below: Mapping[str, int], encoded: Mapping[str, int]) -> Tally:
        known = self._exact
        if known is not None and known[0] == state:
            return known[1]
        if known is None or not self._not_before:
            return self._measured(state, counts, below, encoded)
        # While one thread compares much, the others take the last result.
        if time.monotonic() < self._not_before or not self._comparing.acquire(blocking=False):
            return known[1]
        try:
            return self._measured(state, counts, below, encoded)
        finally:
            self._comparing.release()

    def _measured(self, state: object, counts: Counts, below: Mapping[str, int], encoded: Mapping[str, int]) -> Tally:
        # A busy machine makes nothing dear: this thread's own work counts.
        began = time.thread_time()
        tally = self._compare(counts, below, encoded)
        seconds = time.thread_time() - began
        self._exact = (state, tally)
        self._not_before = time.monotonic() + seconds / SHARE if seconds > CHEAP_SECONDS else 0.0
        return tally

    def _compare(self, counts: Counts, below: Mapping[str, int], encoded: Mapping[str, int]) -> Tally:
        mappings = self._index.mappings
        failed = mappings.failed_paths()
        failures = sum(any(is_in(path, folder) for folder in below) for path in failed)
        files = sum(below.values())
        if files == counts.files:
            photos = counts.photos
            aside = sorted(mappings.aside())
            encoded = {name: number - sum(mappings.encoded(name, aside)) for name, number in encoded.items()}
        else:
            ids = mappings.photos_below(tuple(below))
            photos = len(ids)
            encoded = {name: len(ids & mappings.all_encoded(name)) for name in encoded}
        other_files, other_failures = counts.files - files, counts.failures - failures
        return Tally(
            photos, files, failures, below, encoded, max(0, counts.photos - photos), other_files, other_failures,
            tuple(self._leftovers(tuple(below), other_files, failed)) if other_files or other_failures else (),
        )  # fmt: skip

    def _leftovers(self, watched: Sequence[str], files: int, failed: Sequence[str]) -> Iterator[Leftover]:
        """Yield the places outside the watched folders that the index knows: folders that were watched, then all else."""
        mappings = self._index.mappings
        once = [folder for folder in mappings.remembered() if not any(touch(folder, one) for one in watched)]
        tops = [folder for folder in once if not any(folder != one and is_in(folder, one) for one in once)]
        told = 0
        for top in sorted(tops, key=os.fsencode)[:LISTED]:
            known = mappings.count_below(top)
            if known or any(is_in(path, top) for path in failed):
                told += known
                yield Leftover(top, known)
        if told < files:
            yield from itertools.islice(self._elsewhere(watched, [*watched, *tops]), LISTED)

    def _elsewhere(self, watched: Sequence[str], told: Sequence[str]) -> Iterator[Leftover]:
        """Yield the largest places without a watched folder in them that hold what is left over."""
        mappings, after = self._index.mappings, None
        while first := mappings.page("/", after, 1):
            path = os.fsdecode(first[0][0])
            place = next((folder for folder in told if is_in(path, folder)), "")
            if not place:
                place = _widest(path, watched)
                yield Leftover(place, mappings.count_below(place) or 1)
            after = os.fsencode(place).rstrip(b"/") + BEHIND_ALL if place != path else first[0][0]


def is_in(path: str, directory: str) -> bool:
    """Whether a path is a directory's own, or lies below it."""
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)


def touch(one: str, other: str) -> bool:
    """Whether one of two directories lies in the other."""
    return is_in(one, other) or is_in(other, one)


def _widest(path: str, watched: Sequence[str]) -> str:
    """Return the directory furthest up that `path` lies in and no watched folder does; `path` itself if no directory qualifies."""
    while (above := os.path.dirname(path)) != os.sep and not any(is_in(folder, above) for folder in watched):
        path = above
    return path
