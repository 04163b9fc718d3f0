"""A sample of the photos, read from the disk and asked for by their own bytes."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import blake3

from daemon import blame
from daemon.changes import FileStat
from daemon.index.audit import Audit
from daemon.reading import open_itself
from daemon.verify.report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from daemon.beneath import Disk
    from daemon.changes import PhotoInfo
    from daemon.encode.images import Decode
    from daemon.index.index import Collection, Index
    from daemon.index.search import Search
    from daemon.verify.report import Subject

SAMPLE = 200
SAMPLE_SECONDS = 60.0
CONTENT = "content"
NEAREST = 20
"""How many are asked for: as many may be the same picture, with the same vector."""
TIE = 1e-4
"""Scores that differ by less are equal; those of one vector, encoded twice, differ by some 1e-6."""


class Encoder(Protocol):
    """What asking needs of a graph, which may serve several models."""

    @property
    def min_side(self) -> int: ...
    def preprocess(self, image: Any) -> NDArray[Any]: ...
    def encode_query(self, query: NDArray[Any]) -> Mapping[str, NDArray[np.float32]]: ...


class Models(Protocol):
    """The models that encode now."""

    @property
    def by_version(self) -> Mapping[str, Encoder]: ...


class OwnBytes:
    """Asks every model for a photo by its own bytes, encoded anew: what is stored does not vouch for itself."""

    def __init__(
        self,
        index: Index,
        search: Search,
        models: Models,
        *,
        decode: Decode,
        max_limit: int,
        is_shown: Callable[[str], bool],
    ) -> None:
        self._index = index
        self._search = search
        self._models = models
        self._decode = decode
        self._max_limit = max(max_limit, NEAREST)
        self.is_shown = is_shown

    def misses(self, photo: int, data: bytes, paths: Sequence[str]) -> list[str]:
        """Return the models that do not answer `data` with this photo first, under exactly `paths`."""
        # At the scale at which it was decoded to be indexed.
        min_side = max(encoder.min_side for encoder in tuple(self._models.by_version.values()))
        try:
            image = self._decode(data, paths[0], min_side=min_side).image
        # As in the indexer, an exception is about this photo, unless the machine is at fault.
        except BaseException as error:
            if blame.is_the_machines(error):
                raise
            return list(self._index.models)
        return [
            collection.model
            for collection in self._index.collections
            if not self._answers(collection, photo, image, paths)
        ]

    def _answers(self, collection: Collection, photo: int, image: Any, paths: Sequence[str]) -> bool:
        encoder = self._models.by_version.get(collection.version)
        if encoder is None:
            # Another version answers since.
            return True
        try:
            vector = encoder.encode_query(encoder.preprocess(image))[collection.version]
        except BaseException as error:
            if blame.is_the_machines(error):
                raise
            return False
        results = self._search.nearest(collection, vector, NEAREST, most=self._max_limit)
        equal = [result for result in results if abs(result.score - results[0].score) <= TIE]
        own = next((result for result in equal if result.id == photo), None)
        if own is not None:
            return own.paths == list(paths)
        # Where all places are taken by equal vectors, its own is as good; where it has none, that is another finding.
        crowded = len(equal) == NEAREST
        stored = self._index.vectors.get(collection.name, photo)
        return stored is None or (crowded and float(abs(stored - vector).max()) <= TIE)


class Contents:
    """Finds content_changed and not_found, in a sample of at most so many photos and seconds."""

    def __init__(self, index: Index, own_bytes: OwnBytes, disk: Disk, stopped: Callable[[], bool]) -> None:
        self._index = index
        self._disk = disk
        self._audit = Audit(index.mappings)
        self._own_bytes = own_bytes
        self._stopped = stopped
        self.sampled = 0

    def suspects(self) -> Iterator[Subject]:
        photos = sorted(self._index.mappings.all_photos())
        deadline = time.monotonic() + SAMPLE_SECONDS
        # At random, so that one verification after another comes to all of them.
        for photo in random.sample(photos, len(photos)):
            if self.sampled >= SAMPLE or time.monotonic() >= deadline or self._stopped():
                return
            read = self._read(photo)
            if read is not None:
                self.sampled += 1
                if self._finding(photo, *read):
                    yield CONTENT, photo

    def look(self, subjects: Sequence[Subject]) -> dict[Subject, Finding]:
        found: dict[Subject, Finding] = {}
        for subject in subjects:
            read = self._read(int(subject[1]))
            if read is not None and (finding := self._finding(int(subject[1]), *read)):
                found[subject] = finding
        return found

    def mend(self, findings: Mapping[Subject, Finding]) -> list[str]:
        """Have changed files read again, and photos that are not found encoded again."""
        changed = [path for one in findings.values() if one.kind == "content_changed" for path in one.paths]
        self._audit.distrust([path for path in changed if self._disk.is_there(path)])
        lost = [photo for one in findings.values() if one.kind == "not_found" for photo in one.photos]
        with self._index.writing:
            for collection in self._index.collections:
                self._index.mappings.set_encoded(collection.name, absent=lost)
        return [path for finding in findings.values() for path in finding.paths]

    def _read(self, photo: int) -> tuple[PhotoInfo, list[str], str, bytes] | None:
        """Return the photo, the paths that may be shown, and the first of them that is as recorded, with its bytes."""
        info, paths = self._index.mappings.photos([photo])[0]
        shown = [path for path in paths if self._own_bytes.is_shown(path)]
        if info is None:
            return None
        for path, record in zip(shown, self._index.mappings.files(shown), strict=True):
            if record is not None and (data := self._bytes_of(path, record.stat)) is not None:
                return info, shown, path, data
        return None

    def _finding(self, photo: int, info: PhotoInfo, paths: list[str], path: str, data: bytes) -> Finding | None:
        digest = blake3.blake3(data).hexdigest()
        if digest != info.digest:
            return Finding("content_changed", path, digest, tuple(paths), (photo,))
        if models := self._own_bytes.misses(photo, data, paths):
            example = f"{', '.join(models)}: {path}"
            return Finding("not_found", example, (tuple(models), tuple(paths)), tuple(paths), (photo,))
        return None

    def _bytes_of(self, path: str, stat: FileStat) -> bytes | None:
        """Return a file's bytes, or None when it is not, or does not stay, as `stat` says."""
        try:
            with open(path, "rb", buffering=0, opener=partial(open_itself, self._disk)) as file:
                data: bytes | None = None
                if FileStat.of(os.fstat(file.fileno())).unchanged(stat):
                    data = file.read()
                return data if FileStat.of(os.fstat(file.fileno())).unchanged(stat) else None
        except OSError:
            return None
