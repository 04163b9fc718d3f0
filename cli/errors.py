"""What can go wrong for a caller: each error carries the sentence that is shown and the exit code.

CliError                  1
├── DaemonUnreachable    69  (EX_UNAVAILABLE of sysexits.h)
├── RefusedError          1  the daemon answered, and the answer is an error
└── OutputClosedError   141  nobody reads the output any more (128 + SIGPIPE)
"""

from __future__ import annotations

from typing import ClassVar


class CliError(Exception):
    """Its message is one sentence for the person who ran the command."""

    exit_code: ClassVar[int] = 1


class DaemonUnreachable(CliError):  # noqa: N818 - the sentence reads "the daemon is unreachable"
    """The daemon does not run, may not be asked, or does not answer in time."""

    exit_code = 69


class RefusedError(CliError):
    """The daemon refused the request; `code` is one of the interface's error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OutputClosedError(CliError):
    """The reader of standard output has gone, as in `lookalike search a.jpg | head -1`; nothing is said about it."""

    exit_code = 141
