"""The vectors of a question's terms, by any model that answers."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import blake3

from daemon import blame
from daemon.allocator import note_use
from daemon.api.asking import File, Photo, Picture, Text
from daemon.changes import photo_id
from daemon.errors import LookalikeError, PhotoError, QueryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from daemon.api.asking import What
    from daemon.encode.images import Bytes, Decode
    from daemon.index.index import Collection, Index
    from daemon.index.search import Search

E = TypeVar("E")

log = logging.getLogger(__name__)

PICTURES = 2
"""Pictures that are held decoded at once, of all questions."""
BYTES_PER_PIXEL = 3


class QueryEncoder(Protocol):
    """What a query needs of a graph, which may serve several models."""

    @property
    def min_side(self) -> int: ...
    def preprocess(self, image: Image.Image) -> NDArray[np.float32]: ...
    def encode_query(self, query: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]: ...


class TextEncoder(Protocol):
    """What a query needs of a text tower."""

    def encode(self, text: str) -> NDArray[np.float32]: ...


class Embedded(Protocol):
    """A term that any collection's model can be asked about; `photo` is its id where the library knows it."""

    @property
    def photo(self) -> int | None: ...
    def vector(self, collection: Collection) -> NDArray[np.float32]:
        """Return its unit vector [dim]; QueryError where the model has none."""
        ...


class Embedding:
    """Makes terms ready to be compared. Stored vectors are used where there are any, the rest is encoded when it is asked for."""

    def __init__(
        self,
        index: Index,
        search: Search,
        encoders: Mapping[str, QueryEncoder],
        texts: Mapping[str, TextEncoder],
        *,
        decode: Decode,
    ) -> None:
        """Both mappings are by version, and may change with the models that are live."""
        self._index = index
        self._search = search
        self._encoders = encoders
        self._texts = texts
        self._decode = decode
        self._decoding = threading.BoundedSemaphore(PICTURES)

    def understands_text(self, collection: Collection) -> bool:
        return collection.version in self._texts

    def of(self, what: What, name: str, collections: Sequence[Collection]) -> Embedded:
        """Return a term, `name` in sentences, ready to be compared with those of the collections.

        QueryError where the library does not know its file.
        """
        match what:
            case Text(text):
                return _Words(self, text)
            case Photo(photo):
                return _Stored(self._index, self._search, photo, f"the photo with the id {photo}")
            case File():
                return self._file(what)
            case Picture(data):
                return self._picture(data, name, collections)

    def _file(self, file: File) -> _Stored:
        photo = self._search.photo_at(file.path, file.size, file.mtime_ns)
        if photo is None:
            sentence = f"{file.path} is not in the library, or has changed and is not indexed yet"
            raise QueryError("not_in_library", sentence)
        return _Stored(self._index, self._search, photo, file.path)

    def _picture(self, data: Bytes, name: str, collections: Sequence[Collection]) -> _Picture:
        photo = photo_id(blake3.blake3(data).hexdigest())
        return _Picture(self, data, name, photo if self._search.is_known(photo) else None, collections)

    def stored(self, collection: Collection, photo: int) -> NDArray[np.float32] | None:
        return self._index.vectors.get(collection.name, photo)

    def inputs(
        self, data: Bytes, name: str, encoders: Sequence[QueryEncoder]
    ) -> list[tuple[QueryEncoder, NDArray[np.float32]]]:
        """Return what each encoder is fed of a picture, which is not kept. A few pictures at a time are decoded, of all questions."""
        with self._decoding:
            image = self._decoded(data, name)
            note_use(BYTES_PER_PIXEL * image.width * image.height)
            return [(encoder, encoder.preprocess(image)) for encoder in encoders]

    def _decoded(self, data: Bytes, name: str) -> Image.Image:
        # At the scale at which photos are decoded to be indexed.
        min_side = max(encoder.min_side for encoder in tuple(self._encoders.values()))
        try:
            return self._decode(data, name, min_side=min_side).image
        except PhotoError as error:
            # What to do next is about files that are indexed.
            reason = error.reason.partition("; ")[0].removesuffix(".")
            raise QueryError("not_an_image", f"{name} cannot be used: {reason}") from error

    def encoder(self, collection: Collection) -> QueryEncoder:
        return _live(self._encoders.get(collection.version), collection)

    def text(self, collection: Collection) -> TextEncoder:
        return _live(self._texts.get(collection.version), collection)


def _live(encoder: E | None, collection: Collection) -> E:
    if encoder is None:
        # A new version took over since the question came.
        raise QueryError("unavailable", f"{collection.model} has just been replaced by its new version; ask again")
    return encoder


@contextmanager
def _of_the_query(name: str, what: str, code: str) -> Iterator[None]:
    """Turn any exception of a library into one sentence; `code` is the error code of the answer."""
    try:
        yield
    except LookalikeError:
        raise
    # The net of a question: a library may raise anything, and a panic of a Rust library is a BaseException.
    except BaseException as error:
        log.debug("%s could not be encoded: the error in full", name, exc_info=error)
        if blame.is_the_machines(error):
            raise QueryError(
                "unavailable", f"the machine has no room for more work now ({error}); try again in a moment"
            ) from error
        raise QueryError(code, f"{name} cannot be used: {blame.sentence('encoded', error, what)}") from error


class _Stored:
    """A photo of the library, by what is stored for it."""

    def __init__(self, index: Index, search: Search, photo: int, name: str) -> None:
        self._index = index
        self._search = search
        self.photo = photo
        self._name = name

    def vector(self, collection: Collection) -> NDArray[np.float32]:
        # A vector alone says nothing: the photo may be excluded, or its folder watched no longer.
        if not self._search.is_known(self.photo):
            raise QueryError("not_in_library", f"{self._name} is not in the library")
        vector = self._index.vectors.get(collection.name, self.photo)
        if vector is None:
            raise QueryError("not_in_library", f"{collection.model} has not encoded {self._name} yet; send its bytes")
        return vector


class _Picture:
    """Any image by its bytes: decoded at most once, for all collections of the question, and encoded at most once by each graph."""

    def __init__(
        self, embedding: Embedding, data: Bytes, name: str, photo: int | None, collections: Sequence[Collection]
    ) -> None:
        self._embedding = embedding
        self._data = data
        self._name = name
        self.photo = photo
        self._collections = collections
        self._rows: dict[str, NDArray[np.float32]] = {}

    def vector(self, collection: Collection) -> NDArray[np.float32]:
        if (stored := self._stored(collection)) is not None:
            return stored
        if collection.version not in self._rows:
            lacking = [one for one in self._collections if one == collection or self._stored(one) is None]
            encoders = dict.fromkeys(self._embedding.encoder(one) for one in lacking)
            with _of_the_query(self._name, "the picture", "not_an_image"):
                for encoder, fed in self._embedding.inputs(self._data, self._name, list(encoders)):
                    self._rows.update(encoder.encode_query(fed))
        return self._rows[collection.version]

    def _stored(self, collection: Collection) -> NDArray[np.float32] | None:
        return None if self.photo is None else self._embedding.stored(collection, self.photo)


class _Words:
    """A text."""

    photo = None

    def __init__(self, embedding: Embedding, text: str) -> None:
        self._embedding = embedding
        self._text = text

    def vector(self, collection: Collection) -> NDArray[np.float32]:
        encoder = self._embedding.text(collection)
        with _of_the_query("the text", "the text", "internal"):
            return encoder.encode(self._text)
