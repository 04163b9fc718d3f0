"""Deletes files and directories, also as root where another user fills them: no link is followed, and nothing is waited for."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from typing import TYPE_CHECKING

from daemon import ownership

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: Path) -> None:
    """Delete what is at an absolute path, a directory with all below it; that nothing is there is fine. OSError where it cannot be."""
    try:
        with _opened(path.parent) as around:
            _remove_in(around, path.name)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_empty(path: Path) -> None:
    """Delete a directory; OSError where it is not empty, or is something else."""
    with _opened(path.parent) as around:
        os.rmdir(path.name, dir_fd=around)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = ownership.open_surely(directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_in(around: int, name: str) -> None:
    if not _is_directory(around, name):
        os.unlink(name, dir_fd=around)
        return
    top = os.open(name, _DIRECTORY, dir_fd=around)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=around)


def _empty(top: int) -> None:
    """Delete everything in a directory, however deep: directories are brought up into it, so that none has to be entered from another."""
    # A name that nobody can have foreseen.
    token = os.urandom(8).hex()
    names = (f".lookalike-{token}-{number}" for number in itertools.count())
    waiting = _unlink_all(top, top, names)
    while waiting:
        name = waiting.pop()
        below = os.open(name, _DIRECTORY, dir_fd=top)
        try:
            waiting += _unlink_all(below, top, names)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=top)


def _unlink_all(directory: int, top: int, names: Iterator[str]) -> list[str]:
    """Delete all files of a directory; return the names that its directories have in `top` now."""
    found = []
    for name in os.listdir(directory):
        if not _is_directory(directory, name):
            os.unlink(name, dir_fd=directory)
            continue
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=directory)
            continue
        brought = next(names)
        os.rename(name, brought, src_dir_fd=directory, dst_dir_fd=top)
        found.append(brought)
    return found


def _is_directory(around: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=around, follow_symlinks=False).st_mode)
