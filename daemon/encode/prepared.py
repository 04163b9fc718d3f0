"""Prepared models on disk: a directory each, there whole or not at all, and never used once damaged."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import beneath, ownership
from daemon.encode.manifest import MANIFEST, read, serialised
from daemon.encode.sources import CHUNK_BYTES, chunks
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.encode.manifest import Manifest

_VERSION = re.compile(r"[a-z][a-z0-9-]*-[0-9a-f]{12}")
_TEMPORARY = ".making-"
_LOCK = ".lock"


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


def is_version(version: str) -> bool:
    """Return whether a prepared model can have this version, and so a directory of this name."""
    return _VERSION.fullmatch(version) is not None


def directory_of(cache_dir: Path, version: str) -> Path:
    """Return the directory of a prepared model, whether it is there or not; ValueError when it is no version."""
    if not is_version(version):
        raise ValueError(f"{version!r} is no version of a model")
    return _root(cache_dir) / version


def check(cache_dir: Path) -> None:
    """OSError where another user can have put something into the cache."""
    ownership.check_directories(cache_dir, _root(cache_dir))


def opened(directory: Path) -> Manifest | None:
    """Return the manifest of a directory; None when it is missing, damaged, another user's, or of a release that knew other specs.

    Every file is read. OSError when one is there and cannot be.
    """
    if not os.path.lexists(directory) or ownership.directory_refusal(os.lstat(directory), ownership.ours()):
        return None
    manifest = read(directory)
    if manifest is None:
        return None
    try:
        whole = all(_sha256(directory / relative) == sha256 for relative, sha256 in manifest.files.items())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return manifest if whole else None


def made(cache_dir: Path, version: str, fill: Callable[[Making], Manifest]) -> Manifest:
    """Put the directory of `version` in its place and return its manifest; `fill` is not called when another process just did.

    OSError when the cache cannot be written; whatever `fill` raises. Both leave nothing behind.
    """
    root = _root(cache_dir)
    root.mkdir(parents=True, exist_ok=True)
    check(cache_dir)
    with _locked(root):
        _remove_leftovers(root)
        manifest = opened(directory_of(cache_dir, version))
        if manifest is not None:
            return manifest
        making = Making(Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=root)))
        try:
            manifest = fill(making)
            making.write(MANIFEST, serialised(manifest))
            _put_in_place(making.directory, directory_of(cache_dir, version))
        finally:
            _remove_leftovers(root)
    return manifest


def discarded(cache_dir: Path, version: str) -> None:
    """Remove the directory of `version`, where there is one; OSError when it cannot be."""
    directory = directory_of(cache_dir, version)
    if not directory.exists():
        return
    # Not under the lock, which another process holds for as long as it makes a model.
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(_put_aside(directory), ignore_errors=True)


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
            manifest = read(path.parent)
            if manifest is not None and manifest.spec.name == name:
                yield manifest


def _root(cache_dir: Path) -> Path:
    return cache_dir / "models"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", opener=ownership.open_named) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(root: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the right to change what lies in `root`; the system frees it when the process ends, however it ends."""
    with os.fdopen(ownership.open_file(root / _LOCK, os.O_RDWR | os.O_CREAT), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _put_in_place(made: Path, place: Path) -> None:
    for directory, _, _ in beneath.walk(os.fspath(made)):
        _sync_directory(Path(directory))
    if place.exists():
        _put_aside(place)
    made.rename(place)
    _sync_directory(place.parent)


def _put_aside(place: Path) -> Path:
    """Move a directory out of its place, at once, and return what can be removed then."""
    aside = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=place.parent))
    place.rename(aside / place.name)
    return aside


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
