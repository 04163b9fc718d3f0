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

    from daemon.catalogue.catalogue import Catalogue
    from daemon.catalogue.examining import Addition


def add(addition: Addition, catalogue: Catalogue, *, replace: bool) -> Path:
    """Put the files and then the spec into the user's catalogue, where it stands before a shipped one, and return its path.

    ModelError when the user has a model of this name, unless it is to be replaced, and when the files cannot be written.
    """
    spec, directory = catalogue.own / f"{addition.name}.yaml", catalogue.own / addition.name
    taken = next((path for path in (spec, directory) if path.exists()), None)
    if taken is not None and not replace:
        reason = f"you have one of this name already ({taken}); give another with --name, or replace it with --force."
        raise ModelError(addition.name, reason)
    try:
        with _made_beside(directory) as made:
            for relative, source in addition.files.items():
                copy_whole(source, made / relative)
        write_whole(spec, addition.yaml.encode())
    except OSError as error:
        reason = f"its files cannot be written below {catalogue.own} ({error.strerror}); free space there, or allow it."
        raise ModelError(addition.name, reason) from error
    return spec


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
