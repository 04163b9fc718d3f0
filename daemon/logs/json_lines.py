"""Log lines for programs: one JSON object a line."""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import IO

from daemon.logs.fields import fields_of
from daemon.logs.lines import message_of, traceback_of
from daemon.names import printable


class JsonHandler(logging.StreamHandler[IO[str]]):
    """Writes each record to `stream` as one line of ASCII; docs/monitoring.md describes the keys."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": dt.datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record),
        }
        fields = {
            name: printable(value) if isinstance(value, str) else value for name, value in fields_of(record).items()
        }
        traceback = "\n".join(traceback_of(record))
        return json.dumps(
            line | ({"fields": fields} if fields else {}) | ({"exception": traceback} if traceback else {})
        )
