"""Answers with lists that may be as long as a library: made while they are sent, so that nobody holds them whole."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from daemon.api.schema import Answer

PAGE = 500
"""Values that are made at a time."""


def json_pieces(answer: Answer, key: str, values: Iterable[Any], *, count: str = "") -> Iterator[bytes]:
    """Yield the JSON of an answer, with `values` in the list of the name `key`, which is empty in the answer.

    Where the last key of the answer is `count`, it says how many values there were.
    """
    before, name, after = answer.json_bytes().rpartition(f'"{key}": ['.encode())
    number, piece = 0, before + name
    for page in pages(values):
        piece += (b", " if number else b"") + json.dumps(page)[1:-1].encode("ascii")
        number += len(page)
        if len(page) == PAGE:
            yield piece
            piece = b""
    yield piece + (f'], "{count}": {number}}}'.encode() if count else after)


def pages(values: Iterable[Any]) -> Iterator[Sequence[Any]]:
    """Yield values a page at a time."""
    remaining = iter(values)
    while page := list(itertools.islice(remaining, PAGE)):
        yield page
