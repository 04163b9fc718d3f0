"""Serve the application on a Unix socket, in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from typing import TYPE_CHECKING

import uvicorn

from daemon.api.activation import inherited
from daemon.errors import ConfigError
from daemon.lifecycle import Worker
from daemon.paths import SOCKET_PATH_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette

BACKLOG = 128
START_SECONDS = 10.0
PROBE_SECONDS = 1.0


class Server:
    """HTTP on the Unix socket at `path`, which only its owner may use.

    The caller holds the data directory's lock, so that a socket file which is there and answers nobody is a dead daemon's.
    """

    name = "api"

    def __init__(self, app: Starlette, path: Path) -> None:
        self._path = path
        self._state = app.state
        self._state.stopping = False
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5, server_header=False
            )
        )
        self._socket: socket.socket | None = None
        self._is_ours = True
        self._worker = Worker("api", self._serve)

    def start(self) -> None:
        """Take the service manager's socket, or bind one; ConfigError when it cannot be, with the key to change."""
        self._socket = inherited()
        self._is_ours = self._socket is None
        if self._socket is None:
            self._socket = bind(self._path)
        self._worker.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started and self._worker.alive and time.monotonic() < deadline:
            time.sleep(0.005)
        self._worker.check()

    def stop(self) -> None:
        # Whoever waits for something is answered.
        self._state.stopping = True
        self._server.should_exit = True
        self._worker.join()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            # The service manager listens on its own until the next start.
            if self._is_ours:
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def check(self) -> None:
        self._worker.check()

    def _serve(self) -> None:
        assert self._socket is not None  # noqa: S101 - for the type checker
        self._server.run(sockets=[self._socket])


def bind(path: Path) -> socket.socket:
    """Return a listening Unix socket at `path`, readable and writable by its owner alone."""
    _check_length(path)
    if _answers(path):
        raise ConfigError(str(path), ["another daemon answers on this socket; set 'socket' to another path"])
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_dead_socket(path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            server.bind(os.fspath(path))
        finally:
            os.umask(before)
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


def _answers(path: Path) -> bool:
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
