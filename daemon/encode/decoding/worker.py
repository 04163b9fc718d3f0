"""A decoder: confines itself, then turns files into pixels, one at a time, until the daemon hangs up.

The process that the daemon starts reads no photo. A copy of it does, which is confined further and soon gives way to a fresh copy: after
PHOTOS_EACH photos, after one that could not be decoded, after one that took much memory, and after one whose library needs a thread.
So a photo that has taken a decoder over meets few others.

Run as `python -I -m daemon.encode.decoding.worker MEMORY_BYTES`, with its socket as standard input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import os
import resource
import signal
import socket
import sys

from PIL import ExifTags, Image, ImageCms  # noqa: F401 - imported late by convert(), when no file can be opened any more

from daemon.allocator import give_back, keep_freed_memory, note_use, owes_memory
from daemon.encode.decoding.confinement import confine, confine_further
from daemon.encode.decoding.protocol import (
    CHANNELS,
    CONFINEMENTS,
    EXIT_NO_MEMORY,
    HELLO,
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
PHOTOS_EACH = 1000
"""Photos that one copy decodes at most. The next copy costs some 10 ms, most of them for pages that both write to."""
GROWN_BYTES = 512 * 2**20
"""A copy that has taken more memory than this gives way, so that one large photo is not paid for by all that follow."""
EXIT_RECYCLED = 75
"""How a copy ends that is to be followed by another one: EX_TEMPFAIL of sysexits.h."""


def main() -> None:
    """Serve until the socket is closed, and end as the last copy of this process did."""
    # A service manager tells every process of a service to end; the daemon decides when.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep_freed_memory()
    connection = socket.socket(fileno=0)
    rehearse()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    by = confine(int(sys.argv[1]), "processes")
    try:
        connection.sendall(HELLO.pack(sum(1 << CONFINEMENTS.index(name) for name in by)))
    except ConnectionError:
        return
    # A collection in a copy would write to every object, and so copy every page.
    gc.collect()
    gc.freeze()
    status = EXIT_RECYCLED
    while status == EXIT_RECYCLED:
        status = _status_of_copy(connection)
    if status < 0:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    os._exit(abs(status))


def _status_of_copy(connection: socket.socket) -> int:
    """Let a copy of this process serve, and return how it ended: below 0 for a signal."""
    ours = os.getpid()
    copy = os.fork()
    if copy:
        return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    status = 1
    try:
        status = _serve_some(connection, ours)
    except (EndOfStream, ConnectionError):
        status = 0
    except MemoryError:
        # Where decode() has not caught it: while the file comes in, or the pixels go out.
        status = EXIT_NO_MEMORY
    finally:
        os._exit(status)


def _serve_some(connection: socket.socket, parent: int) -> int:
    """Answer requests of one kind as long as this copy may; EndOfStream when the daemon has hung up."""
    has_threads = _needs_a_thread(connection)
    confine_further(parent, "threads" if has_threads else "nothing")
    for _ in range(1 if has_threads else PHOTOS_EACH):
        # Another kind is left for the next copy.
        if _needs_a_thread(connection) != has_threads or not serve(connection) or _has_grown():
            break
        if owes_memory():
            give_back()
    return EXIT_RECYCLED


def _needs_a_thread(connection: socket.socket) -> bool:
    """Return what the next request says, which stays where it is: the daemon sends its head in one piece."""
    head = connection.recv(REQUEST.size, socket.MSG_PEEK)
    if len(head) < REQUEST.size:
        raise EndOfStream
    return bool(REQUEST.unpack(head)[0])


def _has_grown() -> bool:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 >= GROWN_BYTES


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
    # Noise by the name of a TGA, and a PSD of one gray pixel, which Pillow does not read.
    psd = b"8BPS\0\1" + b"\0" * 6 + b"\0\1\0\0\0\1\0\0\0\1\0\x08\0\1" + b"\0" * 12 + b"\0\0\x80"
    for name, data in (("a.tga", b"\0" * 64), ("a.psd", psd)):
        with contextlib.suppress(PhotoError):
            decode(data, name, min_side=8, max_pixels=256)


def serve(connection: socket.socket) -> bool:
    """Answer one request, and return whether the photo could be decoded; EndOfStream when the daemon has hung up."""
    _, min_side, max_pixels, most_pixels, seconds, path_length, length = REQUEST.unpack(
        receive(connection, REQUEST.size)
    )
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
        return False
    signal.setitimer(signal.ITIMER_REAL, 0)
    _send(connection, decoded)
    return True


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


if __name__ == "__main__":
    main()
