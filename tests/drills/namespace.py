"""A mount namespace of one's own: file systems come and go in it, and the machine sees nothing of that."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.drills.installation import DrillError
from tests.namespaces import entering

HOLD_OPEN = "echo ready; exec cat"
"""What keeps the namespace: it ends when this process does, for its standard input is closed then."""


class Namespace:
    """A mount namespace that commands are run in. This process stays outside, and sees its files through /proc."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            [*entering("--mount"), "sh", "-c", HOLD_OPEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise DrillError("no mount namespace can be made")
        # Of a user who is not root, the namespace has its own root.
        of_a_user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        self.before = ["nsenter", f"--target={self._holder.pid}", *of_a_user, "--mount"]
        """What a command is put behind to run in it."""

    @property
    def mount_table(self) -> str:
        return Path(f"/proc/{self._holder.pid}/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")

    def seen(self, path: Path) -> Path:
        """Return where this process finds what `path` leads to in the namespace."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def run(self, *command: str | Path) -> None:
        """Run a command in it; DrillError when it fails."""
        done = subprocess.run([*self.before, *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DrillError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")

    def close(self) -> None:
        """End it; what is mounted in it goes with its last process."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        self._holder.stdout.close()
