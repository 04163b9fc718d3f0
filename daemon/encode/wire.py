"""Counts the fields of a protobuf message before it is parsed: two bytes can become a hundred in memory.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor  # type: ignore[import-untyped]

MAX_FIELDS = 2_000_000
"""Large graphs have some hundred thousand: a weight is one field, however large."""
MAX_DEPTH = 64
"""A graph within a graph is three levels; protobuf itself takes a hundred."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_CONTINUED, _BITS = 0x80, 0x7F
_MAX_SHIFT = 63


class TooLargeError(ValueError):
    """It has more fields than it may have, or is nested more deeply."""


def check(data: bytes, kind: Descriptor) -> None:  # noqa: C901, PLR0912 - a loop that calls little, for it runs a million times
    """Raise TooLargeError where the message of `kind` in `data` has too many fields or levels; ValueError where `data` is no such message."""
    messages = _messages_in(kind)
    known = {kind.full_name: messages}
    # Around the message in hand: where each ends, and which of its fields are messages.
    around: list[tuple[int, dict[int, Descriptor]]] = []
    position, end, fields = 0, len(data), 0
    try:
        while True:
            while position == end:
                if not around:
                    return
                end, messages = around.pop()
            fields += 1
            if fields > MAX_FIELDS:
                raise TooLargeError(f"it has more than {MAX_FIELDS:,} fields")
            tag, position = _varint(data, position)
            wire = tag & 7
            if wire == _VARINT:
                _, position = _varint(data, position)
            elif wire == _BYTES:
                length, position = _varint(data, position)
                inner = messages.get(tag >> 3)
                if inner is None:
                    position += length
                else:
                    around.append((end, messages))
                    if len(around) >= MAX_DEPTH:
                        raise TooLargeError(f"it is nested more than {MAX_DEPTH} levels deep")
                    if position + length > end:
                        raise ValueError("it is cut short")
                    end = position + length
                    if inner.full_name not in known:
                        known[inner.full_name] = _messages_in(inner)
                    messages = known[inner.full_name]
            else:
                position += _SIZES[wire]
            if position > end:
                raise ValueError("it is cut short")
    except (IndexError, KeyError) as error:
        raise ValueError("it is no protobuf message") from error


def _messages_in(kind: Descriptor) -> dict[int, Descriptor]:
    return {field.number: field.message_type for field in kind.fields if field.message_type is not None}


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number at a position, and the position behind it."""
    byte = data[position]
    if byte < _CONTINUED:
        return byte, position + 1
    value, shift = byte & _BITS, 7
    while byte >= _CONTINUED:
        position += 1
        byte = data[position]
        value |= (byte & _BITS) << shift
        shift += 7
        if shift > _MAX_SHIFT + 7:
            raise ValueError("it is no protobuf message")
    return value, position + 1
