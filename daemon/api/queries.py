"""Questions: from a path, an id or an image to the photos that are like it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import blake3

from daemon.api import schema
from daemon.changes import photo_id
from daemon.encode.images import decode
from daemon.errors import PhotoError, QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from daemon.index.index import Collection, Index
    from daemon.index.search import Search

MAX_ID = 2**63 - 1


class QueryEncoder(Protocol):
    """What a query needs of a model."""

    @property
    def provider(self) -> str: ...
    @property
    def min_side(self) -> int: ...
    def preprocess(self, image: Image.Image) -> NDArray[np.float32]: ...
    def encode_query(self, query: NDArray[np.float32]) -> NDArray[np.float32]: ...
    @property
    def encoded(self) -> int: ...


class Queries:
    """Answers one question at a time for any number of threads. Raises QueryError, or StoreUnavailable."""

    def __init__(
        self,
        index: Index,
        search: Search,
        encoders: Mapping[str, QueryEncoder],
        is_unverified: Callable[[str], bool],
        *,
        max_limit: int,
        max_pixels: int,
    ) -> None:
        self._index = index
        self._search = search
        self._encoders = encoders
        self._is_unverified = is_unverified
        self._max_limit = max_limit
        self._max_pixels = max_pixels
        self._collections = {collection.model: collection for collection in index.collections}

    def by_path(
        self, path: str, size: int | None, mtime_ns: int | None, *, limit: int, model: str
    ) -> schema.SearchAnswer:
        """Answer for a file of the library, by its stored vector; `size` and `mtime_ns` say which state of it is meant."""
        started = self._begin(limit)
        photo = self._search.photo_at(path, size, mtime_ns)
        if photo is None:
            raise QueryError("not_in_library", f"{path} is not in the library, or has changed and is not indexed yet")
        return self._by_stored("path", photo, limit, model, started)

    def by_id(self, photo: str, *, limit: int, model: str) -> schema.SearchAnswer:
        """Answer for a photo of the library by its id, a decimal number."""
        if not photo.isascii() or not photo.isdigit() or len(photo) > len(str(MAX_ID)) or int(photo) > MAX_ID:
            raise QueryError("bad_request", f"{photo[:40]!r} is no photo's id; ids are the numbers that results carry")
        return self._by_stored("id", int(photo), limit, model, self._begin(limit))

    def by_bytes(self, data: bytes, *, limit: int, model: str) -> schema.SearchAnswer:
        """Answer for any image; one that is in the library is found by its content, and not decoded."""
        started = self._begin(limit)
        collection = self._collection(model)
        photo = photo_id(blake3.blake3(data).hexdigest())
        known = self._index.mappings.known([photo])[0]
        vector = self._index.vectors.get(collection.name, photo) if known else None
        if vector is None:
            vector = self._encode(data, collection)
        return self._answer(
            schema.Query(by="bytes", id=str(photo) if known else None), collection, vector, limit, started
        )

    def _begin(self, limit: int) -> float:
        """Return when the question came; QueryError for a limit out of bounds, before any work is done."""
        if not 1 <= limit <= self._max_limit:
            raise QueryError("bad_request", f"the limit must be between 1 and {self._max_limit}")
        return time.perf_counter()

    def _by_stored(self, by: str, photo: int, limit: int, model: str, started: float) -> schema.SearchAnswer:
        collection = self._collection(model)
        vector = self._index.vectors.get(collection.name, photo)
        if vector is None:
            raise QueryError("not_in_library", f"no photo with the id {photo} is in the library")
        return self._answer(schema.Query(by=by, id=str(photo)), collection, vector, limit, started)

    def _collection(self, model: str) -> Collection:
        if not model:
            return self._index.collections[0]
        if model not in self._collections:
            names = ", ".join(self._collections)
            raise QueryError("unknown_model", f"there is no model {model}; this library has {names}")
        return self._collections[model]

    def _encode(self, data: bytes, collection: Collection) -> NDArray[np.float32]:
        encoder = self._encoders[collection.model]
        try:
            image = decode(data, "the query", min_side=encoder.min_side, max_pixels=self._max_pixels).image
        except PhotoError as error:
            raise QueryError("not_an_image", f"the query cannot be used: {error.reason.rstrip('.')}") from error
        return encoder.encode_query(encoder.preprocess(image))

    def _answer(
        self, query: schema.Query, collection: Collection, vector: NDArray[np.float32], limit: int, started: float
    ) -> schema.SearchAnswer:
        asked = None if query.id is None else int(query.id)
        found = self._search.nearest(collection, vector, limit, most=self._max_limit, asked=asked)
        return schema.SearchAnswer(
            model=collection.model,
            metric=collection.metric,
            query=query,
            took_ms=round(1000 * (time.perf_counter() - started), 1),
            results=[
                schema.Result(
                    score=round(result.score, 6),
                    id=str(result.id),
                    paths=result.paths,
                    unverified=[path for path in result.paths if self._is_unverified(path)],
                    width=result.photo.width,
                    height=result.photo.height,
                    format=result.photo.format,
                    taken_at=result.photo.taken_at,
                    bytes=result.photo.bytes,
                )
                for result in found
            ],
        )
