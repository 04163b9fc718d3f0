"""Where the daemon is asked: a Unix socket, made here or handed over by a service manager, and a TCP address besides."""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import stat
from typing import TYPE_CHECKING, Protocol

from daemon.errors import ConfigError
from daemon.paths import SOCKET_PATH_BYTES

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

BACKLOG = 128
PROBE_SECONDS = 1.0
FIRST_PASSED = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


class Listener(Protocol):
    """A place where clients connect."""

    def open(self) -> socket.socket:
        """Return a listening socket; ConfigError when there can be none, with the key to change."""

    def close(self) -> None:
        """Remove what `open` has left in the file system."""


class UnixListener:
    """A socket file at `path`, for its owner alone, or for the members of `group` too.

    The caller holds the data directory's lock, so that a socket file which is there and answers nobody is a dead daemon's.
    """

    def __init__(self, path: Path, group: int | None = None) -> None:
        self._path = path
        self._group = group

    def open(self) -> socket.socket:
        return bind(self._path, self._group)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


class PassedListener:
    """A socket of the service manager's, which goes on listening when the daemon has ended, and may start it again."""

    def __init__(self, passed: socket.socket) -> None:
        self._passed = passed
        self.path = os.fsdecode(passed.getsockname())

    def open(self) -> socket.socket:
        return self._passed

    def close(self) -> None:
        """Its file is not ours."""


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


def group_id(name: str) -> int:
    """Return the number of a group; ConfigError where there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        problem = (
            f"At 'api.group': there is no group {name} on this machine; make it with `groupadd {name}`, or name another"
        )
        raise ConfigError("the configuration", [problem]) from error


def bind(path: Path, group: int | None = None) -> socket.socket:
    """Return a listening Unix socket at `path`, readable and writable by its owner alone, or also by a group."""
    _check_length(path)
    if answers(path):
        raise ConfigError(str(path), ["another daemon answers on this socket; set 'socket' to another path"])
    try:
        # Whoever may use the socket must reach it; what lies beside it is in a directory of its own.
        path.parent.mkdir(mode=0o700 if group is None else 0o711, parents=True, exist_ok=True)
        _remove_dead_socket(path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            server.bind(os.fspath(path))
        finally:
            os.umask(before)
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(0o660)
        server.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(
            str(path),
            [f"the socket cannot be made: {(error.strerror or str(error)).lower()}; set 'socket' to another path"],
        ) from error
    return server


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
