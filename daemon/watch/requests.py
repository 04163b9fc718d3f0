"""Directories that are to be compared with the index, each once, in the order they were asked for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Request:
    """One directory to be walked."""

    directory: str
    reason: str
    deliberate: bool = False
    """An event told that something in it went away: what is missing there was deleted by somebody."""
    unhurried: bool = False
    """Nobody waits for it."""
    waiters: list[threading.Event] = field(default_factory=list)


class Requests:
    """The queue of the one thread that walks, and the request in its hand."""

    def __init__(self) -> None:
        self._waiting: dict[str, Request] = {}
        self._in_hand: Request | None = None
        self._lock = threading.Lock()

    def put(self, request: Request) -> threading.Event:
        """Queue a request; returns what is set when a walk that began after this call has gone through."""
        done = threading.Event()
        with self._lock:
            self._merge(replace(request, waiters=[done]))
        return done

    def take(self) -> Request | None:
        with self._lock:
            directory = next(iter(self._waiting), None)
            self._in_hand = None if directory is None else self._waiting.pop(directory)
            return self._in_hand

    def finish(self, request: Request) -> None:
        """The walk of the request in hand went through, or there was nothing to walk."""
        with self._lock:
            self._in_hand = None
        for waiter in request.waiters:
            waiter.set()

    def defer(self, request: Request) -> None:
        """The request in hand has to wait, or is replaced by this one, which whoever waits for it waits for from now on."""
        with self._lock:
            self._in_hand = None
            self._merge(request)

    @property
    def in_hand(self) -> str:
        """The directory being walked now, or an empty string."""
        request = self._in_hand
        return request.directory if request else ""

    def any(self) -> bool:
        with self._lock:
            return bool(self._in_hand or self._waiting)

    def _merge(self, request: Request) -> None:
        waiting = self._waiting.get(request.directory)
        if waiting is None:
            self._waiting[request.directory] = request
            return
        waiting.deliberate |= request.deliberate
        waiting.unhurried &= request.unhurried
        waiting.waiters += request.waiters
