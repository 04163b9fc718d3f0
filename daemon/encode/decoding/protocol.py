"""What is said between the daemon and a decoder, over a stream socket. The daemon believes no number of it before it has looked."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

HELLO = struct.Struct("<I")
"""The decoder is ready, and confined by these: a bit for each of CONFINEMENTS."""
CONFINEMENTS = ("limits", "landlock", "seccomp")

REQUEST = struct.Struct("<?IQQdIQ")
"""Whether the photo's library needs a thread, min_side, max_pixels, the most pixels that may come back, seconds, and the lengths of the path
and of the file's bytes, which follow."""

REPLY = struct.Struct("<BIIIIBB")
"""Whether it was decoded; width and height of the pixels that follow last, width and height before reduction, and the lengths of the
format's name and of the time, which follow first. Where it was not decoded, the first number is the length of the reason, which
follows, and the second the place of its kind in FAILURE_KINDS."""

EXIT_NO_MEMORY = 12
"""How a decoder ends that has no memory left to say so: ENOMEM."""

MAX_REASON_BYTES = 2000
CHANNELS = 3
PIECE_BYTES = 1 << 20


class EndOfStream(Exception):  # noqa: N818 - an event, not an error
    """The other side has ended."""


def receive(connection: socket.socket, length: int, deadline: float | None = None) -> bytearray:
    """Return exactly so many bytes; EndOfStream where there are not as many, TimeoutError where the last comes after `deadline`.

    `deadline` is a monotonic time; without it, the socket's own time-out is for each piece. The memory grows with what arrives:
    whoever only says a large `length` costs a piece of it.
    """
    data = bytearray(min(length, PIECE_BYTES))
    filled = 0
    while filled < length:
        if filled == len(data):
            data += bytes(min(length - filled, PIECE_BYTES))
        if deadline is not None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            connection.settimeout(remaining)
        # A bytearray that is looked into does not grow.
        with memoryview(data) as whole, whole[filled:] as rest:
            count = connection.recv_into(rest)
        if not count:
            raise EndOfStream
        filled += count
    return data
