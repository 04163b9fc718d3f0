"""Make sure that a command asks a daemon of yours, of root's, of the machine's service, or of a user whom you name."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from daemon import ownership
from daemon.paths import SYSTEM_SOCKET

if TYPE_CHECKING:
    from pathlib import Path

DAEMON_USER = "LOOKALIKE_DAEMON_USER"
"""The variable that names one more user to trust."""
_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): process, user and group."""


class Stranger(Exception):  # noqa: N818 - it reads as the sentence it is
    """Somebody else could answer. Its text is a sentence."""


def check_place(path: Path) -> None:
    """Refuse a socket that another user has put there, or could replace; Stranger says why. A missing one is for `connect` to find."""
    trusted = _trusted(path)
    with suppress(OSError):
        _check_directory(path.parent, os.lstat(path.parent), trusted)
        _check_socket(path, os.lstat(path), trusted)


def _check_directory(directory: Path, found: os.stat_result, trusted: frozenset[int]) -> None:
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        # That is for `connect` to tell.
        return
    # Nobody can put a file of ours into a directory with the sticky bit, or take one out of it.
    if reason := ownership.directory_refusal(found, trusted, may_be_shared=True):
        raise Stranger(f"{directory} is not used: {reason}{_advice(found.st_uid, trusted)}")


def _check_socket(path: Path, found: os.stat_result, trusted: frozenset[int]) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise Stranger(f"{path} is not used: it is a symbolic link")
    if found.st_uid not in trusted:
        owner = ownership.user_name(found.st_uid)
        raise Stranger(f"{path} is not used: it belongs to the user {owner}{_advice(found.st_uid, trusted)}")
    if stat.S_ISSOCK(found.st_mode) and found.st_mode & stat.S_IWOTH:
        raise Stranger(f"{path} is not used: every user can write to it")


def check_peer(path: Path, connected: socket.socket) -> None:
    """Refuse a process at the other end that is not of a trusted user: the kernel says whose it was when it began to listen."""
    trusted = _trusted(path)
    said = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(said)
    if user not in trusted:
        raise Stranger(
            f"nothing was sent: a process of the user {ownership.user_name(user)} listens on {path}{_advice(user, trusted)}"
        )


def _trusted(path: Path) -> frozenset[int]:
    """Return the users who may listen at `path`."""
    trusted = set(ownership.ours())
    if os.geteuid() == ownership.ROOT and (before := os.environ.get("SUDO_UID", "")).isdecimal():
        # The person who asks became root to do so.
        trusted.add(int(before))
    if (named := os.environ.get(DAEMON_USER)) and (user := _number(named)) is not None:
        trusted.add(user)
    if path.parent == SYSTEM_SOCKET.parent:
        trusted |= _owners_of_service(path)
    return frozenset(trusted)


def _number(user: str) -> int | None:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _owners_of_service(path: Path) -> set[int]:
    """Return who the service of the machine runs as: root alone has given its directory away, or put its socket into it."""
    root = {ownership.ROOT}
    try:
        above, around, found = os.lstat(path.parents[1]), os.lstat(path.parent), os.lstat(path)
    except OSError:
        return set()
    if ownership.directory_refusal(above, root):
        return set()
    if ownership.directory_refusal(around, root) is None:
        return {found.st_uid}
    return {around.st_uid}


def _advice(user: int, trusted: frozenset[int]) -> str:
    if user in trusted:
        return ""
    return f"; if you mean to ask that user, set {DAEMON_USER}={ownership.user_name(user)}"
