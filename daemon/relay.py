"""Prints what child processes print: line by line, printable, and no more of it than a person reads."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_LINE_BYTES = 4096
"""A longer line is shown as several."""
MAX_LINES = 1000
LAST_WORDS_SECONDS = 2.0
"""How long is waited for the rest once a child has ended: a process that it has left behind may hold the pipe."""


class Relay:
    """Prints to standard error what comes out of `pipe`, on a separate thread; `finish` waits until all of it is there."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._thread = threading.Thread(target=self._print, name="relay", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for what the child, which has ended, printed last."""
        self._thread.join(LAST_WORDS_SECONDS)

    def _print(self) -> None:
        lines = 0
        with self._pipe:
            # A child that prints without end is read without end, or it would wait for ever.
            while line := self._pipe.readline(MAX_LINE_BYTES):
                lines += 1
                if lines <= MAX_LINES:
                    _print_line(line.decode(errors="surrogateescape").rstrip("\r\n"))
                elif lines == MAX_LINES + 1:
                    _print_line("it prints more than is shown here")


def run(command: Sequence[str], directory: Path) -> int:
    """Run a command in a directory, whose output is no data, print its output to standard error, and return its exit status."""
    with subprocess.Popen(
        command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        relay = Relay(process.stdout)
        status = process.wait()
        relay.finish()
    return status


def _print_line(line: str) -> None:
    # Nobody may be left to read it; then the exit status still speaks.
    with suppress(OSError, ValueError):
        print(printable(line), file=sys.stderr, flush=True)  # noqa: T201 - the child's own words
