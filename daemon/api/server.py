"""Serve the application on a socket, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import ssl
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import uvicorn
from starlette.concurrency import run_in_threadpool

from daemon.allocator import give_back, owes_memory
from daemon.api.connections import CLOSING_SECONDS, BoundedSocket, Connection, Ledger
from daemon.api.switch import STOPPING
from daemon.errors import ConfigError
from daemon.lifecycle import Worker

if TYPE_CHECKING:
    import socket
    from concurrent.futures import Future
    from pathlib import Path

    from starlette.applications import Starlette

    from daemon.api.listening import Listener
    from daemon.api.switch import Switch

log = logging.getLogger(__name__)

START_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""How often the socket is looked at: somebody may have removed it, as cleaners of temporary files do."""
TICKS = 10
"""Uvicorn has so many in a second."""
UNIX_CONNECTIONS = 1024
TCP_CONNECTIONS = 128
"""Anybody may open one: they are counted apart from those of the Unix socket, so that they keep nobody from it."""
DESCRIPTORS_SHARE = 2
"""Connections take at most one file descriptor of so many that the process may have."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What makes TCP TLS: a chain and its key, in PEM files."""

    chain: Path
    key: Path

    def check(self) -> None:
        """ConfigError when they cannot be used together."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # An empty password, for the library would ask for one at the terminal.
            context.load_cert_chain(self.chain, self.key, password="")
        except OSError as error:
            # The strerror of an ssl.SSLError names lines of the library's source.
            is_of_ssl = isinstance(error, ssl.SSLError)
            reason = "they do not belong together, or are no PEM files" if is_of_ssl else error.strerror
            absent = (path for path in (self.chain, self.key) if not os.path.isfile(path))
            missing = next(absent, None) if isinstance(error, FileNotFoundError) else None
            what = f"there is no file {missing}" if missing else f"{self.chain} and {self.key} cannot be used: {reason}"
            problem = f"At 'api.certificate' and 'api.key': {what}; name a certificate and its key that has no password"
            raise ConfigError("the configuration", [problem]) from error


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server, which can go over to another socket while connections of the first one go on."""

    loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, config: uvicorn.Config, ledger: Ledger) -> None:
        super().__init__(config)
        self._ledger = ledger

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections, and give back the memory of large requests, once a second."""
        if counter % TICKS == 0:
            self._ledger.look()
            if owes_memory():
                await run_in_threadpool(give_back)
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)

    async def go_over(self, listening: socket.socket) -> None:
        """Accept connections from `listening`, and no longer from the sockets before it, which are closed."""
        before = self.servers
        await super().startup(sockets=[listening])
        for server in before:
            server.close()


class Server:
    """HTTP where `listener` listens; with a certificate, over TLS. Where its socket is taken away, it listens again."""

    def __init__(
        self,
        app: Starlette | Switch,
        listener: Listener,
        *,
        name: str = "api",
        certificate: Certificate | None = None,
        max_connections: int = UNIX_CONNECTIONS,
    ) -> None:
        self.name = name
        self._listener = listener
        self._certificate = certificate
        self._app = app
        self._ledger = Ledger(_affordable(max_connections))
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=cast("type[Connection]", partial(Connection, ledger=self._ledger)),
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=CLOSING_SECONDS,
                server_header=False,
                proxy_headers=False,
                ssl_certfile=None if certificate is None else certificate.chain,
                ssl_keyfile=None if certificate is None else str(certificate.key),
            ),
            self._ledger,
        )
        self._socket: BoundedSocket | None = None
        self._worker = Worker(name, self._serve)
        self._look_at = 0.0
        self._going_over: Future[None] | None = None

    def start(self) -> None:
        """Open the socket; ConfigError when it cannot be, with the key to change."""
        if self._certificate is not None:
            self._certificate.check()
        self._socket = BoundedSocket(self._listener.open(), self._ledger)
        self._worker.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started and self._worker.alive and time.monotonic() < deadline:
            time.sleep(0.005)
        self._worker.check()

    def stop(self) -> None:
        # Whoever waits for something is answered.
        self._app.state.stopping = STOPPING
        self._server.should_exit = True
        self._worker.join()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._listener.close()

    def check(self) -> None:
        self._worker.check()
        now = time.monotonic()
        if self._socket is not None and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._listen_again()

    def _listen_again(self) -> None:
        """Go over to another socket where clients cannot reach this one any more; never waits for the server to have done so."""
        if self._going_over is not None:
            if not self._going_over.done():
                return
            self._going_over.result()
            self._going_over = None
        try:
            listening = self._listener.reopen()
        except ConfigError as error:
            log.warning(
                "lookaliked cannot listen for commands and keeps trying: %s: %s",
                error.source,
                "; ".join(error.problems),
            )
            return
        if listening is None or self._server.loop is None:
            return
        self._socket = BoundedSocket(listening, self._ledger)
        self._going_over = asyncio.run_coroutine_threadsafe(self._server.go_over(self._socket), self._server.loop)

    def _serve(self) -> None:
        assert self._socket is not None  # noqa: S101 - for the type checker
        self._server.run(sockets=[self._socket])


def _affordable(connections: int) -> int:
    """Return how many connections there may be, so that the rest of the daemon can open files too."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return connections
    return min(connections, descriptors // DESCRIPTORS_SHARE)
