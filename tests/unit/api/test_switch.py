"""The switch between applications: what waits while one takes the place of another, and what does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from daemon.api.switch import LOOKED_AT, RELOADING, Switch

if TYPE_CHECKING:
    from starlette.requests import Request

ROUTES = (*sorted(LOOKED_AT), "/v1/search")


def application(name: str) -> Starlette:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(name)

    one = Starlette(routes=[Route(path, answer) for path in ROUTES])
    one.state.stopping = ""
    return one


async def ask(switch: Switch, path: str) -> str:
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b"", "headers": []}
    await switch(scope, receive, send)
    return str(said[1]["body"].decode())


def test_requests_wait_for_the_application_that_takes_the_place() -> None:
    switch = Switch(application("old"))

    async def story() -> None:
        assert await ask(switch, "/v1/search") == "old"
        with switch.held(own=0):
            asked = asyncio.create_task(ask(switch, "/v1/search"))
            await asyncio.sleep(0.1)
            assert not asked.done()
            switch.to(application("new"))
        assert await asyncio.wait_for(asked, 5) == "new"

    asyncio.run(story())


@pytest.mark.parametrize("path", sorted(LOOKED_AT))
def test_how_the_daemon_is_can_be_asked_meanwhile(path: str) -> None:
    switch = Switch(application("old"))

    async def story() -> None:
        with switch.held(own=0):
            assert switch.state.stopping == RELOADING
            assert await asyncio.wait_for(ask(switch, path), 5) == "old"
        assert switch.state.stopping == ""

    asyncio.run(story())
