"""The routes of the HTTP interface: docs/http.md describes them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response, StreamingResponse

from daemon.api import asking, schema
from daemon.api.admission import Admission, Admitted, Role, Work
from daemon.api.bodies import Bodies, check_path, flag, named, path_in, perhaps_named
from daemon.api.measured import Measured
from daemon.api.routes import Row
from daemon.errors import DecoderError, LibraryInUse, ModelError, QueryError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from daemon.api.queries import Queries
    from daemon.api.status import Status
    from daemon.api.upkeep import Sync, Upkeep
    from daemon.verify.verifier import Verifier

log = logging.getLogger(__name__)

ERRORS = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "not_in_library": 404,
    "not_watched": 404,
    "not_held": 404,
    "not_there": 404,
    "unknown_model": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "busy": 409,
    "model_in_use": 409,
    "still_there": 409,
    "still_watched": 409,
    "too_large": 413,
    "not_an_image": 422,
    "no_text_model": 422,
    "bad_configuration": 422,
    "not_an_export": 422,
    "too_many_requests": 429,
    "internal": 500,
    "overloaded": 503,
    "unavailable": 503,
}
"""Every error code, and the HTTP status it comes with."""
HEADERS = {
    "unauthorized": {"WWW-Authenticate": "Bearer"},
    "too_many_requests": {"Retry-After": "1"},
    "overloaded": {"Retry-After": "1"},
}
"""What some of them say to programs besides."""
DEFAULT_LIMITS = Admitted(max_concurrent_requests=32, requests_per_second=1000.0)


SYNC_SECONDS = 60.0
"""How long a sync waits when the request does not say."""
LONGEST_SYNC_SECONDS = 86_400.0
POLL_SECONDS = 0.02
POLL_SHARE = 0.1
"""Looking through what is pending takes at most this share of the time that a sync waits."""


def build(
    queries: Queries,
    status: Status,
    upkeep: Upkeep,
    verifier: Verifier,
    *,
    max_bytes: int,
    default_limit: int,
    more: Sequence[Row] = (),
    admission: Admission | None = None,
) -> Starlette:
    """Return the application, with `more` routes than its own; a request body may have up to `max_bytes`.

    Without an admission of its own, the daemon's user and root are let in, over a Unix socket.
    """
    routes = _Routes(queries, status, upkeep, verifier, max_bytes, default_limit)
    asks, administers = Role.ASKS, Role.ADMINISTERS
    application = Starlette(
        routes=[
            Row(asks, "POST", "/v1/search", routes.search, Work.COMPUTES, routes.bodies.read),
            Row(asks, "GET", "/v1/status", routes.status, Work.LOOKS),
            Row(asks, "GET", "/v1/health", routes.health, Work.NONE),
            Row(asks, "GET", "/health", routes.health, Work.NONE),
            Row(asks, "GET", "/ready", routes.ready, Work.NONE),
            Row(asks, "POST", "/v1/sync", routes.sync, Work.WAITS, perhaps_named),
            Row(asks, "GET", "/v1/failures", routes.failures, Work.LOOKS),
            Row(asks, "GET", "/v1/skipped", routes.skipped, Work.LOOKS),
            Row(administers, "POST", "/v1/failures/retry", routes.retry, Work.COMPUTES, perhaps_named),
            Row(asks, "GET", "/v1/deletions", routes.deletions, Work.LOOKS),
            Row(administers, "POST", "/v1/deletions/approve", routes.approve, Work.COMPUTES, perhaps_named),
            Row(administers, "POST", "/v1/deletions/reject", routes.reject, Work.COMPUTES, perhaps_named),
            Row(administers, "POST", "/v1/models/remove", routes.remove_model, Work.COMPUTES, perhaps_named),
            Row(asks, "GET", "/metrics", routes.metrics, Work.LOOKS),
            Row(asks, "POST", "/v1/verify", routes.verify, Work.COMPUTES, named, flags={"repair": administers}),
            Row(asks, "GET", "/v1/openapi.json", routes.openapi, Work.LOOKS),
            *more,
        ],
        # Measured first: what is not let in counts too.
        middleware=[
            Middleware(Measured),
            Middleware(_Admitting, admission=admission or Admission(DEFAULT_LIMITS)),
        ],
        exception_handlers={
            QueryError: _query_error,
            StoreError: _store_error,
            LibraryInUse: _in_use,
            ModelError: _model_error,
            404: _not_found,
            405: _not_allowed,
            ClientDisconnect: _gone,
            DecoderError: _no_decoder,
            Exception: _unexpected,
        },
    )
    application.state.stopping = ""
    return application


class _Admitting:
    """Lets a request in before any of it is read."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["caller"] = self._admission.of(scope)
        except QueryError as error:
            response = _error(error.code, str(error))
            # What it would have sent is not read.
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Routes:
    def __init__(
        self,
        queries: Queries,
        status: Status,
        upkeep: Upkeep,
        verifier: Verifier,
        max_bytes: int,
        default_limit: int,
    ) -> None:
        self._queries = queries
        self._status = status
        self._upkeep = upkeep
        self._verifier = verifier
        self.bodies = Bodies(max_bytes)
        self._default_limit = default_limit

    async def search(self, request: Request, body: bytearray) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        ask = partial(
            asking.question,
            is_json=kind == "application/json",
            limit=self._limit(request),
            # As a form's empty field, an empty name names none.
            models=[name for name in request.query_params.getlist("model") if name],
            fuse=request.query_params.get("fuse"),
        )
        return _respond(await run_in_threadpool(lambda: self._queries.answer(ask(body))))

    async def status(self, _: Request, __: None) -> Response:
        return _respond(await run_in_threadpool(self._status.answer))

    async def health(self, _: Request, __: None) -> Response:
        answer = self._status.health()
        return _respond(answer, 503 if answer.status == "failing" else 200)

    async def ready(self, request: Request, _: None) -> Response:
        answer = self._status.ready(request.app.state.stopping)
        return _respond(answer, 200 if answer.status == "ready" else 503)

    async def metrics(self, request: Request, _: None) -> Response:
        from daemon.api import metrics  # noqa: PLC0415 - 0.2 s of imports, for those alone who collect metrics

        status, accept = self._status, request.headers.get("accept", "")
        text, kind = await run_in_threadpool(
            lambda: metrics.exposition(status.answer(), status.failure_kinds(), accept)
        )
        return Response(text, headers={"Content-Type": kind})

    async def sync(self, request: Request, asked: dict[str, Any]) -> Response:
        seconds = _seconds(request.query_params.get("timeout"))
        path = path_in(asked, "path")
        deadline = time.monotonic() + seconds
        sync = await run_in_threadpool(self._upkeep.begin_sync, path)
        complete = await _wait(sync, deadline, request)
        return _respond(await run_in_threadpool(lambda: sync.answer(complete=complete)))

    async def failures(self, request: Request, _: None) -> Response:
        return await _streamed(self._upkeep.failures, _asked_path(request, "path"))

    async def skipped(self, request: Request, _: None) -> Response:
        return await self._told(self._upkeep.skipped, _asked_path(request, "path"))

    async def retry(self, _: Request, asked: dict[str, Any]) -> Response:
        return await self._told(self._upkeep.retry, path_in(asked, "path"))

    async def deletions(self, request: Request, _: None) -> Response:
        return await _streamed(self._upkeep.deletions, _asked_path(request, "folder"))

    async def approve(self, _: Request, asked: dict[str, Any]) -> Response:
        return await self._told(self._upkeep.approve, path_in(asked, "folder", needed=True))

    async def reject(self, _: Request, asked: dict[str, Any]) -> Response:
        return await self._told(self._upkeep.reject, path_in(asked, "folder", needed=True))

    async def remove_model(self, _: Request, asked: dict[str, Any]) -> Response:
        model = asked.get("model")
        if not isinstance(model, str) or not model:
            raise QueryError("bad_request", "the body must be an object with a 'model', which is a name")
        return await self._told(self._upkeep.free_model, model)

    async def _told(self, answer: Callable[[str], schema.Answer], path: str) -> Response:
        return _respond(await run_in_threadpool(answer, path))

    async def verify(self, _: Request, asked: dict[str, Any]) -> Response:
        deep, repair = flag(asked, "deep"), flag(asked, "repair")
        report = await run_in_threadpool(self._verifier.run, deep=deep, repair=repair)
        return _respond(schema.VerifyAnswer.model_validate(report))

    async def openapi(self, _: Request, __: None) -> Response:
        from daemon.api import openapi  # noqa: PLC0415 - for those alone who ask for it

        return JSONResponse(openapi.document())

    def _limit(self, request: Request) -> int:
        given = request.query_params.get("limit")
        if given is None:
            return self._default_limit
        if not given.isascii() or not given.isdigit():
            raise QueryError("bad_request", f"the limit must be a whole number, not {given!r}")
        return int(given[:9])


async def _wait(sync: Sync, deadline: float, request: Request) -> bool:
    """Return whether the sync came to its end before the deadline, the client's leaving and the daemon's end."""
    while True:
        began = time.monotonic()
        if await run_in_threadpool(sync.finished):
            return True
        now = time.monotonic()
        if now >= deadline or request.app.state.stopping or await request.is_disconnected():
            return False
        await asyncio.sleep(min(max(POLL_SECONDS, (now - began) / POLL_SHARE), deadline - now))


def _seconds(given: str | None) -> float:
    try:
        seconds = SYNC_SECONDS if given is None else float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_SYNC_SECONDS:
        raise QueryError("bad_request", f"the timeout must be a number of seconds, not {given!r}")
    return seconds


def _asked_path(request: Request, key: str) -> str:
    """Return a path from the query string, whose escapes stand for the bytes of the name."""
    fields = parse_qs(request.url.query, errors="surrogateescape")
    path = fields.get(key, [""])[-1]
    check_path(path)
    return path


async def _streamed(answer: Callable[[str], Iterator[bytes]], path: str) -> Response:
    pieces = await run_in_threadpool(answer, path)
    # Until the first there can be another answer.
    first = await run_in_threadpool(next, pieces)
    return StreamingResponse(itertools.chain([first], pieces), media_type="application/json")


def _respond(answer: schema.Answer, status: int = 200) -> Response:
    return Response(answer.json_bytes(), status_code=status, media_type="application/json")


def _error(code: str, message: str) -> Response:
    response = _respond(schema.ErrorAnswer(error=schema.Error(code=code, message=message)), ERRORS[code])
    response.headers.update(HEADERS.get(code, {}))
    return response


async def _query_error(_: Request, error: Exception) -> Response:
    return _error(error.code if isinstance(error, QueryError) else "bad_request", str(error))


async def _store_error(_: Request, error: Exception) -> Response:
    advice = "try again in a moment" if isinstance(error, StoreUnavailable) else "see the daemon's log"
    return _error("unavailable", f"{error}; {advice}")


async def _in_use(_: Request, error: Exception) -> Response:
    return _error("unavailable", str(error))


async def _model_error(_: Request, error: Exception) -> Response:
    return _error("not_an_image", f"the query gives no vector: {error}")


async def _no_decoder(_: Request, error: Exception) -> Response:
    return _error("unavailable", f"{error}; try again in a moment")


async def _not_found(request: Request, _: Exception) -> Response:
    return _error("not_found", f"there is nothing at {request.url.path}; docs/http.md describes what there is")


async def _not_allowed(request: Request, _: Exception) -> Response:
    return _error("method_not_allowed", f"{request.method} is not a method of {request.url.path}")


async def _gone(_: Request, __: Exception) -> Response:
    # Written for nobody: the framework wants an answer.
    return _error("bad_request", "the request ended early")


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return _error("internal", "the daemon could not answer; its log says why")
