"""Keeps built graphs on disk: whole or not at all, and never used once damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def cached_graph(directory: Path, name: str, build: Callable[[], bytes]) -> Path:
    """Return the path of the graph `name` in `directory`, building it when it is missing or differs from its checksum.

    OSError when the directory cannot be made, read or written.
    """
    graph = directory / f"{name}.onnx"
    checksum = directory / f"{name}.onnx.sha256"
    if _intact(graph, checksum):
        return graph
    content = build()
    directory.mkdir(parents=True, exist_ok=True)
    # The checksum goes last: a crash between the two leaves a graph that is built once more.
    _write_whole(graph, content)
    _write_whole(checksum, hashlib.sha256(content).hexdigest().encode())
    return graph


def _intact(graph: Path, checksum: Path) -> bool:
    try:
        expected = checksum.read_bytes()
        content = graph.read_bytes()
    except FileNotFoundError:
        return False
    return hashlib.sha256(content).hexdigest().encode() == expected


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears complete and on the disk, or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
