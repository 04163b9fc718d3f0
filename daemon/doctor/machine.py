"""The machine as the checks see it: the process file system, the commands it has, and nothing that is written."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from daemon.paths import NAME
from daemon.watch.mounts import mount_of

COMMAND_SECONDS = 5.0
"""How long a command of the system may take: systemctl waits for a service manager that hangs."""


class Ran(NamedTuple):
    """What a command said, and the status it ended with."""

    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the checks read; another `root` stands in for another machine."""

    root: Path = Path("/")

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def configuration(self) -> Path:
        """The configuration of the daemon that the machine's service manager runs, where it has one."""
        return self.root / "etc" / NAME / "lookalike.yaml"

    @property
    def has_systemd(self) -> bool:
        """Whether systemd is what runs services here: sd_booted(3)."""
        return (self.root / "run" / "systemd" / "system").is_dir()

    def given_by_unit(self) -> dict[str, str]:
        """Return the variables that lookaliked.service of the machine is started with: systemd.exec(5), RuntimeDirectory=."""
        places = {"CONFIGURATION": "etc", "STATE": "var/lib", "CACHE": "var/cache", "RUNTIME": "run"}
        given = {f"{kind}_DIRECTORY": str(self.root / place / NAME) for kind, place in places.items()}
        credentials = self.root / "etc" / NAME / "credentials"
        # Root alone may read them; what is in them is left out for anybody else.
        return given | (
            {"CREDENTIALS_DIRECTORY": str(credentials)} if os.access(credentials, os.R_OK | os.X_OK) else {}
        )

    def kind_of(self, path: Path) -> str:
        """Return the type of the file system that `path` lies on."""
        return mount_of(str(path), self.text("self/mountinfo")).type

    def text(self, name: str) -> str:
        """Return the content of a file below /proc, an empty string where it cannot be read."""
        try:
            return (self.proc / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def number(self, name: str) -> int | None:
        """Return the number that a file below /proc holds, None where it holds none."""
        text = self.text(name).strip()
        return int(text) if text.isdecimal() else None

    def run(self, *command: str, seconds: float = COMMAND_SECONDS) -> Ran | None:
        """Return what a command said, None where there is no such command or where it does not end in time."""
        if shutil.which(command[0]) is None:
            return None
        environment = os.environ | {"LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
            return Ran(done.returncode, (done.stdout + done.stderr).decode(errors="replace").strip())
        return None
