"""Reads JSON from elsewhere, whose size in memory and whose depth are known before a value of it is made.

16 MB of `[[],[],…` are six million lists and take half a gigabyte. So the values are counted in the text first.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64
# A text, the beginning or the end of a container, or a word. The last text may lack its end: json.loads says so, and nothing is looked
# at twice here.
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{\]}]|[^\s\[\]{},:"]+', re.DOTALL)
_OPENING, _CLOSING = frozenset(b"[{"), frozenset(b"]}")


class TooLargeError(ValueError):
    """It has more values than it may have, or is nested more deeply."""


def loads(data: bytes, *, most_values: int) -> Any:
    """Return the value that `data`, JSON in UTF-8, stands for.

    ValueError where it is no JSON; TooLargeError, which is one too, where it has more than `most_values` values or is nested deeper
    than MAX_DEPTH. Keys of objects count as values.
    """
    check(data, most_values=most_values)
    # From bytes, json would take UTF-16 as well, where the counting above takes other bytes for quotation marks.
    return json.loads(data.decode())


def check(data: bytes, *, most_values: int) -> None:
    """Raise TooLargeError as `loads` does, without making a value."""
    depth = values = 0
    for token in _TOKENS.finditer(data):
        first = data[token.start()]
        if first in _CLOSING:
            depth -= 1
            if depth < 0:
                # It is no JSON, as json.loads says in its own words.
                return
            continue
        values += 1
        if values > most_values:
            raise TooLargeError(f"it has more than {most_values:,} values")
        depth += first in _OPENING
        if depth > MAX_DEPTH:
            raise TooLargeError(f"it is nested more than {MAX_DEPTH} levels deep")
