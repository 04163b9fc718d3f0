"""Prepared models on disk: a directory each, there whole or not at all, and never used once damaged."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daemon.encode.sources import CHUNK_BYTES, chunks
from daemon.encode.specs import ModelSpec, Sha256
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANIFEST = "manifest.json"
_VERSION = re.compile(r"[a-z][a-z0-9-]*-[0-9a-f]{12}")
_TEMPORARY = ".making-"
_LOCK = ".lock"


class Manifest(BaseModel):
    """What a prepared directory holds, and how each of its files is known to be whole."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    spec: ModelSpec
    fingerprint: str
    digest: str
    files: dict[str, Sha256]
    """The SHA-256 of every file, by its path in the directory."""
    external: dict[Sha256, tuple[str, ...]] = Field(strict=False)
    """For every graph that came as a file, by its SHA-256: where it keeps weights, relative to itself."""


class Making:
    """A directory under construction: `files` grows as they are put into it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, str] = {}

    def write(self, relative: str, content: bytes) -> None:
        """Put a file of `content` at `relative`."""
        self._put(relative, iter([content]))

    def copy(self, name: str, source: Path, relative: str, sha256: str) -> None:
        """Copy a file of the model `name` to `relative`; ModelError when it is not the one that `sha256` was taken of."""
        self._put(relative, chunks(name, source))
        if self.files[relative] != sha256:
            raise ModelError(name, f"{source} was changed while it was read; start again.")

    def _put(self, relative: str, content: Iterator[bytes]) -> None:
        path = self.directory / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("xb") as file:
            for chunk in content:
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        self.files[relative] = digest.hexdigest()


def directory_of(cache_dir: Path, version: str) -> Path:
    """Return the directory of a prepared model, whether it is there or not."""
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is no version of a model")
    return _root(cache_dir) / version


def opened(directory: Path) -> Manifest | None:
    """Return the manifest of a directory; None when it is missing, damaged, or was made by a release that knew other specs.

    Every file is read. OSError when one is there and cannot be.
    """
    manifest = _manifest(directory)
    if manifest is None:
        return None
    try:
        whole = all(_sha256(directory / relative) == sha256 for relative, sha256 in manifest.files.items())
    except (FileNotFoundError, IsADirectoryError):
        return None
    return manifest if whole else None


def made(cache_dir: Path, version: str, fill: Callable[[Making], Manifest]) -> Manifest:
    """Put the directory of `version` in its place and return its manifest; `fill` is not called when another process just did.

    OSError when the cache cannot be written; whatever `fill` raises. Both leave nothing behind.
    """
    root = _root(cache_dir)
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        _remove_leftovers(root)
        manifest = opened(directory_of(cache_dir, version))
        if manifest is not None:
            return manifest
        making = Making(Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=root)))
        try:
            manifest = fill(making)
            making.write(MANIFEST, _serialised(manifest))
            _put_in_place(making.directory, directory_of(cache_dir, version))
        finally:
            _remove_leftovers(root)
    return manifest


def discarded(cache_dir: Path, version: str) -> None:
    """Remove the directory of `version`, where there is one; OSError when it cannot be."""
    directory = directory_of(cache_dir, version)
    if directory.exists():
        with _locked(directory.parent):
            _put_aside(directory)
            _remove_leftovers(directory.parent)


def sweep(cache_dir: Path) -> None:
    """Remove what killed processes left half made, unless another process is making something now."""
    root = _root(cache_dir)
    with contextlib.suppress(OSError):
        if any(root.glob(f"{_TEMPORARY}*")):
            with _locked(root, wait=False):
                _remove_leftovers(root)


def manifests(cache_dir: Path, name: str) -> Iterator[Manifest]:
    """Yield what is said of every version of the model `name` that is there, without reading their files."""
    for path in sorted(_root(cache_dir).glob(f"{name}-*/{MANIFEST}")):
        with contextlib.suppress(OSError):
            manifest = _manifest(path.parent)
            if manifest is not None and manifest.spec.name == name:
                yield manifest


def _root(cache_dir: Path) -> Path:
    return cache_dir / "models"


def _manifest(directory: Path) -> Manifest | None:
    try:
        document = json.loads((directory / MANIFEST).read_bytes())
        if document["sha256"] != _checksum(document["manifest"]):
            return None
        return Manifest.model_validate_json(json.dumps(document["manifest"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return None


def _serialised(manifest: Manifest) -> bytes:
    described = manifest.model_dump(mode="json")
    return json.dumps({"manifest": described, "sha256": _checksum(described)}, indent=1).encode()


def _checksum(described: object) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(root: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the right to change what lies in `root`; the system frees it when the process ends, however it ends."""
    with (root / _LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _put_in_place(made: Path, place: Path) -> None:
    for directory, _, _ in os.walk(made):
        _sync_directory(Path(directory))
    if place.exists():
        _put_aside(place)
    made.rename(place)
    _sync_directory(place.parent)


def _put_aside(place: Path) -> None:
    place.rename(Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=place.parent)) / place.name)


def _remove_leftovers(root: Path) -> None:
    """Remove everything half made in `root`; whoever makes something holds the lock, so nobody does."""
    for leftover in root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
