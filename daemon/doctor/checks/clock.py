"""The clock: whether it is right, and whether files agree with it. A file's age decides when it is read."""

from __future__ import annotations

import ctypes
import os
import shlex
import time
from typing import TYPE_CHECKING

import daemon
from daemon.doctor.finding import Finding, note, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context

MARGIN_SECONDS = 86_400.0
UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""
_TIMEX_BYTES = 256
"""More than struct timex has."""
_STATUS_OFFSET = 5 * ctypes.sizeof(ctypes.c_long)
"""In struct timex: modes (padded), offset, freq, maxerror, esterror, and then status."""


def check(context: Context) -> Iterator[Finding]:
    now = time.time()
    behind = max(_written(daemon.__file__), _written(context.lock)) - now
    if behind > MARGIN_SECONDS:
        yield problem(
            f"the clock says {time.strftime('%Y-%m-%d', time.localtime(now))}, which is {behind / MARGIN_SECONDS:,.0f} days before "
            "lookalike itself was written; set it",
            "sudo timedatectl set-ntp true",
        )
    for census in context.census:
        if census.future:
            example = census.examples["future"][0]
            yield warning(
                f"{census.at_least}{census.future:,} of the photos in {census.folder} are dated in the future, {example} among "
                "them; by its age it cannot be told whether such a file is still being written, so set the clock of what writes "
                "them",
                f"find {shlex.quote(census.folder)} -type f -newermt now  # lists them",
            )
    if _is_unsynchronised():
        yield note(
            "nothing keeps the clock of this machine right; photos from other machines may seem to be of the future",
            "sudo timedatectl set-ntp true",
        )
    else:
        yield ok(f"it says {time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(now))}")


def _written(path: str | os.PathLike[str]) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _is_unsynchronised() -> bool:
    """Whether the kernel says that nobody disciplines its clock; False where it does not tell."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    # With no modes set, it only reads.
    if adjtimex is None or adjtimex(timex) < 0:
        return False
    return bool(ctypes.c_int.from_buffer(timex, _STATUS_OFFSET).value & UNSYNCHRONISED)
