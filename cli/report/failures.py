"""The files that could not be indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.report.text import age, count, printable

if TYPE_CHECKING:
    from cli.answers import FailuresAnswer


def failure_lines(answer: FailuresAnswer, *, now: float) -> list[str]:
    """Return two lines for each file, its path and its reason; `now` is the time as seconds since the epoch."""
    lines = []
    for failure in answer["failures"]:
        lines.append(printable(failure["path"]))
        tried = f"{count(failure['attempts'], 'attempt')}, {age(failure['since'], now)}"
        lines.append(f"  {printable(failure['reason'])} ({tried})")
    return lines
