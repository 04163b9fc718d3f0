"""The examination: each check in turn, none of which can keep the others from theirs."""

from __future__ import annotations

import importlib
import queue
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from daemon.doctor.context import assembled
from daemon.doctor.finding import Finding, problem, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.doctor.context import Context, Patient

T = TypeVar("T")

NAMES = (
    "configuration",
    "installation",
    "models",
    "folders",
    "file systems",
    "inotify",
    "permissions",
    "space",
    "memory",
    "clock",
    "descriptors",
    "stores",
    "lock",
    "socket",
    "service",
    "state",
)
"""Every check, in the order in which they are made; its module in `checks` has its name."""

CHECK_SECONDS = 45.0
"""How long a check may take: what hangs is a file system, and it hangs whoever looks at it."""


def examine(patient: Patient, *, check_seconds: float = CHECK_SECONDS) -> Iterator[Finding]:
    """Yield what every check finds, at least one finding each, as soon as it is found."""
    context = _in_time(lambda: assembled(patient), check_seconds)
    if isinstance(context, Finding):
        yield replace(context, check=NAMES[0])
        return
    for name in NAMES:
        found = _in_time(partial(_made, name, context), check_seconds)
        yield from (replace(one, check=name) for one in ([found] if isinstance(found, Finding) else found))


def _made(name: str, context: Context) -> list[Finding]:
    # Imported in its turn: a package that is not there costs the checks that need it, and installation says which it is.
    module = importlib.import_module(f"daemon.doctor.checks.{name.replace(' ', '_')}")
    return list(module.check(context))


def _in_time(look: Callable[[], T], seconds: float) -> T | Finding:
    """Return what `look` does, in a thread of its own: one that hangs is left behind, and told of in its place."""
    outcome: queue.SimpleQueue[T | Finding] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put(look())
        except Exception as error:  # noqa: BLE001 - a check that this machine surprises is no reason not to make the others
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            outcome.put(warning(f"this could not be checked ({what}); please report it, with this line"))

    threading.Thread(target=run, name="doctor", daemon=True).start()
    try:
        return outcome.get(timeout=seconds)
    except queue.Empty:
        return problem(
            f"this did not come to an end within {seconds:g} s; a file system whose server is away hangs whoever looks at it",
            "findmnt --types nfs,nfs4,cifs,fuse.sshfs",
        )
