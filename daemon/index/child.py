"""Launcher: ties a command's life to its parent's, then becomes that command.

Run as a script with the standard library alone: `python -I -S child.py PARENT_PID COMMAND…`. It stands in for
`preexec_fn`, which is unsafe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_ORPHANED = 125
EXIT_CANNOT_EXECUTE = 126


def die_with_parent() -> None:
    """Ask the kernel for a signal when the parent ends; without prctl, do nothing.

    SIGTERM, not SIGKILL: a store that is told to end writes out what it holds and closes its files. One that ignores it
    is found by its pid file when the daemon starts again.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def restore_signals() -> None:
    """Undo what survives exec: the blocked and ignored signals of the daemon, and Python's own."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def main(arguments: list[str]) -> int:
    parent, command = int(arguments[0]), arguments[1:]
    die_with_parent()
    # A parent that ended before prctl took effect sends no signal.
    if os.getppid() != parent:
        return EXIT_ORPHANED
    restore_signals()
    try:
        os.execv(command[0], command)  # noqa: S606 - there is no shell to want
    except OSError as error:
        print(f"{command[0]} cannot be executed: {error.strerror}", file=sys.stderr)  # noqa: T201 - its log
        return EXIT_CANNOT_EXECUTE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
