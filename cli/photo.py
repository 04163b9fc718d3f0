"""The photo that is asked about: a path, or bytes from a pipe."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cli.errors import CliError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.answers import SearchAnswer
    from cli.client import Client, Query, Reply

STDIN = "-"

_STDIN_NAME = "standard input"
_CHUNK_BYTES = 256 * 1024


def find_similar(client: Client, image: str, query: Query) -> Reply[SearchAnswer]:
    """Ask by path when the library knows the photo as it is on disk now, else by its bytes."""
    try:
        if image == STDIN:
            return client.search_bytes(_chunks(_stdin(), _STDIN_NAME), None, query)
        return _find_file(client, image, query)
    except RefusedError as error:
        if error.code in {"not_an_image", "too_large"}:
            # The daemon was given bytes without a name.
            name = _STDIN_NAME if image == STDIN else image
            raise CliError(f"{name}: {error}") from error
        raise


def _stdin() -> IO[bytes]:
    if sys.stdin is None:
        raise CliError("the image cannot be read: standard input is closed")
    return sys.stdin.buffer


def _find_file(client: Client, image: str, query: Query) -> Reply[SearchAnswer]:
    if not image:
        raise CliError("no image is named: the argument is empty")
    with _reading(image):
        found = Path(image).stat()
        path = os.path.realpath(image)
    if stat.S_ISDIR(found.st_mode):
        raise CliError(f"{image} is a directory, not a photo")
    if stat.S_ISREG(found.st_mode):
        try:
            return client.search_path(path, found, query)
        except RefusedError as error:
            if error.code != "not_in_library":
                raise
    return _find_bytes(client, image, query)


def _find_bytes(client: Client, image: str, query: Query) -> Reply[SearchAnswer]:
    with _reading(image):
        file = Path(image).open("rb", buffering=0)  # noqa: SIM115 - only the opening is translated here
    with file:
        found = os.fstat(file.fileno())
        # A pipe, as from a shell's <(command), has no size to announce.
        size = found.st_size if stat.S_ISREG(found.st_mode) else None
        chunks = _chunks(file, image) if size is None else _exactly(_chunks(file, image), size, image)
        return client.search_bytes(chunks, size, query)


def _chunks(file: IO[bytes], name: str) -> Iterator[bytes]:
    while True:
        with _reading(name):
            chunk = file.read(_CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _exactly(chunks: Iterator[bytes], size: int, name: str) -> Iterator[bytes]:
    """Yield `chunks` if they are the announced bytes; fewer would keep the daemon waiting, more be taken as a request."""
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise CliError(f"{name} was changed while it was being read")


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise CliError(f"{name} does not exist") from error
    except OSError as error:
        raise CliError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from error
