"""Adds a model of the user's own: its spec is written, and its files are copied beside it."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.catalogue.whole import copy_whole, write_whole
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.catalogue.addition import Addition
    from daemon.catalogue.catalogue import Catalogue


def refuse_taken(name: str, catalogue: Catalogue) -> None:
    """Refuse a name that is taken: by a model of the user's own, or by a shipped one that has its file.

    A shipped spec of a file that its user makes is there to be replaced.
    """
    taken = next((path for path in _places(name, catalogue) if path.exists()), None)
    if taken is not None:
        reason = f"you have one of this name already ({taken}); give another with --name, or replace it with --force."
        raise ModelError(name, reason)
    if catalogue.shadowed(name) and catalogue.to_be_made(name) is None:
        reason = "a shipped model is called so; give another name with --name, or put yours before it with --force."
        raise ModelError(name, reason)


def add(addition: Addition, catalogue: Catalogue, *, replace: bool) -> Path:
    """Put the files and then the spec into the user's catalogue, where it stands before a shipped one, and return its path.

    ModelError when the name is taken, unless that is to be replaced, and when the files cannot be written.
    """
    if not replace:
        refuse_taken(addition.name, catalogue)
    spec, directory = _places(addition.name, catalogue)
    try:
        with _made_beside(directory) as made:
            for relative, source in addition.files.items():
                copy_whole(source, made / relative)
        write_whole(spec, addition.yaml.encode())
    except OSError as error:
        reason = f"its files cannot be written below {catalogue.own} ({error.strerror}); free space there, or allow it."
        raise ModelError(addition.name, reason) from error
    return spec


def _places(name: str, catalogue: Catalogue) -> tuple[Path, Path]:
    return catalogue.own / f"{name}.yaml", catalogue.own / name


@contextmanager
def _made_beside(directory: Path) -> Iterator[Path]:
    """Yield a new directory that takes the place of `directory` at the end, or nothing when it does not come to that."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as work:
        made = Path(work, "made")
        made.mkdir()
        yield made
        if directory.exists():
            directory.rename(Path(work, "before"))
        made.rename(directory)
