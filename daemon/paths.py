"""Where lookalike keeps things: the XDG base directories, and the socket's place. Standard library only: the CLI imports it.

https://specifications.freedesktop.org/basedir-spec/latest/
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


def config_file() -> Path:
    """Return the configuration file that is read when none is named."""
    return _xdg("XDG_CONFIG_HOME", ".config") / NAME / "lookalike.yaml"


def data_dir() -> Path:
    """Return the directory of what must survive: the stores' files."""
    return _xdg("XDG_DATA_HOME", ".local/share") / NAME


def cache_dir() -> Path:
    """Return the directory of what can be made again: model graphs."""
    return _xdg("XDG_CACHE_HOME", ".cache") / NAME


def runtime_dir() -> Path:
    """Return the directory of sockets and locks; where no session provides one, a private one below the temporary directory."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and os.path.isabs(given):
        return Path(given) / NAME
    session = Path(f"/run/user/{os.getuid()}")
    if os.access(session, os.W_OK):
        return session / NAME
    return Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"


def socket_path() -> Path:
    """Return the socket of the daemon: $LOOKALIKE_SOCKET, else its place in the runtime directory."""
    given = os.environ.get("LOOKALIKE_SOCKET")
    return Path(given) if given else runtime_dir() / SOCKET_NAME


def shipped(part: str) -> Path:
    """Return where a part of configs/ lies: inside the package where it is installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs" / part
    return installed if installed.exists() else package.parent / "configs" / part


def _xdg(variable: str, fallback: str) -> Path:
    given = os.environ.get(variable)
    # The specification asks that a relative path be ignored.
    return Path(given) if given and os.path.isabs(given) else Path.home() / fallback
