"""Where lookalike keeps things: what systemd gives a service, else the XDG base directories; and the socket's place.

Standard library only: the CLI imports it. https://specifications.freedesktop.org/basedir-spec/latest/, and of systemd.exec(5) the
section on StateDirectory= and its like, which set the variables that are read first.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

NAME = "lookalike"
SOCKET_NAME = "lookalike.sock"
LOCK_NAME = "lock"
"""The file in the data directory that one daemon holds."""
# sockaddr_un.sun_path holds 108 bytes on Linux, the closing NUL included: unix(7).
SOCKET_PATH_BYTES = 107
SYSTEM_SOCKET = Path("/run") / NAME / SOCKET_NAME
"""Where the daemon of the whole machine answers: lookaliked.socket."""


def config_file() -> Path:
    """Return the configuration file that is read when none is named."""
    return (
        _given_by_systemd("CONFIGURATION_DIRECTORY") or _xdg("XDG_CONFIG_HOME", ".config") / NAME
    ) / "lookalike.yaml"


def data_dir() -> Path:
    """Return the directory of what must survive: the stores' files."""
    return _given_by_systemd("STATE_DIRECTORY") or _xdg("XDG_DATA_HOME", ".local/share") / NAME


def cache_dir() -> Path:
    """Return the directory of what can be made again: model graphs."""
    return _given_by_systemd("CACHE_DIRECTORY") or _xdg("XDG_CACHE_HOME", ".cache") / NAME


def runtime_dir() -> Path:
    """Return the directory of sockets and locks; where no session provides one, a private one below the temporary directory."""
    service = _given_by_systemd("RUNTIME_DIRECTORY")
    if service:
        return service
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.path.isabs(given):
        return Path(given) / NAME
    session = Path(f"/run/user/{os.getuid()}")
    if os.access(session, os.W_OK):
        return session / NAME
    return Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"


def socket_path() -> Path:
    """Return where to ask: $LOOKALIKE_SOCKET, else the socket of this user's daemon, else that of the machine's where only that is there."""
    given = os.environ.get("LOOKALIKE_SOCKET")
    if given:
        return Path(given)
    own = runtime_dir() / SOCKET_NAME
    return SYSTEM_SOCKET if SYSTEM_SOCKET.exists() and not own.exists() else own


def shipped(part: str, directory: str = "configs") -> Path:
    """Return where a part of configs/ or systemd/ lies: inside the package where it is installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / directory / part
    return installed if installed.exists() else package.parent / directory / part


def _given_by_systemd(variable: str) -> Path | None:
    """Return the first directory of the list that a unit's StateDirectory= and its like give, None outside a service."""
    first = os.environ.get(variable, "").partition(":")[0]
    return Path(first) if os.path.isabs(first) else None


def _xdg(variable: str, fallback: str) -> Path:
    given = os.environ.get(variable)
    # The specification asks that a relative path be ignored.
    return Path(given) if given and os.path.isabs(given) else Path.home() / fallback
