"""HTTP over a Unix socket."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING

from cli.errors import DaemonUnreachable
from cli.peer import Stranger, check_peer, check_place
from daemon.holder import locked_by
from daemon.paths import SOCKET_PATH_BYTES, NoHomeDirectory, asked_data_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PIECE_BYTES = 1024 * 1024


class UnixConnection(HTTPConnection):
    """One connection to what listens on `path`, opened by the first request and kept for the next."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path
        self._timeout_seconds = timeout_seconds

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | Iterator[bytes] | None,
        headers: dict[str, str],
        *,
        wait_seconds: float,
    ) -> tuple[int, bytes]:
        """Return the HTTP status and the body of the answer.

        Raises DaemonUnreachable, with what to do about it, when there is no answer: `wait_seconds` is for how much
        longer than otherwise it may take.
        """
        timeout_seconds = self._timeout_seconds + wait_seconds
        with self._spoken(timeout_seconds):
            self._send(method, target, body, headers)
            self.sock.settimeout(timeout_seconds)
            with self.getresponse() as response:
                return response.status, response.read()

    def stream(self, target: str) -> tuple[int, Iterator[bytes]]:
        """GET `target`; return the HTTP status, and the body in pieces as they come. Both raise DaemonUnreachable as `ask` does."""
        with self._spoken(self._timeout_seconds):
            self._send("GET", target, None, {})
            response = self.getresponse()
        return response.status, self._pieces(response)

    def _pieces(self, response: HTTPResponse) -> Iterator[bytes]:
        with response, self._spoken(self._timeout_seconds):
            while piece := response.read1(_PIECE_BYTES):
                yield piece

    @contextmanager
    def _spoken(self, timeout_seconds: float) -> Iterator[None]:
        """Say in a sentence how a conversation ended that has not come to its end."""
        try:
            yield
        except TimeoutError as error:
            message = _naming_holder(f"lookaliked did not answer within {timeout_seconds:g} seconds (on {self._path})")
            raise DaemonUnreachable(message) from error
        except (OSError, HTTPException) as error:
            message = f"lookaliked closed the connection before it answered (on {self._path})"
            raise DaemonUnreachable(message) from error

    def _send(self, method: str, target: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str]) -> None:
        # The daemon may answer and hang up before it has read everything: the answer is there although sending failed.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.request(method, target, body=body, headers=headers)

    def connect(self) -> None:
        if len(os.fsencode(self._path)) > SOCKET_PATH_BYTES:
            message = (
                f"the socket's path is longer than the {SOCKET_PATH_BYTES} bytes that a socket can have: {self._path}"
            )
            raise DaemonUnreachable(message)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            check_place(self._path)
            self._connect_socket(self.sock)
            # Nothing has been sent yet.
            check_peer(self._path, self.sock)
        except Stranger as error:
            self.close()
            raise DaemonUnreachable(str(error)) from error
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
                message = _not_listening(path)
            case PermissionError():
                message = f"you may not ask this lookaliked: permission denied on {path}"
            case BlockingIOError():
                message = _naming_holder(
                    f"lookaliked did not take the connection within {self._timeout_seconds:g} seconds (on {path})"
                )
            case _:
                message = f"cannot connect to {path}: {error.strerror or error}"
        return DaemonUnreachable(message)


def _not_listening(path: Path) -> str:
    holder = _holder()
    if not holder:
        return f"lookaliked is not running (nothing listens on {path}); start it with: lookaliked run ~/Pictures"
    return (
        f"lookaliked does not answer: nothing listens on {path}, but {holder}. "
        "That process may still be starting, or listen on another socket (--socket); if it hangs, restart it"
    )


def _naming_holder(sentence: str) -> str:
    holder = _holder()
    return f"{sentence}; {holder}" if holder else sentence


def _holder() -> str:
    """Return which process works on the data directory of this user, empty where none does."""
    with suppress(RuntimeError, NoHomeDirectory):
        # Without a home there is no usual place.
        data_dir = asked_data_dir()
        if told := locked_by(data_dir):
            return f"{data_dir} {told}"
    return ""
