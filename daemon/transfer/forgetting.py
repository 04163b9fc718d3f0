"""Dropping a folder that is not watched from the index."""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from daemon import canonical
from daemon.errors import QueryError
from daemon.index.mappings import Remove
from daemon.index.tally import is_in, touch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from daemon.index.index import Index

log = logging.getLogger(__name__)

BATCH = 256
"""Files that are forgotten at a time: so long does the commit of what has just happened wait."""


class Folder(Protocol):
    """A watched folder."""

    @property
    def path(self) -> str: ...


class Territory(Protocol):
    """The watched folders."""

    @property
    def folders(self) -> Sequence[Folder]: ...


@dataclass(slots=True)
class Forgotten:
    """How much the index knew at or below a path."""

    files: int = 0
    photos: int = 0
    """Photos that no other file holds: their vectors go, too."""
    failures: int = 0


class Forgetting:
    """Forgets one folder at a time, on the caller's thread, the way of every removal: cut short, the next one goes on with it."""

    def __init__(self, index: Index, territory: Territory) -> None:
        self._index = index
        self._territory = territory

    def run(self, path: str, *, dry_run: bool, stopped: Callable[[], str] = str) -> Forgotten:
        """Drop the files, photos and failures at or below `path`, and what was decided of it; with `dry_run`, count them.

        QueryError if `path` overlaps with a watched folder, if the index knows nothing about it, or if `stopped` returns a
        reason to end. Raises StoreUnavailable.
        """
        path = path.rstrip("/") or "/"
        if fault := canonical.fault(path):
            raise QueryError("bad_request", fault)
        self._refuse_watched(path)
        mappings, found, photos = self._index.mappings, Forgotten(), set[int]()
        failed = [one for one in mappings.failed_paths() if is_in(one, path)]
        folders = [one for one in mappings.remembered() if is_in(one, path)]
        for batch in self._batches(path):
            if reason := stopped():
                raise QueryError("unavailable", f"{reason}; forget the folder again when it runs")
            found.files += len(batch)
            photos |= self._held_by_nothing_else(batch, path)
            if not dry_run:
                self._drop(batch)
        found.photos, found.failures = len(photos), len(failed)
        if not (found.files or failed or folders):
            raise QueryError(
                "not_in_library", f"the index knows nothing about {path}; lookalike status lists what it keeps"
            )
        if not dry_run:
            for some in _batched(failed):
                self._drop(some)
            mappings.forget_folders(folders)
            log.info("forgot %d files in %s", found.files, path, extra={"path": path})
        return found

    def _refuse_watched(self, path: str) -> None:
        for folder in (one.path for one in self._territory.folders if touch(one.path, path)):
            if path == folder:
                raise QueryError(
                    "still_watched",
                    f"{path} is watched; take it out of 'folders', run lookalike reload, and forget it then",
                )
            if is_in(path, folder):
                raise QueryError(
                    "still_watched",
                    f"{path} lies in {folder}, which is watched; watch.ignore or a .nomedia excludes it",
                )
            raise QueryError(
                "still_watched", f"{path} contains {folder}, which is watched; name the folders beside it instead"
            )

    def _batches(self, path: str) -> Iterator[list[str]]:
        if self._index.mappings.files([path])[0] is not None:
            yield [path]
        yield from _batched(os.fsdecode(raw) for raw, _ in self._index.mappings.stream(path))

    def _held_by_nothing_else(self, paths: Sequence[str], top: str) -> set[int]:
        """Return the photos of these files that no file outside `top` holds."""
        records = self._index.mappings.files(paths)
        photos = sorted({record.photo for record in records if record is not None})
        states = zip(photos, self._index.mappings.photos(photos), strict=True)
        return {photo for photo, (_, held) in states if all(is_in(path, top) for path in held)}

    def _drop(self, paths: Sequence[str]) -> None:
        self._index.commit([Remove(path) for path in paths])


def _batched(paths: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(paths)
    while batch := list(itertools.islice(remaining, BATCH)):
        yield batch
