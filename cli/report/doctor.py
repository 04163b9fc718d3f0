"""What an examination found: a line for each finding, and the commands that mend it below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cli.report.text import Colour, Paint, count
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS: dict[str, Colour] = {"ok": "green", "note": "dim", "warning": "yellow", "problem": "red"}
_LEVEL_WIDTH = max(map(len, _COLOURS))


class Finding(Protocol):
    """What is shown of a finding."""

    @property
    def level(self) -> str: ...
    @property
    def check(self) -> str: ...
    @property
    def sentence(self) -> str: ...
    @property
    def mend(self) -> tuple[str, ...]: ...


def finding_lines(finding: Finding, *, width: int, colour: bool) -> list[str]:
    """Return the lines of one finding; `width` is that of the longest check's name."""
    paint = Paint(enabled=colour)
    level = paint(f"{finding.level:<{_LEVEL_WIDTH}}", _COLOURS[finding.level])
    lines = [f"{level}  {finding.check:<{width}}  {printable(finding.sentence)}"]
    margin = " " * (_LEVEL_WIDTH + width + 4)
    return lines + [f"{margin}{printable(command)}" for command in finding.mend]


def summary(found: Sequence[Finding], *, colour: bool) -> str:
    """Return the line that the examination ends with."""
    paint = Paint(enabled=colour)
    problems = sum(finding.level == "problem" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)
    told = [count(number, noun) for number, noun in ((problems, "problem"), (warnings, "warning")) if number]
    if not told:
        return paint("all is well", "green")
    return paint(" and ".join(told), "red" if problems else "yellow")
