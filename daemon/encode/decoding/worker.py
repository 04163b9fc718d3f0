"""A decoder: confines itself, then turns files into pixels, one at a time, until the daemon hangs up.

Run as `python -I -m daemon.encode.decoding.worker MEMORY_BYTES`, with its socket as standard input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
import socket
import sys

from PIL import ExifTags, Image, ImageCms  # noqa: F401 - imported late by convert(), when no file can be opened any more

from daemon.allocator import give_back, keep_freed_memory, note_use, owes_memory
from daemon.encode.decoding.confinement import confine
from daemon.encode.decoding.protocol import (
    CHANNELS,
    CONFINEMENTS,
    EXIT_NO_MEMORY,
    HELLO,
    KEPT,
    MAX_REASON_BYTES,
    PIECE_BYTES,
    REPLY,
    REQUEST,
    EndOfStream,
    receive,
)
from daemon.encode.images import Decoded, decode, reduced
from daemon.errors import FAILURE_KINDS, PhotoError

# Formats whose plugins or libraries load something when they are first used.
_REHEARSED = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "HEIF")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Serve until the socket is closed."""
    # A service manager tells every process of a service to end; the daemon decides when.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep_freed_memory()
    connection = socket.socket(fileno=0)
    rehearse()
    # Afterwards no file can be opened.
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    by = confine(int(sys.argv[1]))
    try:
        connection.sendall(HELLO.pack(sum(1 << CONFINEMENTS.index(name) for name in by)))
        while True:
            serve(connection)
            if owes_memory():
                give_back()
            connection.sendall(KEPT.pack(_memory_bytes(statm)))
    except (EndOfStream, ConnectionError):
        return
    except MemoryError:
        # Where decode() has not caught it: while the file comes in, or the pixels go out.
        os._exit(EXIT_NO_MEMORY)


def rehearse() -> None:
    """Decode something of everything: whatever is loaded late is loaded now, when files can still be opened."""
    for name in _REHEARSED:
        # A Pillow without this codec has none to load.
        with contextlib.suppress(KeyError, OSError, PhotoError):
            file = io.BytesIO()
            # 16 bits are converted by NumPy.
            image = Image.new("I;16" if name == "PNG" else "RGB", (16, 16))
            exif = Image.Exif()
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:01:01 00:00:00"
            image.save(file, name, **({"exif": exif} if name == "JPEG" else {}))
            decode(file.getvalue(), f"a.{name.lower()}", min_side=8, max_pixels=256)
    with contextlib.suppress(PhotoError):
        decode(b"\0" * 64, "a.tga", min_side=8, max_pixels=256)


def serve(connection: socket.socket) -> None:
    """Answer one request; EndOfStream when there is none any more."""
    min_side, max_pixels, most_pixels, seconds, path_length, length = REQUEST.unpack(receive(connection, REQUEST.size))
    path = os.fsdecode(bytes(receive(connection, path_length)))
    data = _file(connection, length)
    # The kernel ends this process, whatever a library is busy with, and whether or not the daemon is still there.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        decoded = decode(data, path, min_side=min_side, max_pixels=max_pixels)
        decoded = dataclasses.replace(decoded, image=reduced(decoded.image, most_pixels))
        if most_pixels < max_pixels:
            # Questions come now and then, and photos that are indexed one after the other.
            note_use(CHANNELS * decoded.width * decoded.height)
    except PhotoError as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        reason = error.reason.encode(errors="backslashreplace")[:MAX_REASON_BYTES]
        kind = FAILURE_KINDS.index(error.kind)
        connection.sendall(REPLY.pack(False, len(reason), kind, 0, 0, 0, 0) + reason)
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    _send(connection, decoded)


def _send(connection: socket.socket, decoded: Decoded) -> None:
    image = decoded.image
    names = (decoded.format.encode(), decoded.taken_at.encode())
    sides = (*image.size, decoded.width, decoded.height)
    connection.sendall(REPLY.pack(True, *sides, *map(len, names)) + b"".join(names))
    # In strips: all of a large photo at once would need its memory twice.
    rows = max(1, PIECE_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        connection.sendall(strip.tobytes())


def _file(connection: socket.socket, length: int) -> bytes:
    # As a rule all of it comes in one piece, and is held once.
    data = connection.recv(length, socket.MSG_WAITALL)
    return data if len(data) == length else data + bytes(receive(connection, length - len(data)))


def _memory_bytes(statm: int) -> int:
    return int(os.pread(statm, 100, 0).split()[1]) * _PAGE_BYTES


if __name__ == "__main__":
    main()
