"""Whether a file that another index, or another place, knew is there: told by its size and mtime, without reading it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Protocol

from daemon.changes import FileStat, signature
from daemon.watch.reconcile import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.beneath import Disk
    from daemon.watch.filters import Filters


class Folder(Protocol):
    """A watched folder."""

    @property
    def path(self) -> str: ...


class Territory(Protocol):
    """The watched folders."""

    @property
    def folders(self) -> Sequence[Folder]: ...
    @property
    def disk(self) -> Disk: ...
    def folder_of(self, path: str) -> Folder | None: ...
    def admits(self, path: str) -> bool: ...
    def keep(self, path: str, files: int) -> None: ...
    def rescan_all(self, reason: str) -> None: ...


class Places:
    """Knows, from when it was made, which watched folders hold no photo at all: of those nothing can be told."""

    def __init__(self, territory: Territory, filters: Filters) -> None:
        self._territory = territory
        self._vacant = {folder.path for folder in territory.folders if _is_vacant(folder.path, filters)}
        self.decided: dict[str, int] = {}
        """How many files may be missing of a folder, as was decided where the export was made."""
        self.granted: dict[str, int] = {}
        """How many files were counted against that."""

    def there(self, path: str, was: FileStat) -> FileStat | None:
        """Return the stat of the file at `path` where it belongs in the index and has the size and mtime it had; else None."""
        return unchanged(self._territory.disk, path, was) if self._territory.admits(path) else None

    def away(self, path: str, was: FileStat) -> FileStat | None:
        """Return what was recorded of a missing file whose folder is away, or which it was decided to keep; else None."""
        folder = self._territory.folder_of(path)
        if folder is None or not self._territory.admits(path) or self._territory.disk.is_there(path):
            return None
        if folder.path in self._vacant:
            return was
        granted = self.granted.get(folder.path, 0)
        if granted >= self.decided.get(folder.path, 0):
            return None
        self.granted[folder.path] = granted + 1
        return was


def unchanged(disk: Disk, path: str, was: FileStat) -> FileStat | None:
    """Return the stat of the file at `path` where it has the size and mtime that it had somewhere else; else None.

    A copy, or another disk, has other inodes and device numbers. That two photos agree in both is possible and not looked for.
    """
    try:
        found = disk.lstat(path)
    except OSError:
        return None
    now = FileStat.of(found)
    return now if stat.S_ISREG(found.st_mode) and (now.size, now.mtime_ns) == (was.size, was.mtime_ns) else None


def state_of(disk: Disk, path: str) -> str:
    """Return what tells this state of a file from its next, as `signature` does; empty where none can be seen."""
    try:
        return signature(disk.lstat(path))
    except OSError:
        return ""


def renamed(path: str, moved: Sequence[tuple[str, str]]) -> str:
    """Return where `path` lies now, if what lay below the first of a pair lies below the second."""
    for old, new in moved:
        if path == old or path.startswith(old.rstrip(os.sep) + os.sep):
            return os.path.normpath(os.path.join(new, os.path.relpath(path, old)))
    return path


def _is_vacant(folder: str, filters: Filters) -> bool:
    """Whether a folder is missing, cannot be read, or holds no photo: its disk is away, or the photos are yet to come."""
    try:
        return next(iter(Walk(folder, filters)), None) is None
    except OSError:
        return True
