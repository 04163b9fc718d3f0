"""Names, numbers and times as a person reads them, and colour."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

Colour = Literal["green", "yellow", "red", "dim"]

_SGR: dict[Colour, str] = {"green": "32", "yellow": "33", "red": "31", "dim": "2"}
COLOURS = re.compile(rf"(\x1b\[(?:0|{'|'.join(_SGR.values())})m)")
"""The escapes that `Paint` puts around a text."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Paint:
    """Wraps text in ANSI colours, or leaves it alone."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def __call__(self, text: str, colour: Colour) -> str:
        return f"\x1b[{_SGR[colour]}m{text}\x1b[0m" if self._enabled and text.strip() else text


def count(number: int, noun: str, plural: str = "", *, width: int = 0) -> str:
    """Return `number` with thousands marked, at least `width` wide, and the noun in its singular or plural."""
    return f"{number:>{width},} {noun if number == 1 else plural or noun + 's'}"


def size_of(size: int) -> str:
    """Return `size` bytes in the unit, of a thousand of the one below it, that tells a person enough."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # What rounds to a thousand of a unit is one of the next.
        if size >= length * 0.9995:
            return f"{size / length:,.3g} {unit}" if size < 999.5 * length else f"{size / length:,.0f} {unit}"
    return count(size, "byte")


def examples(names: Sequence[str], total: int, more: str = "") -> list[str]:
    """Return the names, indented, and after them how many of `total` are not among them; `more` says where they are."""
    lines = [f"  {printable(name)}" for name in names]
    if total > len(names):
        lines.append(f"  and {total - len(names):,} more{more}")
    return lines


def age(moment: str, now: float) -> str:
    """Return how long `moment` (ISO 8601) lies before `now` (seconds since the epoch), as in "5 min ago"."""
    try:
        seconds = now - datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return printable(moment)
    return f"{duration(max(seconds, 0))} ago"


def duration(seconds: float) -> str:
    """Return `seconds` in the units that tell a person enough."""
    if seconds < 10:  # noqa: PLR2004 - below this the fraction tells something
        return f"{seconds:.2g} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    return f"{count(int(seconds // _DAY), 'day')} {seconds % _DAY // _HOUR:.0f} h"
