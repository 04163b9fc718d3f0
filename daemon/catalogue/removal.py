"""Takes a model off this machine: its spec and copied files, what was pulled for it alone, and what was prepared of it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.catalogue.files import parts
from daemon.encode.models import discard
from daemon.encode.prepared import manifests
from daemon.encode.sources import stored_in
from daemon.encode.specs import HuggingFaceSource, UrlSource
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.catalogue.installation import Installation
    from daemon.encode.specs import ModelSpec


@dataclass(frozen=True)
class Leftovers:
    """What there is of a model that can be deleted: files and directories, and the versions that were prepared."""

    name: str
    known: bool
    """Whether there is a spec of it."""
    paths: tuple[Path, ...]
    versions: tuple[str, ...]
    size: int
    """Bytes, all together."""


def leftovers(name: str, installation: Installation) -> Leftovers:
    """Return what removing `name` would delete: never a spec that is shipped, nor a file that lies where its user put it.

    Of a model without a spec, only what was prepared.
    """
    catalogue = installation.catalogue
    entry = next((one for one in catalogue.entries() if one.name == name), None)
    paths: list[Path] = []
    if entry is not None and entry.path.parent == catalogue.own:
        paths += [entry.path, *(copies for copies in [catalogue.own / name] if copies.is_dir())]
    if entry is not None and entry.spec is not None:
        paths += _pulled_alone(entry.spec, installation)
    versions = tuple(f"{name}-{made.fingerprint}" for made in manifests(installation.cache_dir, name))
    prepared = [installation.cache_dir / "models" / version for version in versions]
    return Leftovers(name, entry is not None, tuple(paths), versions, sum(map(_size, [*paths, *prepared])))


def remove(found: Leftovers, cache_dir: Path) -> None:
    """Delete what was found; ModelError names the first that cannot be."""
    for path in found.paths:
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        except OSError as error:
            raise ModelError(
                found.name, f"{path} cannot be deleted ({error.strerror}); allow it, and remove it again."
            ) from error
    for version in found.versions:
        discard(cache_dir, version)


def _pulled_alone(spec: ModelSpec, installation: Installation) -> list[Path]:
    """Return the directories of what was pulled for this spec and is used by no other."""
    others = {
        directory
        for entry in installation.catalogue.entries()
        if entry.spec is not None and entry.spec.name != spec.name
        for directory in _pulled(entry.spec, installation.models_dir)
    }
    return [
        directory
        for directory in dict.fromkeys(_pulled(spec, installation.models_dir))
        if directory not in others and directory.is_dir()
    ]


def _pulled(spec: ModelSpec, models_dir: Path) -> Iterator[Path]:
    for part in parts(spec):
        if isinstance(part.source, UrlSource | HuggingFaceSource):
            yield stored_in(models_dir, part.source)


def _size(path: Path) -> int:
    total = 0
    for directory, _, files in os.walk(path):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    with suppress(OSError):
        total += 0 if path.is_dir() else path.stat().st_size
    return total
