"""Keep the log readable: a line that repeats is written once a minute, and a flood of similar lines as its first few and a count."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

FIRST = 5
"""Warnings of a kind, each with another text, that go out as they are."""
WINDOW_SECONDS = 60.0
MOST_KINDS = 256
"""Kinds of lines that are known at a time; of more, those that were not heard of for longest are forgotten."""


@dataclass(slots=True)
class _Kind:
    """Lines that differ in what they are about, since the beginning of a window."""

    since: float
    passed: int = 0
    held: int = 0
    last: logging.LogRecord | None = None
    told: dict[str, float] = field(default_factory=dict)
    """When each text was last written, by itself or with a count."""


class Floods:
    """Says which log lines are written, and sums up those that are not.

    A line passes once in a window; the numbers in it make no difference. Warnings and errors of one logger, level and wording are
    of one kind, whatever they are about; for files that are not indexed the kind of failure counts too. The first few texts of
    a kind pass. The lines that are held are counted in one line at the end of the window, so a flood that goes on costs one line
    for each window. Debug lines always pass: whoever asks for them wants every step. Not safe for threads.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        first: int = FIRST,
        window_seconds: float = WINDOW_SECONDS,
        most_kinds: int = MOST_KINDS,
    ) -> None:
        self._clock = clock
        self._first = first
        self._window = window_seconds
        self._most = most_kinds
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def passing(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what is to be written now that this line has come: most often the line."""
        if record.levelno < logging.INFO:
            return [record]
        told = self.ended()
        now, text = self._clock(), _text(record)
        is_warning = record.levelno >= logging.WARNING
        likeness = _likeness(record, "" if is_warning else text)
        if likeness not in self._kinds:
            told += self._make_room()
            self._kinds[likeness] = _Kind(now)
        self._kinds.move_to_end(likeness)
        kind = self._kinds[likeness]
        if now - kind.since >= self._window:
            kind.since, kind.passed = now, 0
            kind.told = {text: at for text, at in kind.told.items() if now - at < self._window}
        if text not in kind.told and kind.passed < (self._first if is_warning else 1):
            kind.passed += 1
            kind.told[text] = now
            return [*told, record]
        kind.held, kind.last = kind.held + 1, record
        return told

    def ended(self) -> list[logging.LogRecord]:
        """Return a line for each kind of which some were held in a window that is over."""
        now = self._clock()
        over = [kind for kind in self._kinds.values() if kind.held and now - kind.since >= self._window]
        return [self._sum_up(kind) for kind in over]

    def rest(self) -> list[logging.LogRecord]:
        """Return a line for each kind of which some are held."""
        return [self._sum_up(kind) for kind in self._kinds.values() if kind.held]

    def seconds_left(self) -> float | None:
        """Return in how many seconds `ended` will have something to say; None when nothing is held."""
        ends = [kind.since + self._window for kind in self._kinds.values() if kind.held]
        return max(0.0, min(ends) - self._clock()) if ends else None

    def _make_room(self) -> list[logging.LogRecord]:
        forgotten = [self._kinds.popitem(last=False)[1] for _ in range(len(self._kinds) - self._most + 1)]
        return [self._sum_up(kind) for kind in forgotten if kind.held]

    def _sum_up(self, kind: _Kind) -> logging.LogRecord:
        assert kind.last is not None  # noqa: S101 - for the type checker: something is held
        now = self._clock()
        told = _counted(kind.last, kind.held, now - kind.since)
        # None of them passes in the window that begins now: the flood may go on.
        kind.since, kind.held, kind.last = now, 0, None
        kind.told = dict.fromkeys(kind.told, now)
        return told


class FloodHandler(logging.Handler):
    """Hands log lines on to `target`, a flood of the same as few; what is held when it is closed is told then.

    It can go on after that: a library that configures logging closes every handler there is.
    """

    def __init__(self, target: logging.Handler, floods: Floods | None = None) -> None:
        super().__init__()
        self._target = target
        self._floods = floods or Floods()
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self._floods.passing(record))

    def flush(self) -> None:
        self._target.flush()

    def close(self) -> None:
        self.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._hand_on(self._floods.rest())
            self._target.close()
        finally:
            self.release()
        super().close()

    def _write(self, records: list[logging.LogRecord]) -> None:
        self._hand_on(records)
        if self._timer is None and (seconds := self._floods.seconds_left()) is not None:
            self._timer = threading.Timer(seconds, self._tell)
            self._timer.name = "log"
            # What it would tell is told when the handler is closed.
            self._timer.daemon = True
            self._timer.start()

    def _tell(self) -> None:
        self.acquire()
        try:
            self._timer = None
            self._write(self._floods.ended())
        finally:
            self.release()

    def _hand_on(self, records: list[logging.LogRecord]) -> None:
        for record in records:
            self._target.handle(record)


def _text(record: logging.LogRecord) -> str:
    """Return what a line says but for its numbers: "in 4 s" and "in 8 s" are the same message, `4.jpg` and `8.jpg` are not."""
    given = record.args if isinstance(record.args, tuple) else (record.args,)
    return "\0".join([str(record.msg), *(str(one) for one in given if not isinstance(one, int | float))])


def _likeness(record: logging.LogRecord, text: str) -> Hashable:
    error = record.exc_info[0] if record.exc_info else None
    return record.name, record.levelno, record.msg, getattr(record, "kind", None), error, text


def _counted(last: logging.LogRecord, count: int, seconds: float) -> logging.LogRecord:
    """Return a line that stands for `count` others, with the last of them for an example."""
    record = logging.makeLogRecord(last.__dict__)
    record.msg = f"{count:,} more in the last {seconds:.0f} s like: {last.getMessage()}"
    record.args, record.exc_info, record.exc_text = (), None, None
    record.created = time.time()
    record.__dict__ |= {"count": count, "path": None, "photo": None}
    return record
