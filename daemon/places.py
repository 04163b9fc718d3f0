"""Tell whether what lies at a path is still what was found there before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class Inode(NamedTuple):
    """The identity of a file. The kernel gives the number to nothing else while somebody has it open, or listens on it."""

    device: int
    number: int

    @classmethod
    def of(cls, place: Path | int) -> Inode:
        """Return what is at a path, links followed, or open as a descriptor; OSError where that is nothing."""
        found = os.stat(place)
        return cls(found.st_dev, found.st_ino)

    def is_at(self, path: Path) -> bool:
        """Return whether it is still at `path`; True also when a failing disk does not tell."""
        try:
            return Inode.of(path) == self
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
