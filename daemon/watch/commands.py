"""Work that other threads hand to the walker, which owns the folders."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")


NOBODY_YET = 0
"""No thread has this identifier."""


class Commands:
    """A queue of commands. The thread that called `open` carries each one out, in the order in which they came."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when there is something to serve."""
        self._wake = wake
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._is_closed = False

    def call(self, work: Callable[[], T]) -> T:
        """Have the owner do the work; returns its result, or raises its error, once the work is done.

        Before there is an owner the caller does the work, for nobody else can. QueryError when the owner is stopping.
        """
        return self.post(work).result()

    def post(self, work: Callable[[], T]) -> Future[T]:
        """Have the owner do the work, without waiting for it."""
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                future.set_exception(QueryError("unavailable", "lookaliked is stopping; ask again when it runs"))
                return future
            is_mine = self._owner in (None, threading.get_ident())
            if not is_mine:
                self._waiting.append((work, future))
        if is_mine:
            _do(work, future)
        else:
            self._wake()
        return future

    def expect(self) -> None:
        """Keep what comes from now on for an owner that is about to start."""
        with self._lock:
            self._owner = NOBODY_YET

    def open(self) -> None:
        """Make the calling thread the owner."""
        with self._lock:
            self._owner = threading.get_ident()

    def serve(self) -> None:
        """Do all that waits; called by the owner, as often as it can."""
        while self._waiting:
            _do(*self._waiting.popleft())

    def close(self) -> None:
        """Do all that waits, and refuse the rest: nothing that was accepted is lost."""
        with self._lock:
            self._is_closed = True
        self.serve()


def _do(work: Callable[[], Any], future: Future[Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - the border between two threads: whoever asked gets it
        future.set_exception(error)
