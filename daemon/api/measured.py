"""How long requests take, by their route."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from daemon.instruments import REQUEST_SECONDS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST"})


class Measured:
    """Measures each request to `app`; what is no route of it is `other`, since a client may ask for anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # What is raised here is answered further out.
        code = 500

        async def noting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, noting)
        finally:
            routes = {route.path for route in scope["app"].routes}
            route = scope["path"] if scope["path"] in routes else "other"
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUEST_SECONDS.observe(time.perf_counter() - began, route, method, str(code))
