"""Request bodies: read within bounds, and as JSON objects with the values in them. What is not as it must be is a QueryError."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from daemon import canonical, outline
from daemon.allocator import note_use
from daemon.api.admission import caller_of
from daemon.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

MAX_OBJECT_BYTES = 64 * 1024
"""Of a body that only names something."""
PIECE_SECONDS = 20.0
"""How long a client may send nothing in the middle of a body, or how far it may be behind the rate."""
BYTES_PER_SECOND = 16 * 1024
"""The least that a client has to send while it is waited for."""
OBJECT_SECONDS, QUERY_SECONDS = 30.0, 600.0
"""How long all of a body may be waited for."""
KEPT_SHARE = 8
"""One byte of so many is kept for callers that hold less than that themselves."""


class Bodies:
    """Reads the bodies of requests; those that are being answered take at most twice `max_bytes`, which one of them may have.

    The last of that is for callers that hold little themselves.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._most_held = 2 * max_bytes
        self._kept = self._most_held // KEPT_SHARE
        self._held = Counter[str]()
        # Each server reads on a thread of its own.
        self._counting = threading.Lock()

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytearray]:
        """Have the body of a request, for as long as it is needed."""
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        caller = caller_of(request.scope).name
        try:
            async for piece in pieces(request, QUERY_SECONDS):
                body += piece
                has_room = self._hold(caller, len(piece))
                if len(body) > self._max_bytes:
                    raise self._too_large()
                if not has_room:
                    raise QueryError("overloaded", "too many large queries came at once; try again in a moment")
            yield body
        finally:
            self._hold(caller, -len(body))
            note_use(len(body))

    def _hold(self, caller: str, count: int) -> bool:
        """Note that a caller holds so many bytes more; return whether there is room for them."""
        with self._counting:
            self._held[caller] += count
            own, held = self._held[caller], self._held.total()
            if not own:
                del self._held[caller]
        return held <= self._most_held - (self._kept if own > self._kept else 0)

    def _too_large(self) -> QueryError:
        return QueryError(
            "too_large",
            f"the query has more than {self._max_bytes:,} bytes, which is what limits.max_file_bytes allows",
        )


async def small_body(request: Request) -> bytes:
    """Return the body of a request that only names something."""
    body = bytearray()
    async for piece in pieces(request, OBJECT_SECONDS):
        body += piece
        if len(body) > MAX_OBJECT_BYTES:
            raise QueryError("too_large", f"the request has more than {MAX_OBJECT_BYTES:,} bytes")
    return bytes(body)


@contextlib.asynccontextmanager
async def named(request: Request) -> AsyncIterator[dict[str, Any]]:
    """Have the JSON object of a request that only names something."""
    yield json_object(await small_body(request))


@contextlib.asynccontextmanager
async def perhaps_named(request: Request) -> AsyncIterator[dict[str, Any]]:
    """The same, where a request without a body names nothing."""
    yield json_object(await small_body(request) or b"{}")


async def pieces(request: Request, most_seconds: float) -> AsyncIterator[bytes]:
    """Yield a body as it comes; QueryError where it comes too slowly, or is waited for longer than `most_seconds` in all.

    Only the time counts in which the client is waited for.
    """
    stream = request.stream()
    patience, left = PIECE_SECONDS, most_seconds
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(min(patience, left)):
                piece = await anext(stream, None)
        except TimeoutError as error:
            sentence = "the request came too slowly, and the rest of it is not waited for; send it again"
            raise QueryError("too_slow", sentence) from error
        if piece is None:
            return
        waited = time.monotonic() - began
        left -= waited
        patience = min(PIECE_SECONDS, patience - waited + len(piece) / BYTES_PER_SECOND)
        yield piece


def json_object(body: bytes | bytearray) -> dict[str, Any]:
    """Return the object that a body is; a long string in it is an outline.Long."""
    try:
        value = outline.parsed(body)
    except outline.TooMuchError as error:
        raise QueryError("bad_request", f"the JSON of the request cannot be used: {error}") from error
    except outline.NotJsonError as error:
        raise QueryError("bad_request", "the body is not JSON") from error
    if not isinstance(value, dict):
        raise QueryError("bad_request", "the body must be a JSON object")
    return value


def check_path(path: str) -> None:
    """Refuse a path that is not in its one form; an empty one names nothing."""
    if path and (fault := canonical.fault(path)):
        raise QueryError("bad_request", fault)


def path_in(asked: dict[str, Any], key: str, *, needed: bool = False) -> str:
    """Return the path under `key`; empty where it is not given and not `needed`."""
    value = asked.get(key, "")
    if not isinstance(value, str) or (needed and not value):
        raise QueryError("bad_request", f"the body must be an object with a {key!r}, which is a path")
    check_path(value)
    return value


def whole_number(asked: dict[str, Any], key: str) -> int | None:
    """Return the number under `key`, None where it is not given."""
    value = asked.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise QueryError("bad_request", f"'{key}' must be a whole number")
    return value


def flag(asked: dict[str, Any], key: str) -> bool:
    """Return whether `key` is true; it is not where it is not given."""
    value = asked.get(key, False)
    if not isinstance(value, bool):
        raise QueryError("bad_request", f"'{key}' must be true or false")
    return value
