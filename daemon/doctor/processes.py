"""Processes by /proc, and the inotify watches that a user's processes hold."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INOTIFY = "anon_inode:inotify"
_WATCH = b"inotify "


class Held(NamedTuple):
    """What processes hold of the kernel's inotify; `hidden` of them could not be looked into."""

    instances: int
    watches: int
    hidden: int


def pids(proc: Path) -> Iterator[int]:
    """Yield the id of every process that can be seen."""
    try:
        names = os.listdir(proc)
    except OSError:
        return
    yield from (int(name) for name in names if name.isdecimal())


def owner_of(pid: int, proc: Path) -> int | None:
    """Return the user id that a process runs as."""
    try:
        return os.stat(proc / str(pid)).st_uid
    except OSError:
        return None


def inotify_of(uid: int, proc: Path, *, leaving_out: frozenset[int] = frozenset()) -> Held:
    """Return what the processes of a user hold, without those that are left out: the kernel counts by user."""
    instances = watches = hidden = 0
    for pid in pids(proc):
        if pid in leaving_out or owner_of(pid, proc) != uid:
            continue
        try:
            found = list(_watches_of(proc / str(pid)))
        except FileNotFoundError:
            continue
        except OSError:
            hidden += 1
            continue
        instances += len(found)
        watches += sum(found)
    return Held(instances, watches, hidden)


def _watches_of(process: Path) -> Iterator[int]:
    """Yield of each inotify instance of a process how many watches it has: proc_pid_fdinfo(5)."""
    for descriptor in os.listdir(process / "fd"):
        try:
            if os.readlink(process / "fd" / descriptor) != INOTIFY:
                continue
            described = (process / "fdinfo" / descriptor).read_bytes()
        except FileNotFoundError:
            # Closed since it was listed.
            continue
        yield sum(line.startswith(_WATCH) for line in described.splitlines())
