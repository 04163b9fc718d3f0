"""Writing down what the index knows, while it goes on changing."""

from __future__ import annotations

import array
import datetime as dt
import itertools
import logging
from typing import TYPE_CHECKING

import numpy as np

import daemon
from daemon import canonical
from daemon.errors import StoreError
from daemon.index.mappings import SCHEMA
from daemon.names import printable
from daemon.transfer import frames
from daemon.transfer.frames import MAGIC, FrameWriter
from daemon.transfer.parsing import takes_failure, takes_file, takes_photo
from daemon.transfer.records import (
    ExportedFailure,
    Head,
    ModelHead,
    Totals,
    failures_bytes,
    folders_bytes,
    head_bytes,
    photo_text,
    photos_bytes,
    stopped_bytes,
    totals_bytes,
    vectors_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daemon.changes import FileStat, PhotoInfo
    from daemon.index.index import Collection, Index

log = logging.getLogger(__name__)

PAGE = 256
"""Photos whose vectors are read, and written, at a time."""
FILES = 500
"""Files that stand with a photo at a time: a path may take 24 kB."""
TEXT_BYTES = 2**20


class Exporter:
    """Makes an export of a library that is in use: of each photo, what is true at the moment of its turn."""

    def __init__(self, index: Index, library: str) -> None:
        self._index = index
        self._library = library

    def chunks(self, stopped: Callable[[], str]) -> Iterator[bytes]:
        """Yield the bytes of an export, to its end or until there is a reason why it is `stopped`.

        Raises StoreUnavailable before the first; after that, the export says why it ends early.
        """
        writer, totals = FrameWriter(), Totals()
        collections = self._index.collections
        head = self._head(collections)
        photos = self._photos()
        yield MAGIC + writer.frame(frames.HEAD, head_bytes(head))
        try:
            for kind, payload in self._body(collections, photos, totals):
                if reason := stopped():
                    yield writer.frame(frames.STOPPED, stopped_bytes(reason))
                    return
                yield writer.frame(kind, payload)
        except StoreError as error:
            log.warning("an export ends early: %s", error)
            yield writer.frame(frames.STOPPED, stopped_bytes(str(error)))
            return
        yield writer.frame(frames.DONE, totals_bytes(totals))

    def _head(self, collections: Sequence[Collection]) -> Head:
        counts = self._index.mappings.counts()
        return Head(
            lookalike=daemon.__version__,
            library=self._library,
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            photos=counts.photos,
            files=counts.files,
            models=tuple(ModelHead(one.model, one.version, one.dim, one.metric) for one in collections),
            layout=SCHEMA.decode(),
        )

    def _photos(self) -> Sequence[int]:
        """Return the ids of all photos, eight bytes each: there may be millions."""
        return array.array("q", sorted(self._index.mappings.all_photos()))

    def _body(
        self, collections: Sequence[Collection], photos: Sequence[int], totals: Totals
    ) -> Iterator[tuple[bytes, bytes]]:
        remembered = self._index.mappings.remembered()
        yield (
            frames.FOLDERS,
            folders_bytes({path: one for path, one in remembered.items() if not canonical.fault(path)}),
        )
        for start in range(0, len(photos), PAGE):
            yield from self._page(collections, photos[start : start + PAGE], totals)
        yield from self._failures(totals)

    def _page(
        self, collections: Sequence[Collection], ids: Sequence[int], totals: Totals
    ) -> Iterator[tuple[bytes, bytes]]:
        held = [(info, paths) for info, paths in self._index.mappings.photos(ids) if info is not None and paths]
        known = [(info, paths) for info, paths in held if takes_photo(info) or _leave_out(paths[0])]
        wanted = [info.id for info, _ in known]
        for place, collection in enumerate(collections):
            rows = self._index.vectors.read(collection.name, wanted)
            if rows:
                totals.vectors[collection.version] = totals.vectors.get(collection.version, 0) + len(rows)
                yield frames.VECTORS, vectors_bytes(place, list(rows), np.stack(list(rows.values())))
        totals.photos += len(known)
        for texts in _bounded(text for info, paths in known for text in self._texts(info, paths, totals)):
            yield frames.PHOTOS, photos_bytes(texts)

    def _texts(self, info: PhotoInfo, paths: Sequence[str], totals: Totals) -> Iterator[str]:
        for start in range(0, len(paths), FILES):
            files = list(self._files(info.id, paths[start : start + FILES]))
            totals.files += len(files)
            yield photo_text(info, files)

    def _files(self, photo: int, paths: Sequence[str]) -> Iterator[tuple[str, FileStat]]:
        for path, record in zip(paths, self._index.mappings.files(paths), strict=True):
            # Since it was listed it may have become another photo's.
            if record is not None and record.photo == photo and (takes_file(path, record.stat) or _leave_out(path)):
                yield path, record.stat

    def _failures(self, totals: Totals) -> Iterator[tuple[bytes, bytes]]:
        found = iter(self._index.mappings.failures().values())
        while some := list(itertools.islice(found, FILES)):
            failures = [
                ExportedFailure(one.path, one.reason, one.attempts, one.since, one.signature, one.kind) for one in some
            ]
            taken = [one for one in failures if takes_failure(one) or _leave_out(one.path)]
            totals.failures += len(taken)
            yield frames.FAILURES, failures_bytes(taken)


def _leave_out(path: str) -> bool:
    """Say that an entry is left out of an export, because an import would refuse it and all that follows it; return False."""
    log.warning("%s: this entry is left out of the export, for no import would take it", printable(path))
    return False


def _bounded(texts: Iterator[str]) -> Iterator[list[str]]:
    """Yield the texts in lists of about TEXT_BYTES."""
    gathered: list[str] = []
    length = 0
    for text in texts:
        if gathered and length + len(text) > TEXT_BYTES:
            yield gathered
            gathered, length = [], 0
        gathered.append(text)
        length += len(text)
    if gathered:
        yield gathered
