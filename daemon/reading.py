"""Files of a watched folder are read whole, or not at all, and never through a link or a pipe."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from daemon.changes import FileStat
from daemon.errors import PhotoError

if TYPE_CHECKING:
    from daemon.beneath import Disk


class ChangedWhileRead(Exception):  # noqa: N818 - an event, not an error
    """A file was written to while it was read."""


def read_whole(path: str, max_bytes: int, disk: Disk) -> tuple[bytes, FileStat]:
    """Return the bytes of a file of the watched folders, and the stat they belong to.

    Raises FileNotFoundError when there is none, ChangedWhileRead when it was written to meanwhile, PhotoError when it cannot or
    must not be read; OSError when the system can open no further file now.
    """
    try:
        with open(path, "rb", buffering=0, opener=partial(open_itself, disk)) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if before.st_size > max_bytes:
                reason = f"it has {before.st_size:,} bytes, more than limits.max_file_bytes ({max_bytes:,}) allows"
                raise PhotoError(path, reason, "too_large")
            data = file.read()
            after = os.fstat(file.fileno())
    except OSError as error:
        if error.errno in _NO_FILE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        if error.errno in _NO_MORE_FILES:
            raise
        raise PhotoError(path, f"it cannot be read: {(error.strerror or str(error)).lower()}", "unreadable") from error
    known = FileStat.of(after)
    if FileStat.of(before) != known or len(data) != known.size:
        raise ChangedWhileRead
    return data, known


_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO})
"""What opening says where there is nothing, a directory, a symbolic link (with O_NOFOLLOW), or a socket: open(2)."""
_NO_MORE_FILES = frozenset({errno.EMFILE, errno.ENFILE})
"""This process, or all processes together, have too many files open: that is not the fault of the file."""


def open_itself(disk: Disk, path: str, flags: int) -> int:
    """Open as `open` wants it of an opener: no link on the way or at the end is followed, and a pipe is not waited for."""
    return disk.opened(path, flags | os.O_NONBLOCK)
