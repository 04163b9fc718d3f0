"""The rows of the route table. A row names the role that a route needs, the work it does, and the body it takes."""

from __future__ import annotations

import contextlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from daemon.allocator import note_use
from daemon.api.admission import caller_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from daemon.api.admission import Role, Work

    Read = Callable[[Request], AbstractAsyncContextManager[Any]]
    Endpoint = Callable[[Request, Any], Awaitable[Response]]

_NO_ROLES: Mapping[str, Role] = MappingProxyType({})


class Row(Route):
    """A route of the daemon. It needs a role and a kind of work, so that nobody can add a route that anybody may use.

    The role is checked before the body is read. A request takes a place only when its body is there, and gives the place back before
    its answer is sent. An answer that is made while it is sent keeps the place.
    """

    def __init__(
        self,
        role: Role,
        method: str,
        path: str,
        endpoint: Endpoint,
        work: Work,
        read: Read | None = None,
        *,
        flags: Mapping[str, Role] = _NO_ROLES,
    ) -> None:
        """Call `endpoint` with the request and what `read` makes of its body, None without one.

        `flags` are keys of a JSON body that need a role of their own when they are true.
        """
        super().__init__(path, _unused, methods=[method])
        self.role = role
        self.app = _Answering(endpoint, role, work, read or _nothing, flags)


class _Answering:
    """Answers the requests to a row."""

    def __init__(self, endpoint: Endpoint, role: Role, work: Work, read: Read, flags: Mapping[str, Role]) -> None:
        self._endpoint = endpoint
        self._role = role
        self._work = work
        self._read = read
        self._flags = flags

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = caller_of(scope)
        caller.require(self._role)
        request = Request(scope, receive, send)
        async with self._read(request) as body:
            for flag, role in self._flags.items():
                if body.get(flag):
                    caller.require(role)
            with caller.place(self._work):
                response = await self._endpoint(request, body)
                if isinstance(response, StreamingResponse):
                    await response(scope, receive, send)
                    return
        # It may be large, and a client slow to read its answer.
        del body
        await response(scope, receive, send)
        note_use(len(response.body))


@contextlib.asynccontextmanager
async def _nothing(_: Request) -> Any:
    yield None


async def _unused(_: Request) -> Response:
    raise NotImplementedError
