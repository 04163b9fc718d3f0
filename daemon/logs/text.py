"""Log lines for people: coloured in a terminal, plain and with the date elsewhere."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from rich.text import Text

from daemon.logs.lines import lines_of

if TYPE_CHECKING:
    from rich.console import Console


class TextHandler(logging.Handler):
    """Writes log lines above what else the console shows; a level is named where it is not information."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        # Whoever sits before a terminal knows the date.
        self._time = "%H:%M:%S " if console.is_terminal else "%Y-%m-%d %H:%M:%S "

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = Text(time.strftime(self._time, time.localtime(record.created)), style="dim")
            if record.levelno != logging.INFO:
                text.append(
                    f"{record.levelname.lower()}: ", style="bold red" if record.levelno >= logging.ERROR else "yellow"
                )
            text.append("\n".join(lines_of(record)), style="")
            self._console.print(text, soft_wrap=True, highlight=False)
        except Exception:  # noqa: BLE001 - logging's own contract: a line that cannot be written must not end the work
            self.handleError(record)
