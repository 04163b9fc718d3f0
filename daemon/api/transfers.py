"""The routes that go through much of a library: they export, import, relocate and forget."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from daemon.api import schema
from daemon.api.admission import Role, Work
from daemon.api.bodies import check_path, flag, named, path_in, perhaps_named, pieces
from daemon.api.routes import Row
from daemon.errors import ExportError, QueryError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

    from daemon.lifecycle import Turns
    from daemon.transfer.exporter import Exporter
    from daemon.transfer.forgetting import Forgetting
    from daemon.transfer.importer import Importer
    from daemon.transfer.relocation import Relocation

STOP_POLL_SECONDS = 0.5
"""How long a daemon that stops waits for a client that sends nothing."""
IMPORT_SECONDS = 4 * 3600.0
"""How long all of an import may be waited for: it keeps other undertakings from their turn."""
AGAIN = "what was taken does no harm; import it again"


class Transfers:
    """Answers while everything else goes on; all but an export take their turn with what else goes through all of the index."""

    def __init__(
        self, exporter: Exporter, importer: Importer, relocation: Relocation, forgetting: Forgetting, turns: Turns
    ) -> None:
        self._exporter = exporter
        self._importer = importer
        self._relocation = relocation
        self._forgetting = forgetting
        self._turns = turns

    def routes(self) -> list[Row]:
        asks, administers = Role.ASKS, Role.ADMINISTERS
        return [
            # It tells what any number of questions tell.
            Row(asks, "GET", "/v1/export", self.export, Work.WAITS),
            Row(administers, "POST", "/v1/import", self.take, Work.WAITS),
            Row(administers, "POST", "/v1/relocate", self.relocate, Work.COMPUTES, perhaps_named),
            Row(administers, "POST", "/v1/forget", self.forget, Work.COMPUTES, named),
        ]

    async def export(self, request: Request, _: None) -> Response:
        chunks = self._exporter.chunks(lambda: request.app.state.stopping)
        # Until the first there can be another answer.
        first = await run_in_threadpool(next, chunks)
        return StreamingResponse(itertools.chain([first], chunks), media_type="application/octet-stream")

    async def take(self, request: Request, _: None) -> Response:
        moved = _moved(request)
        stream = pieces(request, IMPORT_SECONDS)
        # No turn is taken for a client that sends nothing.
        first = await _next(stream, request)
        rest = _pieces(stream, request, asyncio.get_running_loop())
        return _respond(await run_in_threadpool(self._take, itertools.chain([first], rest), moved))

    def _take(self, came: Iterator[bytes], moved: list[tuple[str, str]]) -> schema.ImportAnswer:
        with self._turns.take("an import"):
            try:
                imported = self._importer.run(came, moved)
            except ExportError as error:
                raise QueryError("not_an_export", f"this is no export that can be imported: {error}") from error
            except StoreUnavailable as error:
                raise QueryError("unavailable", f"{error}; {AGAIN} when it is back") from error
        return schema.ImportAnswer.model_validate(imported)

    async def relocate(self, request: Request, asked: dict[str, Any]) -> Response:
        old, new = path_in(asked, "from", needed=True), path_in(asked, "to", needed=True)
        return _respond(await run_in_threadpool(self._relocate, request, old, new, dry_run=flag(asked, "dry_run")))

    def _relocate(self, request: Request, old: str, new: str, *, dry_run: bool) -> schema.RelocationAnswer:
        with self._turns.take("a relocation"):
            found = self._relocation.run(old, new, dry_run=dry_run, stopped=lambda: request.app.state.stopping)
        return schema.RelocationAnswer(
            files=found.files,
            moved=found.moved,
            kept=found.kept,
            changed=found.changed,
            missing=found.missing,
            failures=found.failures,
            dry_run=dry_run,
        )

    async def forget(self, request: Request, asked: dict[str, Any]) -> Response:
        path = path_in(asked, "path", needed=True)
        return _respond(await run_in_threadpool(self._forget, request, path, dry_run=flag(asked, "dry_run")))

    def _forget(self, request: Request, path: str, *, dry_run: bool) -> schema.ForgetAnswer:
        with self._turns.take("forgetting a folder"):
            found = self._forgetting.run(path, dry_run=dry_run, stopped=lambda: request.app.state.stopping)
        return schema.ForgetAnswer(
            path=path, files=found.files, photos=found.photos, failures=found.failures, dry_run=dry_run
        )


def _moved(request: Request) -> list[tuple[str, str]]:
    """Return the pairs of `from` and `to` in the query string, whose escapes stand for the bytes of the names."""
    fields = parse_qs(request.url.query, errors="surrogateescape", keep_blank_values=True)
    old, new = fields.get("from", []), fields.get("to", [])
    for path in (*old, *new):
        if not path:
            raise QueryError("bad_request", "'from' and 'to' must be paths")
        check_path(path)
    if len(old) != len(new):
        raise QueryError("bad_request", "each 'from' takes a 'to'")
    return list(zip(old, new, strict=True))


def _pieces(stream: AsyncIterator[bytes], request: Request, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """Yield the rest of a body on a worker's thread as it comes: what is not taken yet keeps the client waiting."""
    while piece := asyncio.run_coroutine_threadsafe(_next(stream, request), loop).result():
        yield piece


async def _next(stream: AsyncIterator[bytes], request: Request) -> bytes:
    coming: asyncio.Future[bytes] = asyncio.ensure_future(_first(stream))
    try:
        while not (await asyncio.wait({coming}, timeout=STOP_POLL_SECONDS))[0]:
            if request.app.state.stopping:
                raise QueryError("unavailable", f"lookaliked is stopping; {AGAIN} when it runs")
    finally:
        if not coming.done():
            coming.cancel()
    return coming.result()


async def _first(stream: AsyncIterator[bytes]) -> bytes:
    return await anext(stream, b"")


def _respond(answer: schema.Answer) -> Response:
    return Response(answer.json_bytes(), media_type="application/json")
