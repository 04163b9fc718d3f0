"""Which names are photos, and which are never looked at. Pure: it knows names, not the disk."""

from __future__ import annotations

import fnmatch
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_MEDIA = ".nomedia"
"""A directory that holds a file of this name is left alone with all below it: the convention of Android and of photo servers."""


class Filters:
    """Decides by name. `ignore` are shell patterns for the name of a file or directory; `extensions` have a dot, lower case."""

    def __init__(self, ignore: Iterable[str], extensions: Iterable[str]) -> None:
        patterns = [fnmatch.translate(pattern) for pattern in ignore]
        self._ignored = re.compile("|".join(patterns) if patterns else r"(?!)").match
        self._extensions = frozenset(extensions)

    def ignores(self, name: str) -> bool:
        """Whether a file or directory of this name is left alone."""
        return self._ignored(name) is not None

    def is_photo(self, name: str) -> bool:
        """Whether a file of this name is to be indexed."""
        return name[name.rfind(".") :].lower() in self._extensions and not self.ignores(name)

    def admits_directory(self, relative: str) -> bool:
        """Whether the directory at this path below a folder is looked into; "" is the folder itself."""
        return not relative or not any(self.ignores(part) for part in relative.split(os.sep))

    def admits(self, relative: str) -> bool:
        """Whether the file at this path below a folder is to be indexed."""
        directory, _, name = relative.rpartition(os.sep)
        return self.is_photo(name) and self.admits_directory(directory)
