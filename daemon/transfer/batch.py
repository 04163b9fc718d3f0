"""Some photos of an export, and what becomes of them in an index that is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.index.index import Encoded
from daemon.index.mappings import Add

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from daemon.changes import FileStat, PhotoInfo
    from daemon.index.index import Change, Index
    from daemon.transfer.places import Places

    Vectors = Mapping[str, NDArray[np.float32]]


class Batch:
    """Decides what becomes of some photos while nothing else writes, and counts it."""

    def __init__(
        self,
        index: Index,
        places: Places,
        vectors: Mapping[str, Mapping[int, NDArray[np.float32]]],
        photos: Sequence[tuple[PhotoInfo, Sequence[tuple[str, FileStat]]]],
    ) -> None:
        self._index = index
        self._places = places
        self._vectors = vectors
        self._files = photos
        self._taken: set[str] = set()
        self.bound: list[Encoded] = []
        self.unbound: list[tuple[PhotoInfo, Vectors]] = []
        """Photos of which no file can be told to be there, with the vectors that are not in the index yet."""
        self.photos: list[int] = []
        """Photos of which there are vectors."""
        self.there = self.away = self.known = self.left = 0

    def changes(self) -> list[Change]:
        """Return what is to be committed; called once, by `Index.commit_chosen`."""
        paths = [path for _, files in self._files for path, _ in files]
        mappings = self._index.mappings
        records = dict(zip(paths, mappings.files(paths), strict=True))
        failed = dict(zip(paths, mappings.failed(paths), strict=True))
        everything = {one.version for one in self._index.collections}
        for (info, files), lacking in zip(
            self._files, self._index.lacking([info.id for info, _ in self._files]), strict=True
        ):
            given = {version: one[info.id] for version in lacking if info.id in (one := self._vectors.get(version, {}))}
            if not given and lacking == everything:
                # Nothing would be saved: a walk has it read and encoded.
                self.left += len(files)
                continue
            self.photos.append(info.id)
            unrecorded = [(path, was) for path, was in files if records[path] is None]
            self.known += len(files) - len(unrecorded)
            found = list(self._found([(path, was) for path, was in unrecorded if not failed[path]]))
            self.left += len(unrecorded) - len(found)
            self.bound += [Encoded(Add(path, now, info), given, lacking.difference(given)) for path, now in found]
            if given and not found:
                self.unbound.append((info, given))
        return list(self.bound)

    def _found(self, files: Sequence[tuple[str, FileStat]]) -> Iterator[tuple[str, FileStat]]:
        for path, was in files:
            if path in self._taken:
                continue
            self._taken.add(path)
            there = self._places.there(path, was)
            kept = None if there else self._places.away(path, was)
            self.there += there is not None
            self.away += kept is not None
            if now := there or kept:
                yield path, now
