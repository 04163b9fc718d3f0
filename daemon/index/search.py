"""Similar photos: the nearest vectors, with the paths that hold them now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from daemon.changes import FileStat, PhotoInfo
    from daemon.index.index import Collection, Index


@dataclass(frozen=True, slots=True)
class Result:
    """One photo of an answer, with every path that holds it."""

    id: int
    score: float
    paths: list[str]
    photo: PhotoInfo


class Search:
    """Answers from both stores; `is_shown` says which paths may be: the index may hold files that are not watched, or excluded by now."""

    def __init__(self, index: Index, is_shown: Callable[[str], bool]) -> None:
        self._index = index
        self._is_shown = is_shown

    def nearest(
        self, collection: Collection, vector: NDArray[np.float32], limit: int, *, most: int, asked: int | None = None
    ) -> list[Result]:
        """Return up to `limit` photos nearest to `vector` [dim], best first.

        A vector without a path is never shown; `most` is how many may be fetched to make up for those. The photo `asked` about
        comes first: others may have the same vector, as the same picture in a file with other metadata has.
        """
        wanted = limit
        while True:
            hits = self._index.vectors.search(collection.name, vector, wanted)
            photos = self._index.mappings.photos([hit.id for hit in hits])
            results = [
                Result(hit.id, hit.score, shown, photo)
                for hit, (photo, paths) in zip(hits, photos, strict=True)
                if photo is not None and (shown := [path for path in paths if self._is_shown(path)])
            ]
            if len(results) >= limit or len(hits) < wanted or wanted >= most:
                return self._with_first(results, asked)[:limit]
            wanted = min(most, 4 * wanted)

    def _with_first(self, results: list[Result], asked: int | None) -> list[Result]:
        if asked is None or not results:
            return results
        own = next((result for result in results if result.id == asked), None) or self._own(asked, results[0].score)
        return [own, *(result for result in results if result.id != asked)] if own else results

    def _own(self, asked: int, score: float) -> Result | None:
        """Return the photo asked about where equal ones have taken all places before it."""
        photo, paths = self._index.mappings.photos([asked])[0]
        shown = [path for path in paths if self._is_shown(path)]
        return Result(asked, score, shown, photo) if photo is not None and shown else None

    def is_known(self, photo: int) -> bool:
        """Whether a photo is in the library, with a path that may be shown."""
        info, paths = self._index.mappings.photos([photo])[0]
        return info is not None and any(map(self._is_shown, paths))

    def photo_at(self, path: str, size: int | None, mtime_ns: int | None) -> int | None:
        """Return the id of the photo at a path of the library; None when it is not known, or has changed since."""
        record = self._index.mappings.files([path])[0]
        if record is None or not self._is_shown(path) or not _agrees(record.stat, size, mtime_ns):
            return None
        return record.photo


def _agrees(stat: FileStat, size: int | None, mtime_ns: int | None) -> bool:
    return size in (None, stat.size) and mtime_ns in (None, stat.mtime_ns)
