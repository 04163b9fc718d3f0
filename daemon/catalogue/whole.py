"""Files that appear complete and on the disk, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK_BYTES = 1024 * 1024


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` under its final name; OSError when it cannot be."""
    with _beside(path) as (temporary, descriptor):
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        publish(temporary, path)


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write `pieces` under the file's final name, unless the iterator raises; OSError when it cannot be written."""
    with _beside(path) as (temporary, descriptor):
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
        publish(temporary, path)


def copy_whole(source: Path, path: Path) -> None:
    """Copy a file to its final name; OSError when it cannot be."""
    with _beside(path) as (temporary, descriptor):
        with os.fdopen(descriptor, "wb") as file, source.open("rb") as original:
            shutil.copyfileobj(original, file, _CHUNK_BYTES)
        publish(temporary, path)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its final name once its bytes are on the disk."""
    _sync(temporary, os.O_RDONLY)
    temporary.replace(path)
    _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def sha256_of(path: Path) -> str:
    """Return the checksum of a file in hexadecimal; OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, int]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    let_others_read(descriptor)
    try:
        yield temporary, descriptor
    finally:
        temporary.unlink(missing_ok=True)


def let_others_read(descriptor: int) -> None:
    """Give a new file, which its owner alone can read, the usual mode: lookaliked may run as somebody else."""
    os.fchmod(descriptor, 0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
