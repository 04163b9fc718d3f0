"""The words of a log line. No name in it can end the line, begin another one or steer a terminal."""

from __future__ import annotations

import logging
import numbers
from collections.abc import Mapping

from daemon.errors import shown
from daemon.names import printable

INDENT = "  "
"""Before each further line of a record. A record begins with something else in every form, so that no text can pass for a record."""


def lines_of(record: logging.LogRecord) -> list[str]:
    """Return the message of a record and its traceback, in printable lines; all but the first are indented."""
    first, *others = message_of(record).split("\n")
    return [first, *(f"{INDENT}{line}" for line in (*others, *traceback_of(record)))]


def message_of(record: logging.LogRecord) -> str:
    """Return the message: one printable line, or the printable lines that an error of ours consists of."""
    template, given = record.msg, record.args
    if not given:
        return shown(template)
    try:
        if isinstance(given, Mapping):
            return printable(str(template)) % {key: _given(one) for key, one in given.items()}
        return printable(str(template)) % tuple(map(_given, given))
    # An object of a library may ask for its own kind of formatting.
    except (TypeError, ValueError):
        return printable(record.getMessage())


def traceback_of(record: logging.LogRecord) -> list[str]:
    """Return the traceback of the exception that a record has, in printable lines; none where it has none."""
    if not record.exc_info or record.exc_info[1] is None:
        return []
    return [printable(line) for line in logging.Formatter().formatException(record.exc_info).split("\n")]


def _given(value: object) -> object:
    return value if isinstance(value, numbers.Number) else shown(value)
