"""Log lines for programs."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import sys
from typing import Any

from daemon.logs.json_lines import JsonHandler


def written(record: logging.LogRecord) -> dict[str, Any]:
    stream = io.StringIO()
    JsonHandler(stream).handle(record)
    text = stream.getvalue()
    assert text.isascii()
    assert text.count("\n") == 1
    line: dict[str, Any] = json.loads(text)
    return line


def record(message: str, *args: object, **fields: object) -> logging.LogRecord:
    return logging.getLogger("daemon.indexer").makeRecord(
        "daemon.indexer", logging.WARNING, __file__, 1, message, args, None, extra=fields
    )


def test_a_line_is_an_object_with_its_time_in_its_zone() -> None:
    made = record("%s is not indexed", "/p/a.jpg", path="/p/a.jpg", kind="damaged")
    line = written(made)
    at = dt.datetime.fromisoformat(line.pop("time"))
    assert at.tzinfo is not None
    assert abs(at.timestamp() - made.created) < 0.001
    assert line == {
        "level": "warning",
        "logger": "daemon.indexer",
        "message": "/p/a.jpg is not indexed",
        "fields": {"path": "/p/a.jpg", "kind": "damaged"},
    }


def test_a_line_without_fields_has_no_key_for_them() -> None:
    assert written(record("all is well")).keys() == {"time", "level", "logger", "message"}


def test_a_path_that_is_no_utf8_and_breaks_lines_is_escaped() -> None:
    line = written(record("x", path="/p/\udce9\n\x1b[31m.jpg"))
    assert line["fields"]["path"] == "/p/\\xe9\\n\\x1b[31m.jpg"


def test_an_exception_comes_with_its_traceback() -> None:
    made = record("it ends")
    try:
        raise ValueError("the cause")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = written(made)
    assert line["message"] == "it ends"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: the cause")
