"""The index: both stores, kept in step.

Write order: the id into `intents`, the vectors into Milvus, then the mapping and out of `intents` at once. Removal: out of the
mapping and into `intents` at once, the vectors out of Milvus, then out of `intents`. So whatever is cut short is known by its id.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from daemon.index.mappings import Add, Bind, Exclude, Fail, MappingChange, Remove
from daemon.index.vectors import Row
from daemon.index.versions import Collection, Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from daemon.changes import PhotoInfo
    from daemon.index.mappings import Mappings, Outcome
    from daemon.index.vectors import Vectors
    from daemon.index.versions import Encoders

__all__ = ["Change", "Collection", "Encoded", "Index"]

log = logging.getLogger(__name__)

BACKLOG_PAGE = 1000
NOBODY: Mapping[str, set[int]] = MappingProxyType({})
NO_PHOTO = -1
"""An id that no photo has."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A photo to be added, with a vector [dim] by the version of each model that it still lacks one of."""

    add: Add
    vectors: Mapping[str, NDArray[np.float32]]
    unable: frozenset[str] = frozenset()
    """Versions that give no vector for it."""


Change = Encoded | Bind | Remove | Exclude | Fail


class Index:
    """The photos of one library in both stores. A commit and a recovery exclude each other."""

    def __init__(
        self,
        mappings: Mappings,
        vectors: Vectors,
        collections: Sequence[Collection],
        encoders: Encoders | None = None,
    ) -> None:
        """`collections` are those of the configured models; without `encoders` no earlier version of one can go on."""
        self.mappings = mappings
        self.vectors = vectors
        self._versions = Versions(mappings, vectors, collections, encoders)
        self._writing = threading.Lock()
        self._recovered_under: str | None = None

    @property
    def collections(self) -> tuple[Collection, ...]:
        """Every collection that a photo belongs into: of a model that has changed there are two until the new one is complete."""
        return self._versions.all

    @property
    def current(self) -> tuple[Collection, ...]:
        """The collections of the configured models as they are now, in their order."""
        return self._versions.current

    @property
    def models(self) -> tuple[str, ...]:
        """The configured models, in their order."""
        return tuple(collection.model for collection in self._versions.current)

    def answering(self, model: str) -> Collection:
        """Return the collection that answers for a model now; KeyError when it is not configured."""
        return self._versions.answering(model)

    @property
    def _names(self) -> list[str]:
        return [collection.name for collection in self.collections]

    name = "index"

    def start(self) -> None:
        """Nothing to begin: connections are made when they are needed."""

    def stop(self) -> None:
        """Close the connections."""
        self.vectors.close()
        self.mappings.close()

    def check(self) -> None:
        """Nothing to say: a store that is away is an outage, which ends."""

    # Reading and writing

    def recover(self) -> None:
        """Bring both stores in step after a start or an outage: intents, lost vectors, an emptied mapping."""
        with self._writing:
            stamp = self.mappings.stamp
            self.mappings.establish()
            self._versions.establish()
            self._finish_intents()
            for name in self._names:
                self._compare(name)
            self._recovered_under = stamp

    def replace_complete(
        self, counts: Callable[[str], bool], unable: Mapping[str, set[int]] = NOBODY
    ) -> list[Collection]:
        """Let each changed model answer whose new version has all that the earlier one has; return the earlier ones, now dropped.

        Only photos with a path that `counts` are waited for, and none that the new version is `unable` to encode.
        """
        with self._writing:
            complete = [one for one in self._versions.earlier if not self._falls_short(one, counts, unable)]
            for collection in complete:
                self._versions.replace(collection)
        return complete

    def _falls_short(self, earlier: Collection, counts: Callable[[str], bool], unable: Mapping[str, set[int]]) -> bool:
        current = next(one for one in self.current if one.model == earlier.model)
        hopeless = unable.get(current.version, set())
        missing = [photo for photo in self.mappings.only_in(earlier.name, current.name) if photo not in hopeless]
        return any(counts(path) for path in self.paths_of(missing))

    def retired(self) -> list[Collection]:
        """Return the collections of models that are no longer configured."""
        return self._versions.retired()

    def free(self, model: str) -> list[Collection]:
        """Drop the collections of a model that is no longer configured, and return them."""
        with self._writing:
            return self._versions.free(model)

    def in_order(self) -> bool:
        """Whether both stores answer, the collections are loaded, and the mapping has not been emptied under us.

        Where the lease had to be taken again, somebody else may have written meanwhile.
        """
        return (
            self.mappings.stamp == self._recovered_under
            and all(self.vectors.loaded(name) for name in self._names)
            and not self.mappings.empty
        )

    def collect(self) -> None:
        """Delete vectors whose photo is not known: of no use once every file has been compared with the mapping."""
        with self._writing:
            for name in self._names:
                strays = self.mappings.strays(name)
                if strays:
                    log.info("%s: deleting %d vectors that no photo is known for", name, len(strays))
                    self.vectors.delete(name, strays)
                    self.mappings.set_encoded(name, absent=strays)

    def drop_aside(self, seconds: float) -> None:
        """Delete the vectors of photos that were set aside so long ago; at once where the clock was put forward since."""
        now = time.time()
        with self._writing:
            self.mappings.date_aside(now)
            ids = sorted(self.mappings.aside(now - seconds))
            if ids:
                log.info("deleting the vectors of %d photos that have been excluded for a day", len(ids))
                self._delete(ids)

    @property
    def writing(self) -> threading.Lock:
        """Held whenever the stores are changed: whoever holds it finds both at rest."""
        return self._writing

    def finish_intents(self) -> None:
        """Finish what was cut short, as a recovery does; what has a path is encoded again at its next look."""
        with self._writing:
            self._finish_intents()

    def missing(self, unable: Mapping[str, set[int]] = NOBODY) -> dict[str, list[int]]:
        """Return, by the name of each collection that is not complete, the photos whose vector is not in it.

        Those that a version of a model is `unable` to encode do not count.
        """
        found = {
            one.name: [
                photo for photo in self.mappings.not_encoded(one.name) if photo not in unable.get(one.version, ())
            ]
            for one in self.collections
        }
        return {name: photos for name, photos in found.items() if photos}

    def paths_of(self, photos: Sequence[int]) -> Iterator[str]:
        """Yield every path of each photo: the file at one may be gone."""
        for start in range(0, len(photos), BACKLOG_PAGE):
            for _, paths in self.mappings.photos(photos[start : start + BACKLOG_PAGE]):
                yield from paths

    def recorded(self, paths: Sequence[str]) -> set[str]:
        """Return those of the paths that hold a photo."""
        return {path for path, record in zip(paths, self.mappings.files(paths), strict=True) if record}

    def copies(self, paths: Sequence[str]) -> list[tuple[list[str], list[str]]]:
        """Return, for each photo that some of the paths hold, those paths and every path that holds it."""
        by_photo: dict[int, list[str]] = {}
        for path, record in zip(paths, self.mappings.files(paths), strict=True):
            if record:
                by_photo.setdefault(record.photo, []).append(path)
        states = self.mappings.photos(list(by_photo))
        return [(some, held) for some, (_, held) in zip(by_photo.values(), states, strict=True)]

    def held_by(self, photos: Sequence[int], counts: Callable[[str], bool]) -> set[int]:
        """Return those of the photos that a file holds whose path `counts`."""
        held: set[int] = set()
        for start in range(0, len(photos), BACKLOG_PAGE):
            page = photos[start : start + BACKLOG_PAGE]
            states = zip(page, self.mappings.photos(page), strict=True)
            held.update(photo for photo, (_, paths) in states if any(map(counts, paths)))
        return held

    def encoded(self, ids: Sequence[int]) -> list[bool]:
        """Return of each id whether its vector is in every collection."""
        return [not versions for versions in self.lacking(ids)]

    def lacking(self, ids: Sequence[int]) -> list[frozenset[str]]:
        """Return of each id the versions in whose collections its vector is not."""
        collections = self.collections
        columns = [self.mappings.encoded(one.name, ids) for one in collections]
        return [
            frozenset(one.version for one, is_in in zip(collections, row, strict=True) if not is_in)
            for row in zip(*columns, strict=True)
        ]

    def commit(self, changes: Sequence[Change]) -> list[bool]:
        """Make the changes, at most one for a path; returns of each whether it was made.

        A `Bind` is not made when its photo has gone meanwhile, nor an `Encoded` when a vector has that it does not bring, unless no
        model gives one: its path has to be looked at again.
        """
        with self._writing:
            return self._commit(changes)

    def commit_chosen(self, choose: Callable[[], Sequence[Change]]) -> list[bool]:
        """Make the changes that `choose` returns, which is called while nothing else writes: what it finds is so still."""
        with self._writing:
            return self._commit(choose())

    def keep(self, photos: Sequence[tuple[PhotoInfo, Mapping[str, NDArray[np.float32]]]]) -> dict[str, int]:
        """Write vectors, by the version of their model, where there are none yet; returns how many of each version.

        A photo need not be known: whoever reads a file of it then finds its vectors by its id, until `collect` deletes them.
        """
        written: dict[str, int] = {}
        with self._writing:
            for collection in self.collections:
                given = [(info, one[collection.version]) for info, one in photos if collection.version in one]
                stored = self.mappings.encoded(collection.name, [info.id for info, _ in given])
                rows = {info.id: _row(info, one) for (info, one), is_in in zip(given, stored, strict=True) if not is_in}
                if rows:
                    # Cut short in between, the next recovery finds them: it believes Milvus.
                    self.vectors.upsert(collection.name, list(rows.values()))
                    self.mappings.set_encoded(collection.name, present=list(rows))
                    written[collection.version] = len(rows)
        return written

    def try_writing(self) -> None:
        """Write something that changes nothing into both stores; StoreRefused when they refuse even that."""
        with self._writing:
            self.mappings.establish()
            for name in self._names:
                self.vectors.delete(name, [NO_PHOTO])

    def _commit(self, changes: Sequence[Change]) -> list[bool]:
        lost = self._without_vectors(changes)
        self._write_vectors(
            [
                change
                for i, change in enumerate(changes)
                if isinstance(change, Encoded) and change.vectors and i not in lost
            ]
        )
        mapped: list[MappingChange] = [change.add if isinstance(change, Encoded) else change for change in changes]
        # Additions and bindings first: a photo that moves from a path to another is never without one.
        order = sorted(
            (i for i in range(len(mapped)) if i not in lost),
            key=lambda i: isinstance(mapped[i], Remove | Exclude | Fail),
        )
        outcomes = dict(zip(order, self.mappings.apply([mapped[i] for i in order], self._names), strict=True))
        orphans = _orphans(outcomes.values())
        # Where files swap their names, a photo loses its last path to one change of the batch before another binds it.
        refused = [
            i
            for i in order
            if not outcomes[i].done and isinstance(change := mapped[i], Bind) and change.photo in orphans
        ]
        if refused:
            rescued = self.mappings.apply([mapped[i] for i in refused], self._names, rescue=True)
            outcomes.update(zip(refused, rescued, strict=True))
            orphans |= _orphans(rescued)
        self._take_back([mapped_from for i in order if isinstance(mapped_from := changes[i], Encoded)])
        self._delete_orphans(orphans)
        return [i in outcomes and outcomes[i].done for i in range(len(mapped))]

    def _take_back(self, added: Sequence[Encoded]) -> None:
        """An addition says that every collection has its vector; take that back of those that could not get one."""
        for collection in self.collections:
            absent = [
                change.add.photo.id
                for change in added
                if collection.version in change.unable and collection.version not in change.vectors
            ]
            if absent:
                self.mappings.set_encoded(collection.name, absent=absent)

    def _without_vectors(self, changes: Sequence[Change]) -> set[int]:
        """Return the positions of what found a vector in Milvus, where it has been collected or lost since."""
        added = [(i, change) for i, change in enumerate(changes) if isinstance(change, Encoded)]
        lacking = self.lacking([change.add.photo.id for _, change in added])
        return {
            i
            for (i, change), versions in zip(added, lacking, strict=True)
            if versions - change.vectors.keys() - change.unable
        }

    def _write_vectors(self, added: Sequence[Encoded]) -> None:
        if not added:
            return
        self.mappings.intend([change.add.photo.id for change in added])
        for collection in self.collections:
            # Two copies of one photo may arrive together: Milvus wants an id once in a call.
            rows = {
                change.add.photo.id: _row(change.add.photo, vector)
                for change in added
                if (vector := change.vectors.get(collection.version)) is not None
            }
            if rows:
                self.vectors.upsert(collection.name, list(rows.values()))

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
        """Believe Milvus about which vectors it has.

        Their number would not do: stores that both lost their last second may have lost an upsert and a removal. Those that no photo
        is known for stay until `collect`: where the mapping was emptied, files are hashed again and find theirs.
        """
        stored, recorded = self.vectors.ids(name), self.mappings.all_encoded(name)
        if stored == recorded:
            return
        lost, unrecorded = sorted(recorded - stored), sorted(stored - recorded)
        log.warning("%s: %d vectors are missing and %d are not recorded; mending", name, len(lost), len(unrecorded))
        self.mappings.set_encoded(name, present=unrecorded, absent=lost)


def _orphans(outcomes: Iterable[Outcome]) -> set[int]:
    return {outcome.orphan for outcome in outcomes if outcome.orphan is not None}


def _row(photo: PhotoInfo, vector: NDArray[np.float32]) -> Row:
    return Row(photo.id, vector, _unix_time(photo.taken_at), photo.width, photo.height)


def _unix_time(taken_at: str) -> int:
    if not taken_at:
        return 0
    return int(dt.datetime.fromisoformat(taken_at).replace(tzinfo=dt.UTC).timestamp())
