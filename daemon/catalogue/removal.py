"""Takes a model off this machine: its spec and copied files, what was pulled for it alone, and what was prepared of it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import beneath, removing
from daemon.catalogue.files import parts
from daemon.encode.models import discard
from daemon.encode.prepared import manifests
from daemon.encode.sources import stored_in
from daemon.encode.specs import FileSource, is_name
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.catalogue.catalogue import Catalogue, Entry
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
    configured: bool = False
    """Whether the configuration names it."""
    uncovers: bool = False
    """Whether its name means a shipped model once it is gone."""


def leftovers(name: str, installation: Installation) -> Leftovers:
    """Return what removing `name`, or the model of the spec at that path, would delete.

    Never a spec that is shipped, nor a file that lies where its user put it. Of a model without a spec, what was copied and
    what was prepared; of one that stands before a shipped one and is configured, nothing that was prepared, which answers
    until the shipped one does. ConfigError when the name is empty, or when there is no spec that can be read at the path.
    """
    catalogue = installation.catalogue
    entry = _entry(name, installation)
    name = name if entry is None else entry.name
    own = entry is not None and entry.path.parent == catalogue.own
    uncovers = own and catalogue.shadowed(name) is not None
    configured = entry is not None and installation.is_configured(entry.path)
    paths = [entry.path] if own and entry is not None else []
    if (own or entry is None) and is_name(name) and (catalogue.own / name).is_dir():
        paths.append(catalogue.own / name)
    if entry is not None and entry.spec is not None:
        paths += _pulled_alone(entry, installation)
    kept = (uncovers and configured) or not is_name(name)
    versions = () if kept else tuple(_versions(name, installation.cache_dir))
    prepared = [installation.cache_dir / "models" / version for version in versions]
    size = sum(map(_size, [*paths, *prepared]))
    return Leftovers(name, entry is not None, tuple(paths), versions, size, configured, uncovers)


def _entry(name: str, installation: Installation) -> Entry | None:
    """Return the spec that `name` means: of a path, ConfigError when it cannot be read, since nobody knows its name then."""
    catalogue = installation.catalogue
    if os.sep in name or not name:
        path = Path(os.path.abspath(catalogue.find(name)))
        if path.parent not in {catalogue.own, catalogue.shipped}:
            catalogue.load(str(path))
            return catalogue.entry(path)
        name = path.stem
    return next((entry for entry in catalogue.entries() if entry.path.stem == name), None)


def _versions(name: str, cache_dir: Path) -> Iterator[str]:
    return (f"{name}-{made.fingerprint}" for made in manifests(cache_dir, name))


def remove(found: Leftovers, cache_dir: Path) -> None:
    """Delete what was found; ModelError names the first that cannot be."""
    for path in found.paths:
        try:
            removing.remove(path.absolute())
        except OSError as error:
            raise ModelError(
                found.name, f"{path} cannot be deleted ({error.strerror}); allow it, and remove it again."
            ) from error
    for version in found.versions:
        discard(cache_dir, version)


def _pulled_alone(removed: Entry, installation: Installation) -> list[Path]:
    """Return the directories of what was pulled for this spec and is used by no other."""
    others = {
        directory
        for entry in [*installation.catalogue.entries(), *_covered(removed, installation.catalogue)]
        if entry.spec is not None and entry.path != removed.path
        for directory in _pulled(entry.spec, installation.models_dir)
    }
    if removed.spec is None:
        return []
    return [
        directory
        for directory in dict.fromkeys(_pulled(removed.spec, installation.models_dir))
        if directory not in others and directory.is_dir()
    ]


def _covered(removed: Entry, catalogue: Catalogue) -> Iterator[Entry]:
    """Yield the shipped model before which one stands."""
    shipped = catalogue.shadowed(removed.path.stem)
    if shipped is not None and shipped != removed.path:
        yield catalogue.entry(shipped)


def _pulled(spec: ModelSpec, models_dir: Path) -> Iterator[Path]:
    for part in parts(spec):
        if not isinstance(part.source, FileSource):
            yield stored_in(models_dir, part.source)


def _size(path: Path) -> int:
    total = 0
    for directory, _, files in beneath.walk(os.fspath(path)):
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    with suppress(OSError):
        total += 0 if path.is_dir() else path.stat().st_size
    return total
