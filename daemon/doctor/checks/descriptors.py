"""How many files the daemon may have open, and how many it has."""

from __future__ import annotations

import os
import re
import resource
from typing import TYPE_CHECKING

from daemon.doctor.finding import Finding, ok, problem, warning
from daemon.holder import lock_holder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context

ENOUGH = 1024
"""Photos in hand, connections, the stores' files: the usual limit is four times what a busy daemon has."""
NARROW = 0.8
_SERVICE = "sudo systemctl edit lookaliked  # write [Service] and LimitNOFILE=65536"


def check(context: Context) -> Iterator[Finding]:
    running = lock_holder(context.lock, context.machine.proc)
    limit = _limit_of(context, running)
    used = _open_files(context, running)
    if limit is not None and used is not None and used > NARROW * limit:
        yield problem(f"the daemon has {used:,} files open, and may have {limit:,}", "ulimit -n 65536", _SERVICE)
    elif limit is not None and limit < ENOUGH:
        yield warning(
            f"the daemon may have {limit:,} files open, and {ENOUGH:,} are usual", "ulimit -n 65536", _SERVICE
        )
    else:
        of = "any number" if limit is None else f"{limit:,}"
        yield ok(f"{of} files may be open" + (f", and the daemon has {used:,}" if used is not None else ""))


def _limit_of(context: Context, running: int | None) -> int | None:
    """Return the limit of the daemon that runs, or the one that it would get from here; None where there is none."""
    if running is not None and (text := context.machine.text(f"{running}/limits")):
        found = re.search(r"^Max open files\s+(\d+)", text, re.MULTILINE)
        return int(found[1]) if found else None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _open_files(context: Context, running: int | None) -> int | None:
    if running is None:
        return None
    try:
        return len(os.listdir(context.machine.proc / str(running) / "fd"))
    except OSError:
        return None
