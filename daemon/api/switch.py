"""The application that answers now: another one may take its place, and requests that come meanwhile wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette
    from starlette.datastructures import State
    from starlette.types import Receive, Scope, Send

DRAIN_SECONDS = 10.0
"""How long requests that are under way may take to end, before what they ask is taken from under them."""
WAIT_SECONDS = 0.02
LOOKED_AT = frozenset({"/health", "/v1/health", "/ready"})
"""What tells how the daemon is does not wait, for whoever asks would take it that the daemon hangs."""
STOPPING = "lookaliked is stopping"
RELOADING = "lookaliked is reading its configuration again"
"""Why requests that are under way are to end: `state.stopping` of an application, empty while they may go on."""


class Switch:
    """An application for servers, whose threads it may be called on all at once."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._under_way = 0
        self._is_held = False

    @property
    def state(self) -> State:
        """The state of the application that answers now."""
        return self._app.state

    def to(self, app: Starlette) -> None:
        """Have another application answer."""
        self._app = app

    @contextlib.contextmanager
    def held(self, own: int) -> Iterator[None]:
        """Let no request in, once those under way have ended but `own`, which wait for this themselves."""
        with self._lock:
            self._is_held = True
        # Whoever waits for something is answered.
        self.state.stopping = RELOADING
        try:
            deadline = time.monotonic() + DRAIN_SECONDS
            while self._under_way > own and time.monotonic() < deadline:
                time.sleep(WAIT_SECONDS)
            yield
        finally:
            self.state.stopping = ""
            with self._lock:
                self._is_held = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in LOOKED_AT:
            await self._app(scope, receive, send)
            return
        while not self._enter():  # noqa: ASYNC110 - see below
            # No event: each server has a loop of its own.
            await asyncio.sleep(WAIT_SECONDS)
        try:
            await self._app(scope, receive, send)
        finally:
            with self._lock:
                self._under_way -= 1

    def _enter(self) -> bool:
        with self._lock:
            self._under_way += not self._is_held
            return not self._is_held
