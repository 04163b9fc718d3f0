"""Whatever a daemon answers, no line of it steers the terminal or passes for another line."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from cli import output
from cli.report.compare import compare_lines, overlap_lines
from cli.report.deletions import deletion_lines
from cli.report.failures import failure_lines, skipped_sentence
from cli.report.search import search_lines, search_notices
from cli.report.text import Paint
from cli.report.transfer import export_line, import_line, relocation_lines
from tests.unit.cli.conftest import IMPORTED, RELOCATED, TOTALS, deletions, failure, search_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

    from cli.answers import SearchAnswer

HOSTILE = "/p\x1b]0;x\x07\r\n  1.000  /forged\x9b2J\u2028\u202e.jpg"


def found() -> list[Any]:
    answer: SearchAnswer = search_answer((0.9, [HOSTILE, HOSTILE]), (0.8, ["/p/b.jpg"]))  # type: ignore[assignment]
    answer |= {"model": HOSTILE, "metric": HOSTILE, "models": [{"name": HOSTILE, "photos": 1, "of": 2}]}  # type: ignore[typeddict-item]
    return [answer, answer]


def reports() -> Iterator[Iterable[str]]:
    yield search_lines(found()[0])
    yield search_notices(found())
    yield compare_lines(found(), width=80)
    yield overlap_lines(found() + found())
    yield failure_lines({"failures": [failure(HOSTILE, HOSTILE)]}, now=0)  # type: ignore[typeddict-item]
    yield [skipped_sentence({HOSTILE: 1})]
    yield deletion_lines({"folders": [deletions(HOSTILE, reason=HOSTILE, state=HOSTILE, since=HOSTILE)]}, now=0)  # type: ignore[typeddict-item]
    yield [export_line(TOTALS | {"file": HOSTILE, "bytes": 1})]  # type: ignore[arg-type]
    yield [import_line(IMPORTED | {"vectors": {HOSTILE: 1}})]  # type: ignore[arg-type]
    yield relocation_lines(RELOCATED | {"missing": 1}, HOSTILE, HOSTILE)  # type: ignore[arg-type]


def at_terminal(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(raw, encoding="utf-8"))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return raw


def test_a_report_prints_as_many_lines_as_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    expected = 0
    for report in reports():
        said = list(report)
        expected += len(said)
        output.lines(said)
    shown = terminal.getvalue().decode().removesuffix("\n").split("\n")
    assert len(shown) == expected
    assert all(line.isprintable() for line in shown)


def test_colours_alone_pass_and_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    line = Paint(enabled=True)("ok", "green") + HOSTILE
    output.lines([line])
    monkeypatch.setenv("NO_COLOR", "1")
    output.lines([line])
    coloured, plain = terminal.getvalue().decode().removesuffix("\n").split("\n")
    assert coloured.startswith("\x1b[32mok\x1b[0m/p")
    assert coloured.removeprefix("\x1b[32mok\x1b[0m").isprintable()
    assert plain.isprintable()
