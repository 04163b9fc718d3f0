"""Text in columns of a terminal."""

from __future__ import annotations

import unicodedata

_ELLIPSIS = "…"


def cells(text: str) -> int:
    """Return how many columns a terminal shows `text` in: 2 for a wide character (UAX #11), 0 for a combining one."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def padded(text: str, width: int) -> str:
    """Return `text` with as many spaces behind it as fill `width` columns."""
    return text + " " * (width - cells(text))


def shortened(text: str, width: int) -> str:
    """Return `text` in at most `width` columns; what is left out is in the middle, and nearer to the beginning."""
    if cells(text) <= width:
        return text
    head = _beginning(text, (width - 1) // 3)
    tail = _beginning(text[::-1], width - 1 - cells(head))[::-1]
    return f"{head}{_ELLIPSIS}{tail}"


def _beginning(text: str, width: int) -> str:
    used = 0
    for index, character in enumerate(text):
        used += _cells(character)
        if used > width:
            return text[:index]
    return text


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
