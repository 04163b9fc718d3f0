"""Paths that are longer than a system call takes: a tree may be deeper than that, for its directories are opened one by one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

MAX_BYTES = 4095
"""PATH_MAX of linux/limits.h, without the NUL at the end."""
PIECE_BYTES = 2048
"""A name has at most 255 bytes, so that a piece which reaches this length is far below the limit."""


def is_too_long(error: OSError) -> bool:
    return error.errno == errno.ENAMETOOLONG


def lstat(path: str) -> os.stat_result:
    """Return what os.lstat() does, however long the path is; OSError as there."""
    try:
        return os.lstat(path)
    except OSError as error:
        if not is_too_long(error):
            raise
    return _lstat_in_pieces(os.fsencode(path))


def is_there(path: str) -> bool:
    """Whether anything is at `path`, a dangling link too, however long the path is."""
    with suppress(OSError, ValueError):
        lstat(path)
        return True
    return False


def _lstat_in_pieces(path: bytes) -> os.stat_result:
    """Open a directory a piece of the path further down, until the rest is short."""
    directory = os.open(b"/" if path.startswith(b"/") else b".", os.O_PATH | os.O_CLOEXEC)
    rest = path.lstrip(b"/")
    try:
        while len(rest) > PIECE_BYTES and b"/" in rest[:PIECE_BYTES]:
            piece, rest = rest[:PIECE_BYTES].rpartition(b"/")[0], rest[rest[:PIECE_BYTES].rindex(b"/") + 1 :]
            below = os.open(piece, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = below
        return os.lstat(rest, dir_fd=directory)
    finally:
        os.close(directory)
