"""Runs what a stranger's graph has a part in: in a process of its own, which may take so much memory and so much time.

A graph of a few bytes can ask for a constant of many gigabytes, or for a loop without an end.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any

from daemon.errors import LookalikeError, ModelError
from daemon.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Say = Callable[[str], None]
    """Is told what is done next."""

DEADLINE_SECONDS = 120
"""For each step, from what is said to what is said next."""
MEMORY_BYTES = 8 << 30
# A graph is read, its weights are laid out, and some are laid out again as the kernels want them.
_COPIES_OF_WEIGHTS = 4


def confined(
    name: str,
    function: str,
    arguments: tuple[Any, ...],
    say: Say,
    *,
    bounded: bool = True,
    deadline_seconds: int = DEADLINE_SECONDS,
) -> Any:
    """Return what `function`, MODULE:NAME, returns of the arguments and of a last one, `say`, called in another process.

    Its address space is bounded where `bounded` says so, which drivers of other devices than the CPU do not bear. What it
    raises on purpose is raised here; ModelError of the model `name` when it takes too much or ends otherwise.
    """
    ours, theirs = Pipe()
    command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno())]
    with (
        ours,
        # In a group of its own, an interrupt from the keyboard ends it by way of this process, and in silence.
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # The libraries that read a stranger's graph quote it.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            process_group=0,
        ) as process,
    ):
        theirs.close()
        assert process.stdout is not None  # noqa: S101 - for the type checker
        relay = Relay(process.stdout)
        try:
            ours.send((function, arguments, bounded, deadline_seconds))
            for kind, value in _received(ours):
                if kind == "said":
                    say(value)
                elif kind == "returned":
                    return value
                else:
                    raise _restored(*value)
            status = process.wait()
            relay.finish()
            raise ModelError(name, _end(status, deadline_seconds))
        finally:
            process.kill()
            relay.finish()


def allow(weights: int) -> None:
    """Let this process, where it is bounded, use what a model of so many bytes takes; never more than the machine has."""
    bounded, machine = resource.getrlimit(resource.RLIMIT_AS)
    if bounded != resource.RLIM_INFINITY:
        wanted = MEMORY_BYTES + _COPIES_OF_WEIGHTS * weights
        resource.setrlimit(resource.RLIMIT_AS, (max(bounded, min(wanted, machine)), machine))


def _received(connection: Connection) -> Iterator[tuple[str, Any]]:
    with suppress(EOFError, ConnectionError):
        while True:
            yield connection.recv()


def _restored(kind: type[LookalikeError], text: str, state: dict[str, Any]) -> LookalikeError:
    error = kind.__new__(kind)
    LookalikeError.__init__(error, *text.split("\n"))
    error.__dict__.update(state)
    return error


def _end(status: int, deadline_seconds: int) -> str:
    if status == -signal.SIGALRM:
        return f"trying it was given up after {deadline_seconds} s without an end; use a smaller model, or export it again."
    if status < 0:
        how = signal.Signals(-status).name
        return f"trying it ended the process that did ({how}), as for want of memory; use a smaller model, or export it again."
    return f"trying it failed with status {status}, for the reason above; export the model again."


def _main(descriptor: int) -> None:
    """Do what the other process asks for, once."""
    with Connection(descriptor) as connection, suppress(BrokenPipeError):
        function, arguments, bounded, deadline_seconds = connection.recv()
        if bounded:
            _bound()

        def say(sentence: str) -> None:
            connection.send(("said", sentence))
            # Nobody handles the signal, so that it ends the process wherever that is, in a graph too.
            signal.alarm(deadline_seconds)

        signal.alarm(deadline_seconds)
        connection.send(_outcome(function, arguments, say))


def _outcome(function: str, arguments: tuple[Any, ...], say: Say) -> tuple[str, Any]:
    module, _, name = function.partition(":")
    try:
        return "returned", getattr(importlib.import_module(module), name)(*arguments, say)
    except LookalikeError as error:
        return "raised", (type(error), str(error), vars(error))


def _bound() -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = machine if hard == resource.RLIM_INFINITY else min(machine, hard)
    resource.setrlimit(resource.RLIMIT_AS, (min(MEMORY_BYTES, most), most))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
