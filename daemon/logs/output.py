"""Where log lines go: as the configuration says, or as stderr asks for."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Literal

from daemon.logs.floods import FloodHandler
from daemon.logs.journal import SOCKET, JournalHandler, PrefixedHandler, leads_to_journal, listens
from daemon.logs.json_lines import JsonHandler
from daemon.logs.text import TextHandler

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

log = logging.getLogger(__name__)

Form = Literal["text", "json", "journal"]

STDERR = 2
SILENT = ("watchdog", "uvicorn", "pymilvus")
"""Libraries that say at length what our own errors say in a sentence."""


def begin(
    wanted: Form | Literal["auto"], console: Console, *, level: str = "info", journal_socket: Path = SOCKET
) -> Form:
    """Send all log lines from now on where `wanted` says, and return the form they have.

    `auto` is the journal for a service whose stderr leads there, and text otherwise. Where no journal listens at
    `journal_socket`, its lines go to stderr with their priority before them.
    """
    form: Form = wanted if wanted != "auto" else "journal" if leads_to_journal(STDERR, os.environ) else "text"
    end()
    root = logging.getLogger()
    root.handlers[:] = [FloodHandler(_handler(form, console, journal_socket))]
    root.setLevel(level.upper())
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return form


def take_over() -> None:
    """Log what Python prints to standard error otherwise, with names as they are: warnings, and how a thread failed."""
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_failed_thread
    sys.unraisablehook = _log_unraisable


def _log_failed_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else "unknown"
    # As threading.excepthook has it: SystemExit ends a thread on purpose.
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        cause = (failed.exc_type, failed.exc_value, failed.exc_traceback)
        log.error("the thread %s failed", name, exc_info=cause)


def _log_unraisable(failed: sys.UnraisableHookArgs) -> None:
    if failed.exc_value is not None:
        cause = (failed.exc_type, failed.exc_value, failed.exc_traceback)
        log.error("%s: %s", failed.err_msg or "an exception was ignored", type(failed.object).__name__, exc_info=cause)


def end() -> None:
    """Tell what is still held. Not left to logging.shutdown(): a library that configures logging makes it forget our handlers."""
    for handler in logging.getLogger().handlers:
        handler.close()


def _handler(form: Form, console: Console, journal_socket: Path) -> logging.Handler:
    match form:
        case "text":
            return TextHandler(console)
        case "json":
            return JsonHandler(console.file)
        case "journal":
            lines = PrefixedHandler(console.file)
            return JournalHandler(lines, journal_socket) if listens(journal_socket) else lines
