"""The lock on the data directory, and what a daemon that was killed left running."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from daemon.doctor.finding import Finding, note, ok, problem, warning
from daemon.holder import command_of, lock_holder, written_pid
from daemon.index.embedded import ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context

STORES = ("valkey", "milvus")


def check(context: Context) -> Iterator[Finding]:
    path, proc = context.lock, context.machine.proc
    try:
        os.stat(path)
    except FileNotFoundError:
        yield ok(f"no daemon has worked on {context.data_dir} yet")
        return
    except OSError as error:
        yield note(f"{path} cannot be looked at by you: {(error.strerror or str(error)).lower()}", context.as_root)
        return
    holder = lock_holder(path, proc)
    if holder is None:
        yield _unheld(context)
        yield from _orphans(context)
    else:
        yield _held(context, holder)


def _held(context: Context, holder: int) -> Finding:
    command = command_of(holder, context.machine.proc) or "a process that cannot be looked into"
    told = f"{context.data_dir} is in the hands of process {holder} ({command})"
    if context.status is not None:
        return ok(told)
    return problem(
        f"{told}, and no daemon answers on {context.socket}: it may still be starting, listen on another socket, or hang",
        f"tr '\\0' ' ' < /proc/{holder}/cmdline",
        f"kill {holder}  # if it hangs; nothing is lost",
    )


def _unheld(context: Context) -> Finding:
    pid = written_pid(context.lock)
    left = f"by process {pid}, " if pid is not None else ""
    return ok(
        f"nobody works on {context.data_dir}; the lock file that is there was left {left}which has ended, and is harmless"
    )


def _orphans(context: Context) -> Iterator[Finding]:
    """The stores of a daemon that was killed end with it, or are ended by the next one."""
    for store in STORES:
        left = ProcessIdentity.read(context.data_dir / f"{store}.pid")
        if left is not None and left.running:
            yield warning(
                f"{store} (process {left.pid}) still runs, left by a daemon that was killed; the next one ends it",
                f"kill {left.pid}",
            )
