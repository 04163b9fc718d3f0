"""Whose a directory or file is: files of our own are opened without following a link or waiting, and looked at once they are open.

A refusal is an OSError whose `strerror` is the reason. Standard library only: the CLI imports it.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
MOST_LINKS = 40
"""MAXSYMLINKS of the kernel: linux/namei.h."""
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ITSELF = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def ours() -> frozenset[int]:
    """Return the users who may own what this process trusts: the one it runs as, and root."""
    return frozenset({os.geteuid(), ROOT})


def open_file(path: Path, flags: int) -> int:
    """Open a regular file of our own and return its descriptor. The file is closed to the writing of others, if it is open to that.

    OSError where the file is a link or a pipe, belongs to somebody else, or has another name besides.
    """
    descriptor = _opened(path, flags)
    try:
        found = os.fstat(descriptor)
        if reason := _not_regular(found) or _foreign(found, {os.geteuid()}):
            raise refused(reason, path)
        if found.st_nlink > 1:
            raise refused("it has other names too (hard links)", path)
        if found.st_mode & _OTHERS_WRITE:
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_file(path: Path, content: bytes) -> None:
    """Put `content` into a file of our own; OSError as `open_file`, and then nothing was changed."""
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        # Not before the file was looked at.
        file.truncate(0)
        file.write(content)


def read_file(path: Path, at_most: int, *, owners: Collection[int] | None = None) -> bytes:
    """Return the first `at_most` bytes of a regular file, whoever owns it unless `owners` are given; OSError where `path` is no file."""
    with os.fdopen(open_existing(path), "rb") as file:
        if owners and (reason := _foreign(os.fstat(file.fileno()), owners)):
            raise refused(reason, path)
        return file.read(at_most)


def open_existing(path: Path) -> int:
    """Open a regular file for reading, whoever owns it, and return its descriptor; OSError where it is anything else."""
    descriptor = _opened(path, os.O_RDONLY)
    if reason := _not_regular(os.fstat(descriptor)):
        os.close(descriptor)
        raise refused(reason, path)
    return descriptor


def open_named(path: str, flags: int) -> int:
    """Open as `open` wants it of an opener: a regular file that somebody names, links followed. A pipe is refused and not waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if reason := _not_regular(found):
        os.close(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise refused(reason, path)
    return descriptor


def check_directories(*paths: Path) -> None:
    """OSError where one of the directories is not ours or root's, or can be written by others; a missing one is fine.

    One may be a link that nobody else can have put there, as of a user who has moved the directory to another disk.
    """
    for path in paths:
        try:
            found = os.stat(path) if link_is_ours(path) else os.lstat(path)
        except FileNotFoundError:
            continue
        if reason := directory_refusal(found, ours()):
            raise refused(reason, path)


def open_surely(path: Path) -> int:
    """Open the directory at an absolute path and return its descriptor, which is one for `dir_fd` alone (O_PATH).

    On the way, only links are followed that nobody but us or root can have put there, so that nobody else decides where the path leads.
    OSError where there is another link, or no directory.
    """
    waiting = list(reversed(path.parts[1:]))
    links = 0
    here = os.open("/", _PLACE)
    try:
        while waiting:
            name = waiting.pop()
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                links += 1
                if links > MOST_LINKS or found.st_uid not in ours() or _open_to_others(os.fstat(here)):
                    raise refused(f"{name} is a symbolic link", path)
                target = os.readlink(name, dir_fd=here)
                waiting.extend(part for part in reversed(target.split("/")) if part)
                if not target.startswith("/"):
                    continue
                name = "/"
            below = os.open(name, _PLACE, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


def directory_refusal(found: os.stat_result, owners: Collection[int], *, may_be_shared: bool = False) -> str | None:
    """Return why this process must not use a directory, None where it may."""
    if stat.S_ISLNK(found.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "it is no directory"
    if reason := _foreign(found, owners):
        return reason
    return None if may_be_shared and found.st_mode & stat.S_ISVTX else _open_to_others(found)


def link_is_ours(path: Path) -> bool:
    """Return whether `path` is a symbolic link that nobody but us or root can have put there."""
    try:
        link, around = os.lstat(path), os.stat(path.parent)
    except OSError:
        return False
    return (
        stat.S_ISLNK(link.st_mode)
        and link.st_uid in ours()
        and directory_refusal(around, ours(), may_be_shared=True) is None
    )


def is_barred(path: Path) -> bool:
    """Return whether a directory on the way keeps this user from seeing what is at `path`, if anything."""
    try:
        os.stat(path)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def is_of_own_group(found: os.stat_result) -> bool:
    """Return whether the group of a file is the private one of its owner: same name, and nobody else in it.

    Where users have such groups, they commonly let their group write.
    """
    try:
        user, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    return user.pw_gid == group.gr_gid and user.pw_name == group.gr_name and set(group.gr_mem) <= {user.pw_name}


def user_name(uid: int) -> str:
    """Return what a user is called; the number, where nobody has given a name to it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def refused(reason: str, path: Path | str) -> OSError:
    """Return the error that says why `path` is not used."""
    return PermissionError(errno.EPERM, reason, str(path))


def _opened(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _ITSELF, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise refused("it is a symbolic link", path) from error
        if error.errno == errno.ENXIO:
            raise refused("it is no regular file", path) from error
        raise
    # A child that is given the descriptor may not expect that.
    os.set_blocking(descriptor, True)
    return descriptor


def _not_regular(found: os.stat_result) -> str | None:
    return None if stat.S_ISREG(found.st_mode) else "it is no regular file"


def _foreign(found: os.stat_result, owners: Collection[int]) -> str | None:
    return None if found.st_uid in owners else f"it belongs to the user {user_name(found.st_uid)}"


def _open_to_others(found: os.stat_result) -> str | None:
    if found.st_mode & stat.S_IWOTH:
        return "it can be written by every user"
    if found.st_mode & stat.S_IWGRP and not is_of_own_group(found):
        return "it can be written by its group"
    return None
