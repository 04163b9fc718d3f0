from __future__ import annotations

import pytest

from cli.report.doctor import finding_lines, summary
from daemon.doctor import NAMES
from daemon.doctor.finding import Finding, ok, problem, warning


def test_the_commands_that_mend_a_finding_stand_below_its_sentence() -> None:
    found = Finding("problem", "too few watches", ("sudo sysctl -w a=1", "echo a=1"), "inotify")

    assert finding_lines(found, width=13, colour=False) == [
        "problem  inotify        too few watches",
        "                        sudo sysctl -w a=1",
        "                        echo a=1",
    ]


def test_a_level_has_its_colour_and_names_cannot_speak_to_the_terminal() -> None:
    (line,) = finding_lines(Finding("warning", "/a\x1b[2J.jpg", (), "folders"), width=7, colour=True)

    assert line == "\x1b[33mwarning\x1b[0m  folders  /a\\x1b[2J.jpg"


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ([], "all is well"),
        ([ok("a"), warning("b")], "1 warning"),
        ([problem("a"), problem("b"), warning("c")], "2 problems and 1 warning"),
    ],
)
def test_the_last_line_says_how_much_was_found(found: list[Finding], line: str) -> None:
    assert summary(found, colour=False) == line


def test_every_check_has_a_name_of_one_or_two_words() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert max(map(len, NAMES)) < 20
