"""Which directories a marker excludes: known from walks and events, so that an answer need not wait for a disk."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from daemon import beneath
from daemon.watch.filters import NO_MEDIA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Markers:
    """The directories that hold a `.nomedia`. Any thread may ask or note; the one that walks begins and ends walks, one at a time.

    `exclude` asks the disk only about folders that no walk has gone through since the start.
    """

    def __init__(self, folder_of: Callable[[str], str | None] = str) -> None:
        """`folder_of` returns the watched folder that a directory lies in."""
        self._folder_of = folder_of
        self._lock = threading.Lock()
        self._marked: set[str] = set()
        self._walked: set[str] = set()
        self._noted: dict[str, bool] = {}
        """The latest events since the walk under way began: it may have passed those directories before."""

    def note(self, directory: str) -> None:
        """Look whether a directory is marked, because an event named it."""
        folder = self._folder_of(directory)
        is_marked = folder is not None and _is_marked(folder, directory)
        with self._lock:
            self._noted[directory] = is_marked
            self._set(directory, is_marked=is_marked)

    def begin_walk(self) -> None:
        with self._lock:
            self._noted.clear()

    def end_walk(self, top: str, marked: Iterable[str], *, whole: bool) -> None:
        """Note which directories at or below `top` a walk found marked; `whole` says that `top` is a watched folder."""
        prefix = _prefix(top)
        with self._lock:
            elsewhere = {one for one in self._marked if one != top and not one.startswith(prefix)}
            self._marked = elsewhere | set(marked)
            for directory, is_marked in self._noted.items():
                self._set(directory, is_marked=is_marked)
            if whole:
                self._walked.add(top)

    def exclude(self, folder: str, path: str) -> bool:
        """Whether a file below a watched folder lies in a directory that is marked, or below one."""
        if folder not in self._walked:
            return any(_is_marked(folder, directory) for directory in _directories(folder, path))
        marked = self._marked
        return bool(marked) and any(directory in marked for directory in _directories(folder, path))

    def _set(self, directory: str, *, is_marked: bool) -> None:
        # Readers hold no lock: they see one set or the next.
        self._marked = self._marked | {directory} if is_marked else self._marked - {directory}


def _directories(folder: str, path: str) -> Iterator[str]:
    """Yield the directories from the one that `path` lies in up to the watched folder."""
    while len(path) > len(folder) and path != (path := os.path.dirname(path)):
        yield path


def _is_marked(folder: str, directory: str) -> bool:
    return beneath.is_there(folder, os.path.join(directory, NO_MEDIA))


def _prefix(directory: str) -> str:
    return directory.rstrip(os.sep) + os.sep
