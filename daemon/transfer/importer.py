"""Taking what another index knew into this one, which is in use: nothing that this one knows is touched."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from daemon.errors import ExportError
from daemon.index.mappings import Fail
from daemon.transfer import frames
from daemon.transfer.batch import Batch
from daemon.transfer.frames import FrameReader
from daemon.transfer.parsing import (
    read_failures,
    read_folders,
    read_head,
    read_photos,
    read_stopped,
    read_totals,
    read_vectors,
)
from daemon.transfer.places import Places, renamed, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from daemon.index.index import Change, Index
    from daemon.transfer.frames import Frame
    from daemon.transfer.places import Territory
    from daemon.transfer.records import ExportedFailure, ExportedPhoto, ModelHead
    from daemon.watch.filters import Filters

log = logging.getLogger(__name__)

BATCH = 256
"""Photos that are written at a time: so long does the commit of what has just happened wait."""
HELD_BYTES = 512 * 2**20
"""Vectors that may come before the photos they are of."""


class Pipeline(Protocol):
    """What an import asks of the indexer."""

    def importing(self) -> AbstractContextManager[None]: ...
    def look_again(self, paths: Sequence[str]) -> None: ...


@dataclass(slots=True)
class Imported:
    """What became of an export."""

    photos: int = 0
    """Photos that have vectors of a model that is configured."""
    bound: int = 0
    """Files that are as they were exported, and were not read."""
    kept: int = 0
    """Files that are not there now, and are known for when they are back."""
    known: int = 0
    """Files that the index had already."""
    left: int = 0
    """Files that a walk has to find: of other size or mtime, in another place, or gone."""
    vectors: dict[str, int] = field(default_factory=dict)
    """Vectors that were written, by the name of their model."""
    notes: list[str] = field(default_factory=list)
    """A sentence for each thing that was not used."""


class Importer:
    """Imports one export at a time, on the caller's thread."""

    def __init__(self, index: Index, territory: Territory, filters: Filters, pipeline: Pipeline) -> None:
        self._index = index
        self._territory = territory
        self._filters = filters
        self._pipeline = pipeline

    def run(self, chunks: Iterator[bytes], moved: Sequence[tuple[str, str]] = ()) -> Imported:
        """Take an export from its bytes; what lay below the first of each pair of `moved` is said to lie below the second now.

        Each frame is checked before it is used. ExportError where the rest cannot be: what came before it has been taken, and does
        no harm. Raises StoreUnavailable likewise.
        """
        with self._pipeline.importing():
            places = Places(self._territory, self._filters)
            one = _Import(self._index, self._territory, places, self._pipeline, moved)
            try:
                for frame in FrameReader(chunks):
                    one.take(frame)
            except ExportError as error:
                taken = f"; {one.report.photos:,} of its photos were taken before that" if one.report.photos else ""
                raise ExportError(f"{error}{taken}") from error
            finally:
                one.end()
            # The last rows of each collection: nobody else writes them out.
            self._index.vectors.flush()
        log.info("imported %d photos; %d files are as they were exported", one.report.photos, one.report.bound)
        return one.report


class _Import:
    """One import, a frame at a time."""

    def __init__(
        self,
        index: Index,
        territory: Territory,
        places: Places,
        pipeline: Pipeline,
        moved: Sequence[tuple[str, str]],
    ) -> None:
        self._index = index
        self._territory = territory
        self._places = places
        self._pipeline = pipeline
        self._moved = moved
        self._models: tuple[ModelHead, ...] = ()
        self._vectors: dict[str, dict[int, NDArray[np.float32]]] = {}
        self._held_bytes = 0
        self._are_used = False
        self._last = -1
        self._clashes = 0
        self.report = Imported()

    def take(self, frame: Frame) -> None:
        match frame.kind:
            case frames.HEAD:
                self._begin(frame.payload)
            case frames.FOLDERS:
                decided = read_folders(frame.payload)
                self._places.decided = {renamed(path, self._moved): one.kept for path, one in decided.items()}
            case frames.VECTORS:
                self._hold(frame.payload)
            case frames.PHOTOS:
                photos, self._are_used = read_photos(frame.payload), True
                for start in range(0, len(photos), BATCH):
                    self._take_photos(photos[start : start + BATCH])
            case frames.FAILURES:
                failures = read_failures(frame.payload)
                self._index.commit_chosen(lambda: list(self._still_failing(failures)))
            case frames.DONE:
                read_totals(frame.payload)
            case frames.STOPPED:
                raise ExportError(f"it is not complete, for while it was made: {read_stopped(frame.payload)}")

    def end(self) -> None:
        """Say what could not be taken, and let files that are not there be missing for as long as was decided of them."""
        if self._clashes:
            self.report.notes.append(f"{self._clashes:,} photos have the id of another one, and are left out")
        for folder, files in self._places.granted.items():
            self._territory.keep(folder, files)

    def _begin(self, payload: bytes) -> None:
        head = read_head(payload)
        self._models = head.models
        wanted = {one.version: one for one in self._index.collections}
        for one in head.models:
            collection = wanted.get(one.version)
            if collection is None:
                self.report.notes.append(_unused(one, self._index.models))
            elif (collection.dim, collection.metric) != (one.dim, one.metric):
                raise ExportError(f"its vectors of {one.model} are not what that version of the model gives")
        missing = {
            one.model for one in self._index.current if one.version not in {model.version for model in head.models}
        }
        exported = {one.model for one in head.models}
        self.report.notes += [
            f"{model}: it has no vectors of this model; they will be encoded" for model in sorted(missing - exported)
        ]

    def _hold(self, payload: bytes) -> None:
        """Keep vectors until the photos come that they are of."""
        if self._are_used:
            self._vectors, self._held_bytes, self._are_used = {}, 0, False
        model, ids, rows = read_vectors(payload, self._models)
        if model.version not in {one.version for one in self._index.collections}:
            return
        self._held_bytes += len(payload)
        if model.version in self._vectors or self._held_bytes > HELD_BYTES:
            raise ExportError("its vectors do not stand with their photos")
        self._vectors[model.version] = dict(zip(ids, rows, strict=True))

    def _take_photos(self, photos: Sequence[ExportedPhoto]) -> None:
        known = self._index.mappings.infos([one.info.id for one in photos])
        taken = []
        for photo, info in zip(photos, known, strict=True):
            if info is not None and info.digest != photo.info.digest:
                self._clashes += 1
            else:
                # What this index knows of it stands.
                taken.append((info or photo.info, [(renamed(path, self._moved), was) for path, was in photo.files]))
        batch = Batch(self._index, self._places, self._vectors, taken)
        self._index.commit_chosen(batch.changes)
        written = self._index.keep(batch.unbound)
        self._pipeline.look_again([change.add.path for change in batch.bound])
        self._count(batch, written)

    def _count(self, batch: Batch, kept: Mapping[str, int]) -> None:
        report = self.report
        for photo in batch.photos:
            # One with very many files comes in several parts, one after another.
            report.photos += photo != self._last
            self._last = photo
        report.bound += batch.there
        report.kept += batch.away
        report.known += batch.known
        report.left += batch.left
        names = {one.version: one.model for one in self._index.collections}
        for version, name in names.items():
            new = {one.add.photo.id for one in batch.bound if version in one.vectors}
            if count := len(new) + kept.get(version, 0):
                report.vectors[name] = report.vectors.get(name, 0) + count

    def _still_failing(self, failures: Sequence[ExportedFailure]) -> Iterator[Change]:
        """Yield what is known to fail of files that are as they were then, on this very disk: the others are tried again."""
        paths = [renamed(one.path, self._moved) for one in failures]
        records, failed = self._index.mappings.files(paths), self._index.mappings.failed(paths)
        for path, one, record, has_failed in zip(paths, failures, records, failed, strict=True):
            if (
                record is None
                and not has_failed
                and self._territory.admits(path)
                and self._state_of(path) == one.signature
            ):
                yield Fail(path, one.reason, one.signature, one.attempts, one.since, one.kind)

    def _state_of(self, path: str) -> str:
        return state_of(self._territory.disk, path)


def _unused(one: ModelHead, models: Sequence[str]) -> str:
    if one.model in models:
        return f"{one.model}: its vectors are of another version, and are not used; they will be encoded again"
    return f"{one.model}: it is not configured here, so its vectors are not used"
