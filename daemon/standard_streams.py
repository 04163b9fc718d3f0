"""Standard input, output and error of a process that was started without some of them.

Standard library only: `lookalike` imports it at every start.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_INPUT, _OUTPUT, _ERROR = 0, 1, 2


@contextmanager
def in_order() -> Iterator[None]:
    """Let a program run with three standard descriptors, and end without a word about what could not be printed."""
    _open_missing()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except OSError:
                discard(stream)


def _open_missing() -> None:
    """Open the null device for each standard descriptor that is closed.

    Otherwise the next file or socket that is opened would get its number, and what is printed would go into that. `sys.stdin` and
    `sys.stdout` stay None where they were, so that a command can say that it has nothing to read from or to write to. Standard error
    always has somebody who writes to it.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERROR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is this one: those below it are open by now.
            os.open(os.devnull, os.O_RDONLY if descriptor == _INPUT else os.O_WRONLY)
            os.set_inheritable(descriptor, True)
    if sys.stderr is None:
        sys.stderr = open(_ERROR, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for the life of the process


def discard(stream: TextIO | None) -> None:
    """Send what `stream` still holds, and all that follows, to the null device: its reader has gone, or its disk is full.

    The interpreter writes out what is left when it ends, and would report the same error a second time.
    """
    if stream is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
