"""The index: both stores, kept in step.

Write order: the id into `intents`, the vectors into Milvus, then the mapping and out of `intents` at once. Removal: out of the
mapping and into `intents` at once, the vectors out of Milvus, then out of `intents`. So whatever is cut short is known by its id.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.index.mappings import Add, Bind, Fail, MappingChange, Remove
from daemon.index.vectors import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from daemon.index.mappings import Mappings
    from daemon.index.vectors import Vectors

log = logging.getLogger(__name__)

BACKLOG_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the vectors of one model live."""

    model: str
    name: str
    alias: str
    dim: int
    metric: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """A photo to be added, with one vector [dim] for each collection, in the order of the index's collections."""

    add: Add
    vectors: tuple[NDArray[np.float32], ...]


Change = Encoded | Bind | Remove | Fail


class Index:
    """The photos of one library in both stores. A commit and a recovery exclude each other."""

    def __init__(self, mappings: Mappings, vectors: Vectors, collections: Sequence[Collection]) -> None:
        self.mappings = mappings
        self.vectors = vectors
        self.collections = tuple(collections)
        self._writing = threading.Lock()

    @property
    def _names(self) -> list[str]:
        return [collection.name for collection in self.collections]

    def close(self) -> None:
        self.vectors.close()
        self.mappings.close()

    def recover(self) -> None:
        """Bring both stores in step after a start or an outage: intents, lost or ghost vectors, an emptied mapping."""
        with self._writing:
            self.mappings.establish()
            for collection in self.collections:
                self.vectors.ensure(collection.name, collection.alias, dim=collection.dim, metric=collection.metric)
            self._finish_intents()
            for name in self._names:
                self._compare(name)

    def in_order(self) -> bool:
        """Whether both stores answer, and the mapping has not been emptied under us."""
        self.vectors.ping()
        return not self.mappings.empty

    def collect(self) -> None:
        """Delete vectors whose photo is not known: of no use once every file has been compared with the mapping."""
        with self._writing:
            for name in self._names:
                strays = self.mappings.strays(name)
                if strays:
                    log.info("%s: deleting %d vectors that no photo is known for", name, len(strays))
                    self.vectors.delete(name, strays)
                    self.mappings.set_encoded(name, absent=strays)

    def backlog(self) -> Iterator[str]:
        """Yield one path of every photo that lacks a vector in some collection."""
        for name in self._names:
            missing = self.mappings.not_encoded(name)
            for start in range(0, len(missing), BACKLOG_PAGE):
                for _, paths in self.mappings.photos(missing[start : start + BACKLOG_PAGE]):
                    if paths:
                        yield paths[0]

    def encoded(self, ids: Sequence[int]) -> list[bool]:
        """Return of each id whether its vector is in every collection."""
        columns = [self.mappings.encoded(name, ids) for name in self._names]
        return [all(row) for row in zip(*columns, strict=True)]

    def commit(self, changes: Sequence[Change]) -> list[bool]:
        """Make the changes, at most one for a path; returns of each whether it was made.

        A `Bind` is not made when its photo has gone meanwhile: its path has to be looked at again.
        """
        with self._writing:
            return self._commit(changes)

    def _commit(self, changes: Sequence[Change]) -> list[bool]:
        # What has no vectors to write found them in Milvus already.
        self._write_vectors([change for change in changes if isinstance(change, Encoded) and change.vectors])
        mapped: list[MappingChange] = [change.add if isinstance(change, Encoded) else change for change in changes]
        # Additions and bindings first: a photo that moves from a path to another is never without one.
        order = sorted(range(len(mapped)), key=lambda i: isinstance(mapped[i], Remove | Fail))
        outcomes = dict(zip(order, self.mappings.apply([mapped[i] for i in order], self._names), strict=True))
        self._delete_orphans({outcome.orphan for outcome in outcomes.values() if outcome.orphan is not None})
        return [outcomes[i].done for i in range(len(mapped))]

    def _write_vectors(self, added: Sequence[Encoded]) -> None:
        if not added:
            return
        self.mappings.intend([change.add.photo.id for change in added])
        for column, name in enumerate(self._names):
            # Two copies of one photo may arrive together: Milvus wants an id once in a call.
            rows = {change.add.photo.id: _row(change, column) for change in added}
            self.vectors.upsert(name, list(rows.values()))

    def _delete_orphans(self, orphans: set[int]) -> None:
        """Remove the photos that no path holds any more; those that a later change of the batch took up stay."""
        if not orphans:
            return
        ids = sorted(orphans)
        states = self.mappings.photos(ids)
        kept = [photo for photo, (_, paths) in zip(ids, states, strict=True) if paths]
        gone = [photo for photo, (_, paths) in zip(ids, states, strict=True) if not paths]
        self.mappings.settle_intents(kept)
        self._delete(gone)

    def _delete(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        for name in self._names:
            self.vectors.delete(name, ids)
        self.mappings.forget(ids, self._names)

    def _finish_intents(self) -> None:
        """Finish what a crash cut short: photos without a path go, those with one are encoded again."""
        ids = sorted(self.mappings.intents())
        if not ids:
            return
        log.info("finishing %d changes that were cut short", len(ids))
        states = self.mappings.photos(ids)
        self._delete([photo for photo, (_, paths) in zip(ids, states, strict=True) if not paths])
        kept = [photo for photo, (_, paths) in zip(ids, states, strict=True) if paths]
        for name in self._names:
            self.mappings.set_encoded(name, absent=kept)
        self.mappings.settle_intents(kept)

    def _compare(self, name: str) -> None:
        """Where the counts differ, believe Milvus about which vectors it has, and drop the ones that no photo is known for."""
        if self.vectors.count(name) == self.mappings.count_encoded(name):
            return
        stored, recorded = self.vectors.ids(name), self.mappings.all_encoded(name)
        lost, unrecorded = recorded - stored, sorted(stored - recorded)
        log.warning("%s: %d vectors are missing and %d are not recorded; mending", name, len(lost), len(unrecorded))
        self.mappings.set_encoded(name, absent=sorted(lost))
        # When the mapping was emptied, these vectors are worth keeping: files are hashed again and find theirs.
        known = self.mappings.known(unrecorded)
        rebuilding = self.mappings.counts().photos == 0
        adopted = [photo for photo, is_known in zip(unrecorded, known, strict=True) if is_known or rebuilding]
        ghosts = [photo for photo, is_known in zip(unrecorded, known, strict=True) if not (is_known or rebuilding)]
        self.mappings.set_encoded(name, present=adopted)
        self.vectors.delete(name, ghosts)


def _row(change: Encoded, column: int) -> Row:
    photo = change.add.photo
    return Row(photo.id, change.vectors[column], _unix_time(photo.taken_at), photo.width, photo.height)


def _unix_time(taken_at: str) -> int:
    if not taken_at:
        return 0
    return int(dt.datetime.fromisoformat(taken_at).replace(tzinfo=dt.UTC).timestamp())
