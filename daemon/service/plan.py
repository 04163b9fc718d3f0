"""What an installation or its end would do, as values: shown by a dry run, and carried out after a yes."""

from __future__ import annotations

import difflib
import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Writing:
    """A file as it will be, and as it is; `before` is None where there is none."""

    path: Path
    text: str
    before: str | None
    mode: int = 0o644

    @property
    def is_new(self) -> bool:
        return self.before is None

    @property
    def changes(self) -> bool:
        """Whether what is there would be written over with something else."""
        return self.before is not None and self.before != self.text

    def shown(self) -> Iterator[str]:
        """Yield the whole of a new file, and of a changed one what differs."""
        if self.before is None:
            yield f"new file {self.path}"
            yield from (f"    {line}" for line in self.text.splitlines())
        elif self.changes:
            yield from difflib.unified_diff(
                self.before.splitlines(),
                self.text.splitlines(),
                f"{self.path} (there)",
                f"{self.path} (new)",
                lineterm="",
            )
        else:
            yield f"unchanged {self.path}"


@dataclass(frozen=True)
class Command:
    """A command to run; one that is `optional` may fail."""

    words: tuple[str, ...]
    optional: bool = False

    def __str__(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True)
class Plan:
    """Commands that come `first`, then directories, files and deletions, then the other commands."""

    first: tuple[Command, ...] = ()
    directories: tuple[tuple[Path, int], ...] = ()
    """Each with the mode that it is made with, where it is not there."""
    unused: Path | None = None
    """A data directory in which no daemon may be working any more, once the first commands have run."""
    writings: tuple[Writing, ...] = ()
    removals: tuple[Path, ...] = ()
    """Files, or directories with all below them."""
    emptied: tuple[Path, ...] = ()
    """Directories that go when nothing is left in them."""
    commands: tuple[Command, ...] = ()
    notices: tuple[str, ...] = field(default=())
    """What a person should know, a sentence each."""

    @property
    def changed(self) -> Sequence[Writing]:
        return [writing for writing in self.writings if writing.changes]

    def shown(self) -> Iterator[str]:
        """Yield the plan, line by line, in the order in which it would be carried out."""
        yield from (f"run {command}" for command in self.first)
        yield from (f"directory {path} (mode {mode:04o})" for path, mode in self.directories if not os.path.isdir(path))
        for writing in self.writings:
            yield from writing.shown()
        yield from (f"delete {path}" for path in self.removals)
        yield from (f"run {command}" for command in self.commands)
