"""Services: started in order, checked while they run, stopped in reverse."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from daemon.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


class Service(Protocol):
    """A part of the daemon with a life of its own."""

    @property
    def name(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None:
        """Finish the work in hand and return; harmless when never started."""

    def check(self) -> None:
        """Raise the cause when the service can no longer do its work."""


class Worker:
    """A named thread whose end is never silent: what it raises is raised again by `check()`."""

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        self.name = name
        self._target = target
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as error:  # the thread's boundary: kept for check(), which ends the process
            log.debug("%s ended", self.name, exc_info=True)
            self._error = error


class Turns:
    """One undertaking at a time, of those that compare or change all of the index."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = ""

    @property
    def are_free(self) -> bool:
        """Whether nothing has the turn now."""
        return not self._lock.locked()

    @contextlib.contextmanager
    def take(self, what: str) -> Iterator[None]:
        """Hold the turn for `what`, as a sentence begins; QueryError when something else has it."""
        if not self._lock.acquire(blocking=False):
            raise QueryError("busy", f"{self._holder} is running; try again when it is done")
        self._holder = what
        try:
            yield
        finally:
            self._lock.release()


class Services:
    """The running services, in the order they were started."""

    def __init__(self) -> None:
        self._started: list[Service] = []
        self.well_at = time.monotonic()
        """When every service has last passed its check."""

    def start(self, service: Service) -> None:
        log.debug("starting %s", service.name)
        # Listed first: a service that fails half-way is stopped as well.
        self._started.append(service)
        service.start()
        self.well_at = time.monotonic()

    def check(self) -> None:
        for service in self._started:
            service.check()
        self.well_at = time.monotonic()

    def stop(self) -> None:
        """Stop in reverse order; a service that fails to stop does not keep the others from it."""
        while self._started:
            service = self._started.pop()
            log.debug("stopping %s", service.name)
            try:
                service.stop()
            except Exception:  # one service's trouble must not leave another's children behind
                log.exception("%s did not stop cleanly", service.name)
