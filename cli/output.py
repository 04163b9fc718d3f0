"""The only place that prints: data to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from cli.errors import CliError, OutputClosedError
from cli.report.text import COLOURS
from daemon.names import printable
from daemon.standard_streams import discard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cli.client import Reply


def lines(shown: Iterable[str]) -> None:
    """Print lines of data, each as one printable line; colours pass where they are wanted."""
    # Where the locale cannot show a character, its escape is better than no output.
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    coloured = colour_wanted()
    text = "".join(f"{_with_colours(line) if coloured else printable(line)}\n" for line in shown)
    _write(text.encode(encoding, "backslashreplace"))


def paths(found: Iterable[str], *, separator: bytes) -> None:
    """Print the exact bytes of every path, each followed by `separator`."""
    _write(b"".join(os.fsencode(path) + separator for path in found))


def raw(data: bytes) -> None:
    """Print bytes that are no text; CliError at a terminal."""
    if _on_terminal():
        raise CliError("an export is no text for a terminal: name a file, or send it on with | or >")
    _write(data)


def as_json(reply: Reply[Mapping[str, object]]) -> None:
    """Print the daemon's JSON unchanged; on a terminal, indented."""
    raw = json.dumps(reply.answer, indent=2).encode("ascii") if _on_terminal() else reply.raw
    _write(raw.rstrip(b"\n") + b"\n")


def notice(sentence: str) -> None:
    """Say something that is not data."""
    # Where there is nobody left to tell, the exit code still speaks.
    with suppress(OSError):
        print(printable(sentence), file=sys.stderr, flush=True)


def refused(error: OSError) -> CliError:
    """Return what to say of an output that takes nothing, and write nothing to it any more."""
    discard(sys.stdout)
    return CliError(f"the output cannot be written: {error.strerror or error}")


def waiting(sentence: str) -> None:
    """Say to a person at a terminal what is waited for."""
    if sys.stderr is not None and sys.stderr.isatty():
        notice(sentence)


def colour_wanted() -> bool:
    """Return whether data may be in colour: on a terminal, unless NO_COLOR says otherwise (https://no-color.org)."""
    return _on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _with_colours(line: str) -> str:
    # split() puts what it splits at in every second place.
    parts = COLOURS.split(line)
    return "".join(part if place % 2 else printable(part) for place, part in enumerate(parts))


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _write(data: bytes) -> None:
    if sys.stdout is None:
        # So it is when the caller closed it; its descriptor may be the daemon's socket by now.
        raise CliError("the output cannot be written: standard output is closed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        discard(sys.stdout)
        raise OutputClosedError from error
    except OSError as error:
        raise refused(error) from error
