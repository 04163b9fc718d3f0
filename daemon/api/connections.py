"""Connections: who is at the other end, how many there may be, and how long each may keep the daemon waiting."""

from __future__ import annotations

import enum
import ipaddress
import itertools
import socket
import struct
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    Peer = str | int
    """A user of this machine, or an address."""

CLOSING_SECONDS = 5
HEADERS_SECONDS = 20.0
"""How long a client may take to say what it wants, the handshake of TLS included."""
REST_SECONDS = 5.0
"""How long a client that has its answer may take to end its request."""
UNSENT_SECONDS = 30.0
"""How long a client may take to read the next `UNSENT_BYTES` of its answer, or the rest of it."""
UNSENT_BYTES = 64 * 1024
MOST_UNSENT_BYTES = 128 * 2**20
"""Answers that wait for their clients take at most this much memory together; beyond it the slowest clients lose theirs."""
LOOKED_THROUGH = 64
"""So many connections of one peer are looked through for one that waits longer than others."""
_UCRED = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""
_IPV6_NETWORK = 64
"""One customer has as many addresses as this prefix leaves: RFC 6177."""
UNIX = "unix"


class Waits(enum.Enum):
    """The next thing that has to happen on a connection."""

    HEAD = enum.auto()
    """A client that has not said what it wants."""
    REST = enum.auto()
    """The end of a request that has been answered."""
    READER = enum.auto()
    """A client that does not read."""
    BODY = enum.auto()
    """The body of a request; whoever reads it has an eye on its pace."""
    NOTHING = enum.auto()
    """The daemon has to do something."""


class Ledger:
    """Every connection of one server. The server's thread owns it; `count` may be read from any thread.

    There is always room for a newcomer while one of the connections waits for its client: the peer with the most connections loses
    the one that has waited longest.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_peer: dict[Peer, OrderedDict[Accepted, None]] = {}
        self._by_number: dict[int, Accepted] = {}

    @property
    def count(self) -> int:
        return len(self._by_number)

    def of(self, number: int) -> Accepted | None:
        """Return the connection with this file descriptor."""
        return self._by_number.get(number)

    def make_room(self) -> bool:
        """Return whether there is room for one more connection, after one was hung up on where that was needed."""
        if self.count < self._most:
            return True
        victim = _longest_waiting(max(self._by_peer.values(), key=len))
        if victim is None:
            return False
        victim.hang_up()
        return True

    def add(self, one: Accepted) -> None:
        self._by_number[one.number] = one
        self._by_peer.setdefault(one.peer, OrderedDict())[one] = None

    def touch(self, one: Accepted) -> None:
        """Note that a connection has said something that counts."""
        self._by_peer[one.peer].move_to_end(one)

    def remove(self, one: Accepted) -> None:
        # A socket may be closed twice, and its number be another's by then.
        if self._by_number.get(one.number) is not one:
            return
        del self._by_number[one.number]
        of_peer = self._by_peer[one.peer]
        del of_peer[one]
        if not of_peer:
            del self._by_peer[one.peer]

    def look(self) -> None:
        """Hang up on every client that has kept the daemon waiting for too long, or its memory from others."""
        now = time.monotonic()
        everyone = list(self._by_number.values())
        for one in everyone:
            if one.is_overdue(now):
                one.hang_up()
        unsent = sorted((one for one in everyone if one.unsent_bytes()), key=lambda one: one.since)
        held = sum(one.unsent_bytes() for one in unsent)
        # One alone may have a long answer.
        for one in unsent[:-1]:
            if held <= MOST_UNSENT_BYTES:
                return
            held -= one.unsent_bytes()
            one.hang_up()


def _longest_waiting(connections: OrderedDict[Accepted, None]) -> Accepted | None:
    """Return the connection to hang up on: one that asks for nothing before one that has begun to."""
    oldest = itertools.islice(connections, LOOKED_THROUGH)
    waiting = [(one, waits) for one in oldest if (waits := one.waits()) is not Waits.NOTHING]
    idle = (one for one, waits in waiting if waits in (Waits.HEAD, Waits.REST))
    if (found := next(idle, None)) is not None:
        return found
    if waiting:
        return waiting[0][0]
    return next((one for one in connections if one.waits() is not Waits.NOTHING), None)


class Accepted(socket.socket):
    """A connection from the moment at which it was accepted, so that one counts whose client says nothing at all."""

    def __init__(self, accepted: socket.socket, address: Any, ledger: Ledger) -> None:
        super().__init__(fileno=accepted.detach())
        self.number = self.fileno()
        self.peer = _peer(self, address)
        self.connection: Connection | None = None
        """None until the handshake of TLS is over."""
        self.since = time.monotonic()
        self._ledger = ledger
        self._state: object = None
        self._unsent = 0
        ledger.add(self)

    def close(self) -> None:
        self._ledger.remove(self)
        super().close()

    def hang_up(self) -> None:
        """Close the connection now, whatever is unsent; the event loop may take a moment to do so, so it does not count any more."""
        self._ledger.remove(self)
        if self.connection is not None:
            self.connection.transport.abort()
            return
        try:
            self.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The client has gone by itself.
            return

    def waits(self) -> Waits:
        return Waits.HEAD if self.connection is None else self.connection.waits()

    def unsent_bytes(self) -> int:
        return 0 if self.connection is None else self.connection.transport.get_write_buffer_size()

    def is_overdue(self, now: float) -> bool:
        """Return whether the client has kept the daemon waiting for too long. The answer counts on a look once a second."""
        waits, unsent = self.waits(), self.unsent_bytes()
        state = (waits, self.connection and self.connection.progress)
        if state != self._state or unsent <= self._unsent - UNSENT_BYTES:
            self._state, self._unsent, self.since = state, unsent, now
            return False
        self._unsent = max(self._unsent, unsent)
        return now - self.since > _patience(waits)


def _patience(waits: Waits) -> float:
    match waits:
        case Waits.HEAD:
            return HEADERS_SECONDS
        case Waits.REST:
            return REST_SECONDS
        case Waits.READER:
            return UNSENT_SECONDS
    return float("inf")


class BoundedSocket(socket.socket):
    """A listening socket whose connections are in a ledger."""

    def __init__(self, listening: socket.socket, ledger: Ledger) -> None:
        super().__init__(fileno=listening.detach())
        self._ledger = ledger

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a connection; ConnectionAbortedError where there is no room for it."""
        connection, address = super().accept()
        if not self._ledger.make_room():
            connection.close()
            raise ConnectionAbortedError
        return Accepted(connection, address, self._ledger), address


class Connection(H11Protocol):
    """One connection. Notes the peer of a Unix socket for `peer_of`, and says what it waits for."""

    def __init__(self, *arguments: Any, ledger: Ledger, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._ledger = ledger
        self._accepted: Accepted | None = None
        self.progress = 0
        """It grows with everything that counts as progress: a request, and an answer that is read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        self._accepted = self._ledger.of(peer.fileno())
        if self._accepted is None:
            # It was hung up on meanwhile.
            transport.abort()
            return
        self._accepted.connection = self
        if peer.family == socket.AF_UNIX:
            self.app_state = {**self.app_state, UNIX: _credentials(peer)}

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._progressed()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._progressed()

    def on_response_complete(self) -> None:
        self._progressed()
        super().on_response_complete()

    def waits(self) -> Waits:
        """Return what the connection waits for now."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return Waits.READER
        if self.cycle is None or self.conn.their_state is h11.IDLE:
            return Waits.HEAD
        if self.cycle.response_complete:
            return Waits.REST
        is_coming = self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused
        return Waits.BODY if is_coming else Waits.NOTHING

    def _progressed(self) -> None:
        self.progress += 1
        if self._accepted is not None and self._ledger.of(self._accepted.number) is self._accepted:
            self._ledger.touch(self._accepted)


def peer_of(scope: Any) -> tuple[int, int] | None:
    """Return user and group of the process at the other end of a Unix socket, by the kernel; None for what came over TCP."""
    return cast("tuple[int, int] | None", scope.get("state", {}).get(UNIX))


def _credentials(connected: socket.socket) -> tuple[int, int]:
    _, user, group = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return user, group


def _peer(connected: socket.socket, address: Any) -> Peer:
    if connected.family == socket.AF_UNIX:
        return _credentials(connected)[0]
    host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address):
        if host.ipv4_mapped is not None:
            return str(host.ipv4_mapped)
        return str(ipaddress.ip_network((host, _IPV6_NETWORK), strict=False))
    return str(host)
