"""The paths that may differ from the index, each at most once, handed out when they are due."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.changes import Hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from daemon.watch.settle import Settle


@dataclass(slots=True)
class _Entry:
    hint: Hint
    since: float
    due: float
    in_flight: bool = False
    again: Hint | None = None
    """It changed while it was being looked at."""
    again_since: float = 0.0


class Pending:
    """A dict by path; `put` is instant, so that the observer never waits.

    A path that was taken stays pending, and is not handed out again, until `done`; a change in between is kept for then.
    Arrivals go before the bulk that walks find, and departures last: a moved file is met at its new path while its old one is
    still recorded.
    """

    def __init__(self, settle: Settle, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settle = settle
        self._clock = clock
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._arrivals: list[tuple[float, str]] = []
        self._departures: list[tuple[float, str]] = []
        self._found: deque[str] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._entries)

    def oldest_seconds(self) -> float:
        """Return the age of the path that has been pending longest, 0 when none is."""
        with self._changed:
            since = min((entry.since for entry in self._entries.values()), default=None)
        return 0.0 if since is None else self._clock() - since

    def older_than(self, moment: float, below: str = "") -> int:
        """Return how many paths (of those at or below `below`) have been pending since `moment` of the clock, or longer.

        A path is counted from its first change that nobody has looked at yet, until `done`; so once this is 0, all that was put
        before `moment` has been dealt with, however much has changed since.
        """
        prefix = below.rstrip(os.sep) + os.sep if below else ""
        with self._changed:
            return sum(
                entry.since <= moment and (path.startswith(prefix) or path == below)
                for path, entry in self._entries.items()
            )

    def older_among(self, paths: Iterable[str], moment: float) -> set[str]:
        """Return those of the paths that have been pending since `moment` of the clock, or longer."""
        with self._changed:
            return {path for path in paths if (entry := self._entries.get(path)) and entry.since <= moment}

    def put(self, path: str, hint: Hint, since: float | None = None) -> None:
        """Say that `path` may differ from the index; `since` is a moment of the clock before now, if it has differed for longer."""
        with self._changed:
            self._put(path, hint, since)
            self._changed.notify()

    def put_all(self, paths: Iterable[str], hint: Hint) -> None:
        with self._changed:
            for path in paths:
                self._put(path, hint)
            self._changed.notify()

    def take(self, limit: int) -> list[tuple[str, Hint, float]]:
        """Wait for paths that are due and return up to `limit` as (path, hint, pending since); empty once closed."""
        with self._changed:
            while not self._closed:
                batch, next_due = self._due(limit)
                if batch:
                    return batch
                self._changed.wait(None if next_due is None else max(0.0, next_due - self._clock()))
        return []

    def done(self, path: str) -> None:
        """The path's turn is over; if it changed meanwhile it is pending anew."""
        with self._changed:
            entry = self._entries.pop(path)
            if entry.again is not None:
                self._put(path, entry.again, entry.again_since)
                self._changed.notify()

    def later(self, path: str, seconds: float, hint: Hint | None = None) -> None:
        """Look at a path again after some seconds, sooner or later if it changed meanwhile; it counts as pending for as long as before.

        `hint` takes the place of the one that the path was pending for.
        """
        with self._changed:
            entry = self._entries[path]
            entry.in_flight = False
            if hint is not None:
                entry.hint = hint
            if entry.again not in (None, Hint.FOUND):
                # The pause was for how it was then: a file closed meanwhile need not wait like one that is being written.
                entry.hint = entry.hint.followed_by(entry.again)
                seconds = self._settle.delay(entry.hint)
            entry.again = None
            entry.due = self._clock() + seconds
            self._queue(path, entry)
            self._changed.notify()

    def close(self) -> None:
        """Hand out nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, path: str, hint: Hint, since: float | None = None) -> None:
        now = self._clock()
        since = now if since is None else since
        entry = self._entries.get(path)
        if entry is None:
            entry = self._entries[path] = _Entry(hint, since=since, due=now + self._settle.delay(hint))
            self._queue(path, entry)
        elif entry.in_flight:
            if entry.again is None:
                entry.again, entry.again_since = hint, since
            else:
                entry.again, entry.again_since = entry.again.followed_by(hint), min(entry.again_since, since)
        elif hint is not Hint.FOUND:
            entry.hint, entry.since = entry.hint.followed_by(hint), min(entry.since, since)
            entry.due = now + self._settle.delay(entry.hint)
            self._queue(path, entry)

    def _queue(self, path: str, entry: _Entry) -> None:
        if entry.hint is Hint.FOUND and entry.due <= self._clock():
            self._found.append(path)
        else:
            heapq.heappush(self._departures if entry.hint is Hint.GONE else self._arrivals, (entry.due, path))

    def _due(self, limit: int) -> tuple[list[tuple[str, Hint, float]], float | None]:
        now = self._clock()
        batch: list[tuple[str, Hint, float]] = []
        self._pop_due(self._arrivals, now, limit, batch)
        while self._found and len(batch) < limit:
            path = self._found.popleft()
            entry = self._entries.get(path)
            # An event since then has given it a place of its own.
            if entry is not None and entry.hint is Hint.FOUND and entry.due <= now:
                self._hand_out(path, batch)
        if not batch:
            self._pop_due(self._departures, now, limit, batch)
        heads = [queue[0][0] for queue in (self._arrivals, self._departures) if queue]
        return batch, min(heads, default=None)

    def _pop_due(
        self, queue: list[tuple[float, str]], now: float, limit: int, batch: list[tuple[str, Hint, float]]
    ) -> None:
        while queue and queue[0][0] <= now and len(batch) < limit:
            due, path = heapq.heappop(queue)
            entry = self._entries.get(path)
            # A later event has queued the path anew: this place in the queue is void.
            if entry is not None and entry.due == due:
                self._hand_out(path, batch)

    def _hand_out(self, path: str, batch: list[tuple[str, Hint, float]]) -> None:
        entry = self._entries.get(path)
        if entry is not None and not entry.in_flight:
            entry.in_flight = True
            batch.append((path, entry.hint, entry.since))
