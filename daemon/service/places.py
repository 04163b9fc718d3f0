"""Where a service manager has its units, and where the service keeps what is its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from daemon import paths

SERVICE = "lookaliked.service"
SOCKET = "lookaliked.socket"
SLICE = "lookalike.slice"
ACCOUNT = "lookalike"
"""The user and the group that the service of a machine runs as."""


@dataclass(frozen=True)
class Places:
    """The places of the machine's service (`system`) or of one user's."""

    manager: Literal["system", "user"]
    units: Path
    config: Path
    credentials: Path
    data_dir: Path
    cache_dir: Path
    runtime_dir: Path
    accounts: Path | None = None
    """The file by which systemd-sysusers(8) makes the user and the group."""

    @property
    def systemctl(self) -> tuple[str, ...]:
        return ("systemctl",) if self.manager == "system" else ("systemctl", "--user")

    @property
    def journalctl(self) -> str:
        """What shows the service's log."""
        return f"journalctl {'--unit' if self.manager == 'system' else '--user-unit'} {SERVICE}"

    @property
    def variables(self) -> dict[str, str]:
        """What the unit tells the daemon of its places."""
        given = {"CACHE_DIRECTORY": self.cache_dir, "RUNTIME_DIRECTORY": self.runtime_dir}
        if self.manager == "system":
            given |= {"CONFIGURATION_DIRECTORY": self.config.parent, "STATE_DIRECTORY": self.data_dir}
        return {name: str(path) for name, path in given.items()}


def of_the_system() -> Places:
    """Return the places of the machine's one service."""
    return Places(
        "system",
        units=Path("/etc/systemd/system"),
        config=Path("/etc/lookalike/lookalike.yaml"),
        credentials=Path("/etc/lookalike/credentials"),
        data_dir=Path("/var/lib/lookalike"),
        cache_dir=Path("/var/cache/lookalike"),
        runtime_dir=Path("/run/lookalike"),
        accounts=Path("/etc/sysusers.d/lookalike.conf"),
    )


def of_this_user() -> Places:
    """Return the places of the service of whoever runs this: those that `lookaliked run` has as well."""
    config = paths.config_file()
    return Places(
        "user",
        units=config.parents[1] / "systemd" / "user",
        config=config,
        credentials=config.parent / "credentials",
        data_dir=paths.data_dir(),
        cache_dir=paths.cache_dir(),
        runtime_dir=paths.runtime_dir(),
    )


def is_running(places: Places) -> bool:
    """Return whether the service manager is there: sd_booted(3), and for a user the socket of the manager in the session."""
    if places.manager == "system":
        return Path("/run/systemd/system").is_dir()
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}", "systemd", "private").exists()
