"""Log lines for people."""

from __future__ import annotations

import io
import logging
import re

import pytest
from rich.console import Console

from daemon.logs.text import TextHandler


def logged(level: int, message: str, *, interactive: bool = True) -> str:
    file = io.StringIO()
    handler = TextHandler(Console(file=file, force_terminal=interactive, width=100, color_system=None))
    handler.handle(logging.LogRecord("test", level, __file__, 1, message, (), None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("level", "named"),
    [(logging.DEBUG, "debug: "), (logging.INFO, ""), (logging.WARNING, "warning: "), (logging.ERROR, "error: ")],
)
def test_a_line_has_its_time_and_its_level_where_it_is_not_information(level: int, named: str) -> None:
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {named}all is well\n", logged(level, "all is well"))


def test_elsewhere_than_in_a_terminal_a_line_has_its_date() -> None:
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d all is well\n", logged(logging.INFO, "all is well", interactive=False)
    )


def test_a_line_is_neither_marked_up_nor_broken() -> None:
    message = "[bold]/photos/[red]a.jpg[/] " + "x" * 300
    assert message in logged(logging.INFO, message)


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert "\x1b]0;" not in logged(logging.INFO, "/photos/\x1b]0;evil\x07.jpg")


def test_a_line_that_cannot_be_written_does_not_end_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    handler = TextHandler(Console(file=Broken(), width=100))
    handler.handle(logging.LogRecord("test", logging.INFO, __file__, 1, "lost", (), None))
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler.handle(logging.LogRecord("test", logging.INFO, __file__, 1, "lost", (), None))
    assert capsys.readouterr().err.count("--- Logging error ---") == 1
