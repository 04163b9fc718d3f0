"""Connections: who is at the other end, how many there may be, and how long one may say nothing."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

CLOSING_SECONDS = 5
HEADERS_SECONDS = 20.0
"""How long a client may take to say what it wants."""
_UCRED = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""
UNIX = "unix"


class BoundedSocket(socket.socket):
    """A listening socket that hangs up on whoever comes while as many connections are open as there may be.

    Connections are counted from here on: over TLS, nothing else knows of a client that does not say a word.
    """

    def __init__(self, listening: socket.socket, most: int, *, before: BoundedSocket | None = None) -> None:
        """`before` is the socket that this one takes the place of, whose connections go on and count."""
        super().__init__(fileno=listening.detach())
        self._most = most
        self._accepted: WeakSet[socket.socket] = WeakSet() if before is None else before._accepted  # noqa: SLF001

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a connection; ConnectionAbortedError where there is no room for it."""
        connection, address = super().accept()
        if sum(one.fileno() != -1 for one in self._accepted) >= self._most:
            connection.close()
            raise ConnectionAbortedError
        self._accepted.add(connection)
        return connection, address


class Connection(H11Protocol):
    """One connection. Notes the peer of a Unix socket for `peer_of`, and hangs up on a client that does not say what it wants."""

    _waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            _, user, group = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            self.app_state = {**self.app_state, UNIX: (user, group)}
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_headers()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._waits is None:
            self._waits = self.loop.call_later(HEADERS_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def _give_up(self) -> None:
        self._waits = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()


def peer_of(scope: Any) -> tuple[int, int] | None:
    """Return user and group of the process at the other end of a Unix socket, by the kernel; None for what came over TCP."""
    return cast("tuple[int, int] | None", scope.get("state", {}).get(UNIX))
