"""How many and how large things are, and how large they will be."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from daemon import beneath
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.doctor.context import Context

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, as sentences have it."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shown(size: int) -> str:
    """Return bytes as a person reads them."""
    return next((f"{size / length:,.3g} {unit}" for length, unit in _UNITS if size >= length), f"{size} bytes")


def dimensions(context: Context) -> int:
    """Return how many numbers the vectors of one photo have, those of every configured model together."""
    total = 0
    for name in context.settings.models:
        with suppress(ConfigError):
            total += context.catalogue.load(name).output.dim
    return total


def size_of_tree(directory: Path) -> int:
    """Return the bytes on the disk of all files below a directory, as far as they can be seen."""
    total = 0
    for top, _, names in beneath.walk(os.fspath(directory)):
        for name in names:
            with suppress(OSError):
                # st_blocks counts in units of 512 bytes: stat(2).
                total += os.lstat(os.path.join(top, name)).st_blocks * 512
    return total
