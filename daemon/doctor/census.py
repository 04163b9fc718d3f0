"""What lies below a folder, as the daemon's walk would meet it: counted in a process of its own, as the daemon's user.

A file system that does not answer hangs that process and not the examination.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from daemon.watch.filters import Filters
from daemon.watch.reconcile import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from daemon.doctor.users import User

GRACE_SECONDS = 10.0
"""How much longer than it may count the process may take: to start, and for a slow directory."""
EXAMPLES = 3
NO_ANSWER = "its file system does not answer"
FUTURE_SECONDS = 60.0
"""What is dated further ahead is no matter of two clocks that differ a little."""


@dataclass(slots=True)
class Census:
    """What was counted below a folder."""

    folder: str
    directories: int = 0
    photos: int = 0
    shut: int = 0
    """Directories that the daemon's user may not read."""
    locked: int = 0
    """Photos that the daemon's user may not read."""
    future: int = 0
    """Photos that are dated in the future."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first paths of each of the three."""
    complete: bool = False
    """Whether all was counted in the time there was."""
    reason: str = ""
    """Why nothing could be counted; a clause."""

    @property
    def at_least(self) -> str:
        """What stands before a number that is not the last."""
        return "" if self.complete else "at least "

    def _example(self, kind: str, path: bytes) -> None:
        shown = self.examples.setdefault(kind, [])
        if len(shown) < EXAMPLES:
            shown.append(os.fsdecode(path))


def taken(folder: Path, ignore: Sequence[str], user: User, seconds: float) -> Census:
    """Return what lies below `folder` as `user` may see it, counted for at most so many seconds."""
    asked = json.dumps({"folder": str(folder), "ignore": list(ignore), "seconds": seconds})
    command = [sys.executable, "-P", "-m", __name__]
    try:
        done = subprocess.run(
            command,
            input=asked.encode(),
            capture_output=True,
            timeout=seconds + GRACE_SECONDS,
            cwd="/",
            check=False,
            **user.becoming(),
        )
        return Census(**json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return Census(str(folder), reason=NO_ANSWER)
    except (OSError, ValueError):
        # It could not be executed, or not import what it needs.
        return Census(str(folder), reason=f"{user.name} may not run {sys.executable}, in which lookalike is installed")


def counted(folder: str, ignore: Sequence[str], seconds: float) -> Census:
    """Count what this process may see below `folder`."""
    from daemon.encode.images import EXTENSIONS  # noqa: PLC0415 - the process that is examined needs none of its imports

    deadline = time.monotonic() + seconds
    walk = Walk(folder, Filters(ignore, EXTENSIONS), stopped=lambda: time.monotonic() > deadline)
    found = Census(folder)
    newest = (time.time() + FUTURE_SECONDS) * 1e9
    try:
        for path, described in walk:
            _look(found, path, described, newest)
    except OSError as error:
        found.reason = (error.strerror or str(error)).lower()
    for directory in walk.unreadable:
        found._example("shut", directory)  # noqa: SLF001 - its own module
    found.directories, found.photos, found.shut = walk.directories, walk.files, len(walk.unreadable)
    found.complete = not found.reason and time.monotonic() <= deadline
    return found


def _look(found: Census, path: bytes, described: str, newest: float) -> None:
    if not os.access(path, os.R_OK):
        found.locked += 1
        found._example("locked", path)  # noqa: SLF001 - its own module
    modified = described.split(" ")[1:2]
    if modified and int(modified[0]) > newest:
        found.future += 1
        found._example("future", path)  # noqa: SLF001 - its own module


def _main() -> None:
    asked = json.load(sys.stdin)
    # ASCII: a name that is not UTF-8 travels as lone surrogates.
    print(json.dumps(asdict(counted(asked["folder"], asked["ignore"], asked["seconds"]))))  # noqa: T201 - the answer


if __name__ == "__main__":
    _main()
