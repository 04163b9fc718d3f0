"""The route by which the configuration is read again."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from starlette.responses import Response

from daemon.api import schema
from daemon.api.admission import Role, Work
from daemon.api.routes import Row
from daemon.errors import ConfigError, ModelError, QueryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from daemon.reloading import Difference


class Reloads:
    """Answers when the configuration is in force, or when the one before it is in force again."""

    def __init__(self, reload: Callable[[], Difference]) -> None:
        self._reload = reload

    def routes(self) -> list[Row]:
        return [Row(Role.ADMINISTERS, "POST", "/v1/reload", self.reload, Work.COMPUTES)]

    async def reload(self, _: Request, __: None) -> Response:
        answer = await self._in_a_thread()
        return Response(answer.json_bytes(), media_type="application/json")

    async def _in_a_thread(self) -> schema.ReloadAnswer:
        """Reload in a thread that nobody waits for when the process ends: a model may take minutes to be made ready."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[schema.ReloadAnswer] = loop.create_future()

        def work() -> None:
            try:
                answer, error = self._answer(), None
            except Exception as failure:  # noqa: BLE001 - the thread's boundary: raised again where it is waited for
                answer, error = None, failure
            # Nobody waits any more once the server has stopped.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answered, answer, error)

        threading.Thread(target=work, name="reload", daemon=True).start()
        return await answered

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


def _settle(
    answered: asyncio.Future[schema.ReloadAnswer], answer: schema.ReloadAnswer | None, error: Exception | None
) -> None:
    if answered.done():
        return
    if answer is not None:
        answered.set_result(answer)
    elif error is not None:
        answered.set_exception(error)
