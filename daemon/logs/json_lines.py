"""Log lines for programs: one JSON object a line."""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import IO

from daemon.logs.fields import fields_of


class JsonHandler(logging.StreamHandler[IO[str]]):
    """Writes each record to `stream` as one line of ASCII; docs/monitoring.md describes the keys."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": dt.datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = fields_of(record)
        error = record.exc_info[1] if record.exc_info else None
        return json.dumps(
            line
            | ({"fields": fields} if fields else {})
            | ({"exception": logging.Formatter().formatException(record.exc_info)} if record.exc_info and error else {})
        )
