"""When a path may be looked at: not before its file has stopped changing. Pure: the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.changes import Hint

RACY_SECONDS = 0.02
"""A file changed this recently may change again without its mtime showing it: the kernel's clock ticks up to every 10 ms."""
GONE_SECONDS = 0.1
"""How much longer than an arrival a departure waits, so that a move is met at its new path first."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The rule: closed or moved in whole is ready after a short pause, anything else after a time of quiet.

    `pause_seconds` follows the last event of a path; `settle_seconds` is how long a file that nobody was seen to close must be
    left alone, by its mtime and by what was seen of its writing, before it counts as written.
    """

    settle_seconds: float
    pause_seconds: float

    def delay(self, hint: Hint) -> float:
        """Return the seconds between an event and the look at its path."""
        if hint is Hint.FOUND:
            return 0.0
        if hint is Hint.WRITTEN:
            # To look any sooner would only be to find it unsettled, as often as it is written to.
            return max(self.pause_seconds, self.settle_seconds)
        return self.pause_seconds + (GONE_SECONDS if hint is Hint.GONE else 0.0)

    def remaining(self, hint: Hint, mtime: float, now: float) -> float:
        """Return the seconds (0 when ready) for which a file last written at `mtime` is to be left alone; Unix times."""
        quiet = RACY_SECONDS if hint is Hint.CLOSED else max(self.settle_seconds, RACY_SECONDS)
        age = now - mtime
        # An mtime in the future is another machine's clock, or somebody's mistake: it says nothing about writing.
        return quiet - age if 0 <= age < quiet else 0.0
