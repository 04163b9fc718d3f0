"""The frames of an export: bounded, and each checked against everything before it. Standard library and BLAKE3 only: the CLI reads them too.

A file is MAGIC, then frames: four letters for the kind, the payload's length (32 bits, little-endian), the payload, and the BLAKE3 digest of
MAGIC and of every kind, length and payload up to there. So a frame that is damaged, missing, or not in its place is known before it is used.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from daemon.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

# As PNG's: a transfer that takes it for text is noticed at once.
MAGIC = b"\x89lookalike\r\n\x1a\n"
HEAD, FOLDERS, PHOTOS, VECTORS, FAILURES, DONE, STOPPED = b"HEAD", b"FOLD", b"PHOT", b"VECT", b"FAIL", b"DONE", b"STOP"
"""In this order; vectors and the photos they are of come in turns. STOPPED says why it ends early; it or DONE is the last."""
KINDS = frozenset({HEAD, FOLDERS, PHOTOS, VECTORS, FAILURES, DONE, STOPPED})
MAX_TEXT_BYTES = 16 * 2**20
"""Of a frame of JSON: it takes several times as much memory once it is read."""
MAX_VALUES = 1_000_000
"""A frame of JSON has so many at most."""
MAX_VECTOR_BYTES = 64 * 2**20
CHECKSUM_BYTES = 32

_PREFIX = struct.Struct("<4sI")


class Frame(NamedTuple):
    """One frame whose checksum is right."""

    kind: bytes
    payload: bytes


class FrameWriter:
    """Makes the frames of an export, which stand behind MAGIC."""

    def __init__(self) -> None:
        self._hash = blake3(MAGIC)

    def frame(self, kind: bytes, payload: bytes) -> bytes:
        """Return the next frame."""
        _check_length(kind, len(payload))
        prefix = _PREFIX.pack(kind, len(payload))
        self._hash.update(prefix)
        self._hash.update(payload)
        return b"".join((prefix, payload, self._hash.digest()))


class FrameReader:
    """Reads an export from its bytes in pieces. What is not as it was written is an ExportError, before anything of it is handed out."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._hash = blake3()
        self.bytes_read = 0
        """How many bytes of the file have been taken so far, those of the frame in hand included."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame up to the last one; ExportError where that is missing, or something follows it."""
        if not self._fill(len(MAGIC)) or self._buffer[: len(MAGIC)] != MAGIC:
            raise ExportError("it is no export of lookalike")
        self._hash.update(self._take(len(MAGIC)))
        frame = self._next(HEAD)
        while True:
            yield frame
            if frame.kind in (DONE, STOPPED):
                break
            frame = self._next()
        if self._fill(1):
            raise ExportError(f"something follows its end, at byte {self.bytes_read:,}")

    def _next(self, wanted: bytes = b"") -> Frame:
        began = self.bytes_read
        prefix = self._all(_PREFIX.size)
        kind, length = _PREFIX.unpack(prefix)
        if kind not in KINDS or (kind == HEAD) != (wanted == HEAD):
            raise _damaged(began)
        _check_length(kind, length)
        payload = self._all(length)
        self._hash.update(prefix)
        self._hash.update(payload)
        if self._all(CHECKSUM_BYTES) != self._hash.digest():
            raise _damaged(began)
        return Frame(kind, payload)

    def _all(self, count: int) -> bytes:
        if not self._fill(count):
            raise ExportError(f"it ends early, after {self.bytes_read + len(self._buffer):,} bytes")
        return self._take(count)

    def _fill(self, count: int) -> bool:
        """Return whether there are so many more bytes."""
        while len(self._buffer) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._buffer += chunk
        return True

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self.bytes_read += count
        return taken


def _check_length(kind: bytes, length: int) -> None:
    if length > (MAX_VECTOR_BYTES if kind == VECTORS else MAX_TEXT_BYTES):
        raise ExportError(f"one of its parts has {length:,} bytes, more than any that lookalike writes")


def _damaged(offset: int) -> ExportError:
    return ExportError(f"it is damaged at byte {offset:,} or before")
