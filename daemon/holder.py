"""Find the process that holds the lock on a data directory.

Standard library only: the CLI imports it.
"""

from __future__ import annotations

import os
from pathlib import Path

from daemon.ownership import read_file
from daemon.paths import LOCK_NAME

PROC = Path("/proc")
PID_BYTES = 32
MOST_CHARACTERS = 200
"""How much of a command line a sentence shows."""


def locked_by(data_dir: Path, proc: Path = PROC) -> str | None:
    """Return "is locked by process 3018 (lookaliked run …)", None where no process holds the lock."""
    holder = lock_holder(data_dir / LOCK_NAME, proc)
    return None if holder is None else f"is locked by process {holder} ({_short(command_of(holder, proc))})"


def lock_holder(path: Path, proc: Path) -> int | None:
    """Return the process that holds flock(2) on the file at `path`, None where none does.

    It is read from proc_locks(5): to try the lock would be to take it, and a daemon that starts at that moment would give up. A
    file system may show the kernel another device than stat(2) does (btrfs), so then the file's inode has to do.
    """
    try:
        found = os.lstat(path)
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
        said = read_file(path, PID_BYTES).decode(errors="replace").strip()
    except OSError:
        return None
    return int(said) if said.isdecimal() else None


def command_of(pid: int, proc: Path) -> str:
    """Return what a process was started with, an empty string where that cannot be read."""
    try:
        arguments = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return " ".join(os.fsdecode(part) for part in arguments.split(b"\0") if part)


def _short(command: str) -> str:
    """Return a command line as somebody types it: a script without its interpreter and without its directory."""
    program, _, rest = command.partition(" ")
    if os.path.basename(program).startswith("python") and rest and not rest.startswith("-"):
        program, _, rest = rest.partition(" ")
    shown = f"{os.path.basename(program)} {rest}".strip() or "its command cannot be read"
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[: MOST_CHARACTERS - 1]}…"
