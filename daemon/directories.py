"""Directories of our own: made where they are not there, and refused where another user could have put something into them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from daemon import ownership
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAY_BE_LINKS = ("data_dir", "cache_dir")
"""Directories that their user may have moved to another disk, with a link in the old place."""


def make_directory(path: Path, key: str, *, private: bool = False) -> None:
    """Make `path`, or accept one that is ours and that nobody else can write; `key` is what to change in the configuration.

    `private` closes the directory to everyone else.
    """
    try:
        _make(path, key, private=private)
        if not os.access(path, os.W_OK | os.X_OK):
            raise ConfigError(key, [f"{path} is not writable; change its mode, or choose another {key}"])
    except OSError as error:
        raise ConfigError(key, [f"{path} cannot be made a directory of ours: {error.strerror}"]) from error


def _make(path: Path, key: str, *, private: bool) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if not (key in MAY_BE_LINKS and ownership.link_is_ours(path)):
        flags |= os.O_NOFOLLOW
    if flags & os.O_NOFOLLOW and path.is_symlink():
        raise ConfigError(key, [f"{path} is a symbolic link; name the directory itself as {key}"])
    descriptor = os.open(path, flags)
    try:
        _check(descriptor, path, key, private=private)
    finally:
        os.close(descriptor)


def _check(descriptor: int, path: Path, key: str, *, private: bool) -> None:
    found = os.fstat(descriptor)
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        raise ConfigError(key, [f"{path} belongs to another user; choose another {key}"])
    if private:
        os.fchmod(descriptor, 0o700)
    elif mode & stat.S_IWOTH:
        raise ConfigError(key, [f"{path} can be written by every user; close it (chmod o-w), or choose another {key}"])
    elif mode & stat.S_IWGRP and not ownership.is_of_own_group(found):
        raise ConfigError(key, [f"{path} can be written by its group; close it (chmod g-w), or choose another {key}"])
