"""Processes by /proc: who holds a lock, and the inotify watches that a user's processes hold."""

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


def command_of(pid: int, proc: Path) -> str:
    """Return what a process was started with, an empty string where that cannot be read."""
    try:
        arguments = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return " ".join(os.fsdecode(part) for part in arguments.split(b"\0") if part)


def owner_of(pid: int, proc: Path) -> int | None:
    """Return the user id that a process runs as."""
    try:
        return os.stat(proc / str(pid)).st_uid
    except OSError:
        return None


def lock_holder(path: Path, proc: Path) -> int | None:
    """Return the process that holds flock(2) on the file at `path`, None where none does.

    It is read from proc_locks(5): to try the lock would be to take it, and a daemon that starts at that moment would give up. A
    file system may show the kernel another device than stat(2) does (btrfs), so then the file's inode has to do.
    """
    try:
        found = os.stat(path)
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return None
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    other = None
    for line in lines:
        fields = line.split()
        # A process that waits for a lock has "->" in the second place.
        if len(fields) < 6 or fields[1] != "FLOCK" or not fields[5].endswith(f":{found.st_ino}"):  # noqa: PLR2004
            continue
        holder = int(fields[4])
        if fields[5] == f"{device}:{found.st_ino}":
            # A process of another pid namespace has no number here.
            return holder if holder > 0 else written_pid(path)
        other = holder
    return other if other is not None and other == written_pid(path) else None


def written_pid(path: Path) -> int | None:
    """Return the process id that a lock file names."""
    try:
        said = path.read_text(errors="replace").strip()
    except OSError:
        return None
    return int(said) if said.isdecimal() else None


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
