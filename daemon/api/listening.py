"""Where the daemon is asked: a Unix socket, made here or handed over by a service manager, and a TCP address besides."""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import socket
import stat
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from daemon import ownership
from daemon.errors import ConfigError
from daemon.paths import SOCKET_PATH_BYTES, SYSTEM_SOCKET
from daemon.places import Inode

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

log = logging.getLogger(__name__)

BACKLOG = 128
PROBE_SECONDS = 1.0
FIRST_PASSED = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""
# linux/posix_acl.h
_USER_OBJ, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
_READ_WRITE = 0x06
_UNDEFINED = 2**32 - 1
_ACL_VERSION = 2


class Listener(Protocol):
    """A place where clients connect."""

    def open(self) -> socket.socket:
        """Return a listening socket; ConfigError when there can be none, with the key to change."""

    def reopen(self) -> socket.socket | None:
        """Return a socket to listen on instead, where clients cannot reach the one that was opened; None where nothing is to be done.

        ConfigError when there can be none now.
        """

    def close(self) -> None:
        """Remove what `open` has left in the file system."""


class UnixListener:
    """A socket file at `path`, for its owner alone, or for the members of `groups` too.

    The caller holds the data directory's lock, so that a socket file which is there and answers nobody is a dead daemon's.
    """

    def __init__(self, path: Path, *groups: int) -> None:
        self._path = path
        self._groups = groups
        self._bound: Inode | None = None

    def open(self) -> socket.socket:
        listening = bind(self._path, *self._groups)
        try:
            self._bound = Inode.of(self._path)
        except OSError as error:
            listening.close()
            raise _cannot_be_made(self._path, error) from error
        return listening

    def reopen(self) -> socket.socket | None:
        if self._is_in_place:
            return None
        aside = _put_aside(self._path)
        listening = self.open()
        also = f"; the file that took its place is now {aside}" if aside else ""
        log.warning("the socket %s was removed or replaced; lookaliked listens on it again%s", self._path, also)
        return listening

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._is_in_place:
                self._path.unlink()

    @property
    def _is_in_place(self) -> bool:
        return self._bound is not None and self._bound.is_at(self._path)


class PassedListener:
    """A socket of the service manager's, which goes on listening when the daemon has ended, and may start it again."""

    def __init__(self, passed: socket.socket) -> None:
        self._passed = passed
        self.path = os.fsdecode(passed.getsockname())
        self._bound = self._at_path()
        self._is_missed = False

    def open(self) -> socket.socket:
        return self._passed

    def reopen(self) -> socket.socket | None:
        """Return None, for the socket is the service manager's; say so once where its file was removed or replaced."""
        is_missed = not self._is_in_place
        if is_missed and not self._is_missed:
            scope = "" if self.path == str(SYSTEM_SOCKET) else " --user"
            log.warning(
                "the socket %s was removed or replaced, and systemd has to make it again: systemctl%s restart lookaliked.socket",
                self.path,
                scope,
            )
        self._is_missed = is_missed
        return None

    def close(self) -> None:
        """Its file is not ours."""

    def _at_path(self) -> Inode | None:
        with contextlib.suppress(OSError, ValueError):
            return Inode.of(Path(self.path))
        return None

    @property
    def _is_in_place(self) -> bool:
        if not self.path.startswith("/"):
            # An abstract name, which nobody can remove.
            return True
        return self._bound is not None and self._bound.is_at(Path(self.path))


class TcpListener:
    """The TCP address HOST:PORT."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    def open(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            return socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            problem = (
                f"{self._host} port {self._port} cannot be listened on: {reason}; set 'api.listen' to another address"
            )
            raise ConfigError("the configuration", [problem]) from error

    def reopen(self) -> socket.socket | None:
        """Return None: nobody can take an address away."""

    def close(self) -> None:
        """Nothing is left of it."""


def passed_socket(environment: MutableMapping[str, str]) -> PassedListener | None:
    """Return the Unix socket that the service manager listens on, None where it does not, and take the variables that say so.

    ConfigError where it passes anything else: sd_listen_fds(3).
    """
    process, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isascii() or not count.isdigit() or not int(count):
        return None
    if int(count) > 1:
        raise ConfigError(
            "lookaliked.socket", [f"it passes {count} sockets, and lookaliked takes one; keep one ListenStream="]
        )
    passed = socket.socket(fileno=FIRST_PASSED)
    # Our own children must not keep it open.
    passed.set_inheritable(False)
    if passed.family != socket.AF_UNIX or passed.type != socket.SOCK_STREAM:
        raise ConfigError(
            "lookaliked.socket", ["its ListenStream= has to be a path, for a Unix socket; TCP is api.listen"]
        )
    return PassedListener(passed)


def group_id(name: str, key: str) -> int:
    """Return the number of the group that `key` of the configuration names; ConfigError where this machine has no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        problem = (
            f"At '{key}': there is no group {name} on this machine; make it with `groupadd {name}`, or name another"
        )
        raise ConfigError("the configuration", [problem]) from error


def bind(path: Path, *groups: int) -> socket.socket:
    """Return a listening Unix socket at `path`, readable and writable by its owner alone, or also by groups."""
    _check_length(path)
    if answers(path):
        raise ConfigError(str(path), ["another daemon answers on this socket; set 'socket' to another path"])
    try:
        # Whoever may use the socket must reach it; what lies beside it is in a directory of its own.
        path.parent.mkdir(mode=0o711 if groups else 0o700, parents=True, exist_ok=True)
        _refuse_directory_of_others(path.parent)
        _remove_dead_socket(path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            server.bind(os.fspath(path))
        finally:
            os.umask(before)
        if groups:
            _open_to(path, *dict.fromkeys(groups))
        server.listen(BACKLOG)
    except OSError as error:
        raise _cannot_be_made(path, error) from error
    return server


def _open_to(path: Path, first: int, *others: int) -> None:
    os.chown(path, -1, first)
    path.chmod(0o660)
    if not others:
        return
    try:
        os.setxattr(path, "system.posix_acl_access", _access_list(others))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        log.warning(
            "only members of 'api.group' can open the socket %s: its file system keeps no access list for 'api.admin_group' too (%s)",
            path,
            reason,
        )


def _access_list(groups: Sequence[int]) -> bytes:
    """Return what mode 0660 says, and the same for further groups: linux/posix_acl_xattr.h."""
    entries = [
        (_USER_OBJ, _READ_WRITE, _UNDEFINED),
        (_GROUP_OBJ, _READ_WRITE, _UNDEFINED),
        *((_GROUP, _READ_WRITE, group) for group in sorted(groups)),
        (_MASK, _READ_WRITE, _UNDEFINED),
        (_OTHER, 0, _UNDEFINED),
    ]
    return struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _cannot_be_made(path: Path, error: OSError) -> ConfigError:
    reason = (error.strerror or str(error)).lower()
    return ConfigError(str(path), [f"the socket cannot be made: {reason}; set 'socket' to another path"])


def _refuse_directory_of_others(directory: Path) -> None:
    """Refuse a directory in which another user could put a socket in the place of ours: not where the sticky bit is set."""
    found = os.lstat(directory)
    if reason := ownership.directory_refusal(found, ownership.ours(), may_be_shared=True):
        problem = f"the socket cannot be made in it: {reason}; close it, or set 'socket' to a path in another directory"
        raise ConfigError(str(directory), [problem])


def _put_aside(path: Path) -> Path | None:
    """Rename what is no socket and has taken the place of ours, never deleting it; return its new path."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            return None
        aside = path.with_name(time.strftime(f"{path.name}.aside-%Y%m%dT%H%M%S"))
        path.rename(aside)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _cannot_be_made(path, error) from error
    return aside


def _remove_dead_socket(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(str(path), ["something that is no socket is in the way; set 'socket' to another path"])
        path.unlink()


def _check_length(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES:
        raise ConfigError(
            str(path),
            [
                f"the path of a socket has at most {SOCKET_PATH_BYTES} bytes, and this one has {length}; set 'socket' to a shorter one"
            ],
        )


def answers(path: Path) -> bool:
    """Whether somebody listens on the Unix socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except (TimeoutError, BlockingIOError):
            # A full backlog: somebody listens, and is busy or hangs.
            return True
        except OSError:
            return False
    return True
