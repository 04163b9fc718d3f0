"""The route by which the configuration is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from daemon.api import schema
from daemon.errors import ConfigError, ModelError, QueryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from daemon.reloading import Difference


class Reloads:
    """Answers when the configuration is in force, or when the one before it is in force again."""

    def __init__(self, reload: Callable[[], Difference]) -> None:
        self._reload = reload

    def routes(self) -> list[Route]:
        return [Route("/v1/reload", self.reload, methods=["POST"])]

    async def reload(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        answer = await run_in_threadpool(self._answer)
        return Response(answer.json_bytes(), media_type="application/json")

    def _answer(self) -> schema.ReloadAnswer:
        try:
            difference = self._reload()
        except ConfigError as error:
            problems = "; ".join(problem.rstrip(".") for problem in error.problems)
            raise QueryError(
                "bad_configuration", f"{error.source} cannot be used, and nothing has changed: {problems}"
            ) from error
        except ModelError as error:
            raise QueryError("bad_configuration", f"nothing has changed: {error}") from error
        return schema.ReloadAnswer(applied=list(difference.applied), restart=list(difference.restart))
