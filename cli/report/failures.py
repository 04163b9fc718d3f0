"""The files that could not be indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.report.text import age, count
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.answers import FailuresAnswer


def failure_lines(answer: FailuresAnswer, *, now: float) -> list[str]:
    """Return two lines for each file, its path and its reason; `now` is the time as seconds since the epoch."""
    lines = []
    for failure in answer["failures"]:
        lines.append(printable(failure["path"]))
        tried = f"{count(failure['attempts'], 'attempt')}, {age(failure['since'], now)}"
        lines.append(f"  {printable(failure['reason'])} ({tried})")
    return lines


def skipped_sentence(skipped: Mapping[str, int]) -> str:
    """Return how many files of each extension look like pictures and are not read, the most frequent first."""
    ordered = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    kinds = [
        f"{number:,} {printable(extension)}" if extension else f"{number:,} without an extension"
        for extension, number in ordered
    ]
    total = sum(skipped.values())
    verb = "looks like a picture and is not read" if total == 1 else "look like pictures and are not read"
    return f"{count(total, 'file')} {verb} ({', '.join(kinds)})"
