"""HTTP over a Unix socket."""

from __future__ import annotations

import os
import socket
import struct
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from cli.errors import DaemonUnreachable
from daemon.paths import SOCKET_PATH_BYTES

if TYPE_CHECKING:
    from pathlib import Path


class UnixConnection(HTTPConnection):
    """Speaks to what listens on `path`; connect() raises DaemonUnreachable, with what to do about it."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path
        self._timeout_seconds = timeout_seconds

    def connect(self) -> None:
        if len(os.fsencode(self._path)) > SOCKET_PATH_BYTES:
            message = (
                f"the socket's path is longer than the {SOCKET_PATH_BYTES} bytes that a socket can have: {self._path}"
            )
            raise DaemonUnreachable(message)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect_socket(self.sock)
        except OSError as error:
            self.close()
            raise self._unreachable(error) from error

    def _connect_socket(self, sock: socket.socket) -> None:
        # With settimeout() alone, connect() to a Unix socket fails at once when its backlog is full, instead of waiting.
        seconds, fraction = divmod(self._timeout_seconds, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(fraction * 1e6)))
        sock.connect(os.fspath(self._path))
        sock.settimeout(self._timeout_seconds)

    def _unreachable(self, error: OSError) -> DaemonUnreachable:
        path = self._path
        match error:
            case FileNotFoundError() | ConnectionRefusedError():
                message = (
                    f"lookaliked is not running (nothing listens on {path}); start it with: lookaliked run ~/Pictures"
                )
            case PermissionError():
                message = f"you may not ask this lookaliked: permission denied on {path}"
            case BlockingIOError():
                message = f"lookaliked did not take the connection within {self._timeout_seconds:g} seconds (on {path})"
            case _:
                message = f"cannot connect to {path}: {error.strerror or error}"
        return DaemonUnreachable(message)
