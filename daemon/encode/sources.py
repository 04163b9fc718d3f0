"""Where a model's files are, and whether they are those that its spec means."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlsplit

from daemon.encode.specs import FileSource, HuggingFaceSource, PackageSource, Source, UrlSource
from daemon.errors import ModelError
from daemon.ownership import open_named
from daemon.paths import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1 << 20
PulledSource: TypeAlias = PackageSource | UrlSource | HuggingFaceSource
_KEY_DIGITS = 16
_UNNAMED = "download"


def located(name: str, source: Source, models_dir: Path) -> Path:
    """Return the file of a source of the model `name`; ModelError when it is not there, and what puts it there.

    `models_dir` is where pulled files lie. Neither the network nor the file's content is touched.
    """
    path = _place(name, source, models_dir)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(name, _missing(name, source, path)) from error
    except OSError as error:
        raise _unreadable(name, path, error.strerror) from error
    if not stat.S_ISREG(mode):
        raise _unreadable(name, path, "it is not a regular file")
    return path


def stored_at(models_dir: Path, source: PulledSource) -> Path:
    """Return where the file of a source lies once it is pulled: a directory for each source, so no two share a file.

    What else the source brings, its `data`, lies in that directory too, each file under its own relative name.
    """
    return stored_in(models_dir, source) / _relative_name(source)


def stored_in(models_dir: Path, source: PulledSource) -> Path:
    """Return the directory of all that is pulled from a source."""
    canonical = json.dumps(source.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return models_dir / hashlib.sha256(canonical.encode()).hexdigest()[:_KEY_DIGITS]


def verified(name: str, source: Source, path: Path) -> str:
    """Return the SHA-256 of the file of a source, in hex; ModelError when the source expects another."""
    found = sha256_of(name, path)
    if source.sha256 is not None and found != source.sha256:
        raise ModelError(
            name, f"{path} has the SHA-256 {found} where its spec says {source.sha256}; {_again(name, source)}."
        )
    return found


def sha256_of(name: str, path: Path) -> str:
    """Return the SHA-256 of a file, in hex; ModelError when it cannot be read."""
    digest = hashlib.sha256()
    for chunk in chunks(name, path):
        digest.update(chunk)
    return digest.hexdigest()


def chunks(name: str, path: Path) -> Iterator[bytes]:
    """Yield the content of a file, a mebibyte at a time; ModelError when it cannot be read."""
    try:
        with open(path, "rb", opener=open_named) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise _unreadable(name, path, error.strerror) from error


def content(name: str, path: Path, *, at_most: int) -> bytes:
    """Return a file's content; ModelError when it cannot be read or has more than `at_most` bytes."""
    try:
        with open(path, "rb", opener=open_named) as file:
            size = os.fstat(file.fileno()).st_size
            if size > at_most:
                reason = f"{path} is larger than {at_most >> 20} MiB; check that its spec names the right file."
                raise ModelError(name, reason)
            return file.read(size)
    except OSError as error:
        raise _unreadable(name, path, error.strerror) from error


def _place(name: str, source: Source, models_dir: Path) -> Path:
    if isinstance(source, FileSource):
        return source.path
    pulled = stored_at(models_dir, source)
    # A file that was pulled is the one that the spec means; an installed release may be another.
    if isinstance(source, PackageSource) and not os.path.isfile(pulled):
        return _installed_file(name, source)
    return pulled


def _installed_file(name: str, source: PackageSource) -> Path:
    try:
        distribution = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError as error:
        reason = f"it needs the Python package {_release(source)}, which is not installed; run `lookalike models pull {name}`."
        raise ModelError(name, reason) from error
    return Path(str(distribution.locate_file(source.file)))


def _release(source: PackageSource) -> str:
    return f"{source.package}=={source.version}" if source.version else source.package


def _relative_name(source: PulledSource) -> str:
    if not isinstance(source, UrlSource):
        return source.file
    name = PurePosixPath(unquote(urlsplit(source.url).path)).name
    return _UNNAMED if name in {"", ".."} else name


def _missing(name: str, source: Source, path: Path) -> str:
    if isinstance(source, FileSource) and path.parent == shipped("models"):
        return f"its file is yours to make (docs/models.md); then `lookalike models add {path.name}`."
    if isinstance(source, FileSource):
        return f"there is no {path}; put the model's file there, or correct its spec."
    if isinstance(source, PackageSource):
        return f"there is no {path}; run `lookalike models pull {name}`, or correct its spec."
    return f"its files are not on this machine yet; run `lookalike models pull {name}`."


def _again(name: str, source: Source) -> str:
    if isinstance(source, FileSource):
        return "put the file that the spec means there, or correct the spec"
    return f"run `lookalike models pull {name}` again, or correct the spec"


def _unreadable(name: str, path: Path, reason: str | None) -> ModelError:
    return ModelError(name, f"{path} cannot be read ({reason}); make it a file that this user can read.")
