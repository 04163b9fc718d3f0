"""JSON of a request: bounded before it is parsed, with its long strings left where they are.

A parser makes many times the memory of what it reads: `[[],[],` costs thirty bytes for each byte. Only pictures in base64 are long, and they
are decoded in place.
"""

from __future__ import annotations

import binascii
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_DEPTH = 16
MOST_VALUES = 10_000
MOST_BYTES = 4 * 2**20
"""Beside the long strings; 16 texts of 10,000 characters, each written as two escapes, take half of that."""
LONG_BYTES = 128 * 1024
"""The longest text that a query may have is shorter, however it is written."""
MOST_ESCAPED_QUOTES = 200_000
PIECE_BYTES = 256 * 1024
_LONGEST_ESCAPE = 6
_LOOK_BACK = 16
_MARKS = re.compile(rb"[\[\]{},]")
_DEEPER = {b"[": 1, b"{": 1, b",": 0}


class NotJsonError(ValueError):
    """The bytes are no JSON."""


class TooMuchError(ValueError):
    """The JSON has more in it than any request needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Long:
    """A string that is too long to be parsed: the bytes between its quotes, with their escapes."""

    body: bytearray
    start: int
    end: int

    def from_base64(self) -> memoryview:
        """Return the bytes that the string stands for, decoded in its place; ValueError where it is no base64. To be called once."""
        body, write, carried = self.body, self.start, b""
        view = memoryview(body)
        position = self.start
        while position < self.end:
            piece = _piece(body, position, self.end)
            position += len(piece)
            text = carried + _unescaped(piece)
            cut = len(text) if position == self.end else len(text) - len(text) % 4
            data, carried = binascii.a2b_base64(text[:cut], strict_mode=True), text[cut:]
            if position < self.end and len(data) * 4 != cut * 3:
                raise ValueError("there is padding in the middle")
            view[write : write + len(data)] = data
            write += len(data)
        return view[self.start : write]


def parsed(body: bytes | bytearray) -> Any:
    """Return the value that a body is, each long string in an object of it as a Long. Raise NotJsonError or TooMuchError where that cannot be."""
    if not isinstance(body, bytearray):
        body = bytearray(body)
    # Nobody can write a string that passes for a long one.
    name = secrets.token_hex(16)
    short, longs = _outline(body, name)

    def put_back(given: dict[str, Any]) -> dict[str, Any]:
        return {key: longs.get(value, value) if isinstance(value, str) else value for key, value in given.items()}

    try:
        return json.loads(short.decode("utf-8-sig", "surrogatepass"), object_hook=put_back)
    except (ValueError, RecursionError) as error:
        raise NotJsonError("it is not JSON") from error


def _outline(body: bytearray, name: str) -> tuple[bytearray, dict[str, Long]]:
    """Return the JSON with a name in the place of each long string, and those strings by name."""
    short, longs = bytearray(), dict[str, Long]()
    position = 0
    for start, end in _strings(body):
        if end - start <= LONG_BYTES:
            continue
        key = f"{name}:{len(longs)}"
        longs[key] = Long(body, start, end)
        _take(body, position, start, short)
        short += key.encode()
        position = end
    _take(body, position, len(body), short)
    return short, longs


def _take(body: bytearray, start: int, end: int, short: bytearray) -> None:
    """Add a part of the body to what is parsed."""
    if len(short) + end - start > MOST_BYTES:
        raise TooMuchError(f"it has more than {MOST_BYTES:,} bytes beside its pictures")
    short += body[start:end]


def _strings(body: bytearray) -> Iterator[tuple[int, int]]:
    """Yield where each string of JSON begins and ends, without its quotes; TooMuchError as soon as there is too much around them."""
    position = depth = values = escaped = 0
    while True:
        quote = body.find(b'"', position)
        for mark in _MARKS.finditer(body, position, len(body) if quote < 0 else quote):
            values += 1
            depth += _DEEPER.get(mark[0], -1)
            _check(depth, values)
        if quote < 0:
            return
        close, skipped = _closing(body, quote + 1, MOST_ESCAPED_QUOTES - escaped)
        escaped += skipped
        values += 1
        _check(depth, values)
        yield quote + 1, close
        position = close + 1


def _check(depth: int, values: int) -> None:
    if depth > MOST_DEPTH:
        raise TooMuchError(f"it is nested more than {MOST_DEPTH} deep")
    if values > MOST_VALUES:
        raise TooMuchError(f"it has more than {MOST_VALUES:,} values")


def _closing(body: bytes | bytearray, start: int, most: int) -> tuple[int, int]:
    """Return where the string ends that begins at `start`, and how many escaped quotes it has."""
    position = start
    for skipped in range(most + 1):
        close = body.find(b'"', position)
        if close < 0:
            raise NotJsonError("a string has no end")
        if _backslashes(body, start, close) % 2 == 0:
            return close, skipped
        position = close + 1
    raise TooMuchError("a string has more escapes than any text")


def _backslashes(body: bytes | bytearray, start: int, close: int) -> int:
    """Return how many backslashes stand before `close`, without looking at much more than those."""
    length = _LOOK_BACK
    while True:
        before = body[max(start, close - length) : close]
        count = len(before) - len(before.rstrip(b"\\"))
        if count < len(before) or length > close - start:
            return count
        if length > LONG_BYTES:
            raise TooMuchError("a string has more escapes than any text")
        length *= _LOOK_BACK


def _piece(body: bytearray, start: int, end: int) -> bytes:
    """Return the next piece of a string, which ends in the middle of no escape."""
    piece = bytes(body[start : min(start + PIECE_BYTES, end)])
    if start + len(piece) == end:
        return piece
    backslash = piece.rfind(b"\\", len(piece) - _LONGEST_ESCAPE)
    return piece if backslash < 0 else piece[:backslash]


def _unescaped(piece: bytes) -> bytes:
    if b"\\" not in piece:
        return piece
    text: str = json.loads(b'"' + piece + b'"')
    return text.encode("ascii")
