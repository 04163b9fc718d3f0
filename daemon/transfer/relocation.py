"""Telling the index that files lie in another place now, so that none is read or encoded for it."""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon import canonical
from daemon.changes import FileStat
from daemon.errors import QueryError
from daemon.index.mappings import PAGE, Bind, Fail, Remove
from daemon.transfer.places import renamed, state_of, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daemon.index.index import Change, Index
    from daemon.index.mappings import Failure, FileRecord
    from daemon.transfer.importer import Pipeline
    from daemon.transfer.places import Territory

log = logging.getLogger(__name__)

BATCH = 256
"""Files that are changed at a time: so long does the commit of what has just happened wait."""


@dataclass(slots=True)
class Relocated:
    """What became, or would become, of the files that were known in the old place."""

    files: int = 0
    """How many there were."""
    moved: int = 0
    """Those that are in the new place as they were recorded, or are known there already."""
    kept: int = 0
    """Those that are not there and are kept in the index, as it was decided in the old place."""
    changed: int = 0
    """Those that have another size or mtime in the new place, or do not belong in the index there: a walk reads them."""
    missing: int = 0
    """Those that are not in the new place: they stay known in the old one."""
    failures: int = 0
    """Files that could not be indexed, and are known as such in the new place."""


class Relocation:
    """Relocates a part of a library at a time, on the caller's thread. A crash leaves each file known in one of the places, or both."""

    def __init__(self, index: Index, territory: Territory, pipeline: Pipeline) -> None:
        self._index = index
        self._territory = territory
        self._disk = territory.disk
        self._pipeline = pipeline

    def run(self, old: str, new: str, *, dry_run: bool, stopped: Callable[[], bool] = lambda: False) -> Relocated:
        """Have everything that is known below `old` known below `new`, where it lies now; QueryError when that cannot be meant."""
        self._check(old, new)
        found = self._survey(old, new)
        if dry_run or not (found.moved or found.kept or found.failures):
            return found
        if found.kept:
            self._grant(old, new)
        records = self._index.mappings.stream(old)
        while paths := [os.fsdecode(raw) for raw, _ in itertools.islice(records, BATCH)]:
            if stopped():
                raise QueryError("unavailable", "lookaliked is stopping; relocate again when it runs, to go on")
            self._move(paths, old, new, keeping=found.kept > 0)
        self._move_failures(old, new)
        self._territory.rescan_all("photos were relocated")
        log.info("%d files that lay below %s lie below %s now", found.moved, old, new)
        return found

    # Whether

    def _check(self, old: str, new: str) -> None:
        if fault := canonical.fault(old) or canonical.fault(new):
            raise QueryError("bad_request", fault)
        if _is_below(old, new) or _is_below(new, old):
            raise QueryError(
                "bad_request", f"{old} and {new} lie inside one another; lookalike sync finds what moved there"
            )
        if self._territory.folder_of(new) is None:
            raise QueryError(
                "not_watched",
                f"{new} lies in none of the watched folders; name it under 'folders' in the configuration first",
            )
        if not self._disk.is_directory(new):
            raise QueryError(
                "not_there", f"{new} is no directory that can be seen; mount it, or name the place of the photos"
            )

    def _survey(self, old: str, new: str) -> Relocated:
        """Return what would become of the files below `old`; QueryError where they are still there and watched."""
        found = Relocated()
        is_watched = self._territory.folder_of(old) is not None
        still_there = 0
        records = self._index.mappings.stream(old)
        while paths := [os.fsdecode(raw) for raw, _ in itertools.islice(records, PAGE)]:
            found.files += len(paths)
            for path, record in zip(paths, self._index.mappings.files(paths), strict=True):
                still_there += (
                    is_watched and record is not None and unchanged(self._disk, path, record.stat) is not None
                )
                self._judge(renamed(path, [(old, new)]), record, found)
        failures = list(self._failures(old))
        found.failures = sum(self._still_fails(renamed(one.path, [(old, new)]), one) for one in failures)
        if still_there:
            raise QueryError(
                "still_there",
                f"{still_there:,} of the photos are still below {old}, which is watched; move them, or take it out of 'folders'",
            )
        if not found.files and not failures:
            raise QueryError("not_in_library", f"no file below {old} is known; lookalike status lists the folders")
        if 0 < found.missing <= self._kept(old, new):
            found.kept, found.missing = found.missing, 0
        return found

    def _judge(self, path: str, record: FileRecord | None, found: Relocated) -> None:
        if record is not None and self._now(path, record) is not None:
            found.moved += 1
        elif self._disk.is_there(path):
            found.changed += 1
        else:
            found.missing += 1

    def _now(self, path: str, record: FileRecord) -> FileStat | None:
        """Return the stat of a file in the new place, where it is as it was recorded in the old one."""
        return unchanged(self._disk, path, record.stat) if self._territory.admits(path) else None

    # What was decided of missing files

    def _decisions(self, old: str, new: str) -> Iterator[tuple[str, int]]:
        """Yield each watched folder that one below `old` has become, and how many of its files may be missing."""
        watched = {folder.path for folder in self._territory.folders}
        for folder, remembered in self._index.mappings.remembered().items():
            place = renamed(folder, [(old, new)])
            if remembered.forgiven and place != folder and place in watched:
                yield place, remembered.forgiven

    def _kept(self, old: str, new: str) -> int:
        return sum(kept for _, kept in self._decisions(old, new))

    def _grant(self, old: str, new: str) -> None:
        for folder, kept in self._decisions(old, new):
            self._territory.keep(folder, kept)

    # Moving

    def _move(self, paths: Sequence[str], old: str, new: str, *, keeping: bool) -> None:
        """Bind the files in the new place, then forget them in the old one: a photo is never without a path."""
        pairs = [(path, renamed(path, [(old, new)])) for path in paths]
        self._index.commit_chosen(lambda: list(self._bindings(pairs, keeping=keeping)))
        self._index.commit_chosen(lambda: list(self._removals(pairs)))
        self._pipeline.look_again([place for _, place in pairs])

    def _bindings(self, pairs: Sequence[tuple[str, str]], *, keeping: bool) -> Iterator[Change]:
        for place, was, now in self._records(pairs):
            if was is not None and now is None:
                there = self._now(place, was)
                if there is None and keeping and not self._disk.is_there(place):
                    there = was.stat
                if there is not None:
                    yield Bind(place, there, was.photo)

    def _removals(self, pairs: Sequence[tuple[str, str]]) -> Iterator[Change]:
        for (path, _), (_, was, now) in zip(pairs, self._records(pairs), strict=True):
            if was is not None and now is not None and was.photo == now.photo:
                yield Remove(path)

    def _records(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, FileRecord | None, FileRecord | None]]:
        """Yield each new place, and what is recorded of the old and of the new one."""
        mappings = self._index.mappings
        before, after = mappings.files([path for path, _ in pairs]), mappings.files([place for _, place in pairs])
        for (_, place), was, now in zip(pairs, before, after, strict=True):
            yield place, was, now

    # What could not be indexed

    def _failures(self, old: str) -> Iterator[Failure]:
        return (one for one in self._index.mappings.failures().values() if _is_below(one.path, old))

    def _move_failures(self, old: str, new: str) -> None:
        failures = list(self._failures(old))
        for start in range(0, len(failures), BATCH):
            some = failures[start : start + BATCH]
            self._index.commit_chosen(lambda some=some: list(self._failing(some, old, new)))  # type: ignore[misc]

    def _failing(self, failures: Sequence[Failure], old: str, new: str) -> Iterator[Change]:
        places = [renamed(one.path, [(old, new)]) for one in failures]
        records, failed = self._index.mappings.files(places), self._index.mappings.failed(places)
        for one, place, record, has_failed in zip(failures, places, records, failed, strict=True):
            state = state_of(self._disk, place)
            if not state or not self._still_fails(place, one) or not self._territory.admits(place):
                continue
            if record is None and not has_failed:
                yield Fail(place, one.reason, state, one.attempts, one.since, one.kind)
            yield Remove(one.path)

    def _still_fails(self, place: str, failure: Failure) -> bool:
        """Whether the file that failed is in the new place, with the size and mtime that it had."""
        size, mtime_ns, _, _ = map(int, failure.signature.split())
        return unchanged(self._disk, place, FileStat(size, mtime_ns, 0, 0)) is not None


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)
