"""A name may hold anything, and every form of the log shows it in one line that neither forges another nor steers a terminal."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from daemon.errors import ConfigError, ModelError, PhotoError
from daemon.logs import output
from daemon.logs.floods import FloodHandler
from daemon.logs.journal import PrefixedHandler, fields
from daemon.logs.json_lines import JsonHandler
from daemon.logs.text import TextHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORGED = "2026-01-01 00:00:00 error: all photos are deleted"
HOSTILE = os.fsdecode(b"/p/\xff\r\n") + f"{FORGED}\n<0>{FORGED}\x0b\x85\u2028\x1b[31m\x9b2J\x07\u202e\u200bMESSAGE=x"
NAMES = (HOSTILE, "\n", "\r", "\x1b]0;x\x07", "\u2029", "\x00")


def text(file: io.StringIO, *, terminal: bool = False) -> logging.Handler:
    return TextHandler(Console(file=file, force_terminal=terminal, width=80, color_system=None))


FORMS: dict[str, Callable[[io.StringIO], logging.Handler]] = {
    "text": text,
    "terminal": lambda file: text(file, terminal=True),
    "flood": lambda file: FloodHandler(text(file)),
    "prefixed": PrefixedHandler,
    "json": JsonHandler,
}


def record(message: object, *args: object, error: BaseException | None = None, **given: object) -> logging.LogRecord:
    cause = (type(error), error, None) if error else None
    made: Any = logging.getLogger("t").makeRecord("t", logging.ERROR, "x.py", 1, message, args, cause, extra=given)
    return made  # type: ignore[no-any-return]


def ways(name: str) -> list[logging.LogRecord]:
    """Return records that a name gets into in every way there is."""
    return [
        record("%s is not indexed", name),
        record("%(path)s is not indexed", {"path": name}),
        record(f"{name} is not indexed"),
        record("100 %% of %s, %d files, %.1f s", name, 3, 0.5),
        record("%s", PhotoError(name, f"it says {name}")),
        record(ModelError(name, name)),
        record("%s", OSError(2, name, name)),
        record("%r", name),
        record("it is about a path", path=name, model=name, store=name, kind=name),
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_in_its_line(form: str, name: str) -> None:
    for made in ways(name):
        file = io.StringIO()
        FORMS[form](file).handle(made)
        line, end, rest = file.getvalue().partition("\n")
        assert (end, rest) == ("\n", "")
        assert line.isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_a_program_that_reads_json_meets_no_such_name_either(name: str) -> None:
    for made in ways(name):
        file = io.StringIO()
        JsonHandler(file).handle(made)
        line = json.loads(file.getvalue())
        assert all(value.isprintable() for value in (line["message"], *line.get("fields", {}).values()))


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_the_journal_is_one_printable_line(name: str) -> None:
    for made in ways(name):
        made.threadName = made.funcName = name
        for _, value in fields(made):
            assert value.decode().isprintable()


@pytest.mark.parametrize("form", FORMS)
def test_no_line_of_a_traceback_passes_for_a_line_of_the_log(form: str) -> None:
    file = io.StringIO()
    FORMS[form](file).handle(record("it ends", error=ValueError(f"about {HOSTILE}\n{FORGED}")))
    first, *others = file.getvalue().splitlines()
    assert others or form == "json"
    assert all(line.removeprefix("<3>").startswith("  ") and line.isprintable() for line in others)
    assert first.isprintable()


def test_an_error_of_ours_keeps_its_own_lines_and_no_others() -> None:
    error = ConfigError(HOSTILE, [f"At '{HOSTILE}': wrong", "second"])
    assert len(str(error).split("\n")) == 3
    assert all(line.isprintable() for line in str(error).split("\n"))


def test_what_stands_for_a_flood_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    handler = FloodHandler(text(file))
    for number in range(9):
        handler.handle(record("%s is not indexed", f"{number}{HOSTILE}"))
    handler.close()
    lines = file.getvalue().split("\n")
    assert len(lines) == 7
    assert "4 more" in lines[5]
    assert all(line.isprintable() for line in lines)


@pytest.fixture
def taken_over() -> Iterator[io.StringIO]:
    """Have what Python itself would print in a log, and leave everything as it was."""
    root, hooks = logging.getLogger(), (threading.excepthook, sys.unraisablehook)
    before, level, file = root.handlers[:], root.level, io.StringIO()
    root.handlers[:] = []
    output.begin("text", Console(file=file, width=80))
    output.take_over()
    yield file
    logging.captureWarnings(capture=False)
    threading.excepthook, sys.unraisablehook = hooks
    output.end()
    root.handlers[:], root.level = before, level


def test_a_thread_that_fails_says_so_in_the_log(taken_over: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        # pytest keeps a copy, which has to be UTF-8.
        raise ValueError(HOSTILE.replace("\udcff", ""))

    thread = threading.Thread(target=fail, name="part")
    thread.start()
    thread.join()
    first, *others = taken_over.getvalue().rstrip("\n").split("\n")
    assert "error: the thread part failed" in first
    assert any(line.startswith("  ValueError: /p/") for line in others)
    assert all(line.isprintable() for line in (first, *others))
    assert capfd.readouterr().err == ""
