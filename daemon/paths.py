"""Where lookalike keeps things: what systemd gives a service, else the XDG base directories; and the socket's place.

Standard library only: the CLI imports it. https://specifications.freedesktop.org/basedir-spec/latest/, and of systemd.exec(5) the
section on StateDirectory= and its like, which set the variables that are read first.
"""

from __future__ import annotations

import os
import pwd
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


class NoHomeDirectory(Exception):  # noqa: N818 - it reads as the sentence it is
    """A place lies below the home directory, and the user has no home directory. Its text is a sentence for a person."""


def home(instead: str = "") -> Path:
    """Return the home directory; raise NoHomeDirectory, with what could be set `instead`, for a user without one."""
    given = os.environ.get("HOME", "")
    if not os.path.isabs(given):
        try:
            given = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            given = ""
    if not os.path.isabs(given):
        raise NoHomeDirectory(f"there is no home directory: set HOME{f', or {instead}' if instead else ''}")
    return Path(given)


def expanded(path: Path) -> Path:
    """Return `path` with a home directory for its ~ or ~user; NoHomeDirectory where that is not known."""
    beginning = path.parts[0] if path.parts else ""
    if beginning == "~":
        return home().joinpath(*path.parts[1:])
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise NoHomeDirectory(
            f"the home directory of {beginning.removeprefix('~')} is not known: write it out"
        ) from error


def absolute(path: str) -> str:
    """Return the one form (daemon.canonical) of a path that a user wrote; a relative one starts at the current directory."""
    made = os.path.abspath(path)
    return made[1:] if made.startswith("//") else made


def config_file() -> Path:
    """Return the configuration file that is read when none is named."""
    return (
        _given_by_systemd("CONFIGURATION_DIRECTORY")
        or _xdg("XDG_CONFIG_HOME", ".config", "name a file with --config") / NAME
    ) / "lookalike.yaml"


def config_file_in_place() -> Path | None:
    """Return the usual configuration file; None if it does not exist, or if the user has no home directory."""
    try:
        usual = config_file()
    except NoHomeDirectory:
        return None
    return usual if os.path.exists(usual) else None


def data_dir() -> Path:
    """Return the directory of what must survive: the stores' files."""
    return _given_by_systemd("STATE_DIRECTORY") or _xdg("XDG_DATA_HOME", ".local/share", "LOOKALIKE_DATA_DIR") / NAME


def asked_data_dir() -> Path:
    """Return the data directory of the daemon that a command asks, as far as the environment tells: the configuration may name another."""
    given = os.environ.get("LOOKALIKE_DATA_DIR")
    return Path(given).expanduser() if given else data_dir()


def cache_dir() -> Path:
    """Return the directory of what can be made again: model graphs. Without a home directory, it lies in the data directory."""
    try:
        return _given_by_systemd("CACHE_DIRECTORY") or _xdg("XDG_CACHE_HOME", ".cache") / NAME
    except NoHomeDirectory:
        return cache_in(data_dir())


def cache_in(data_dir: Path) -> Path:
    """Return the cache directory of a data directory, for a user without a home directory."""
    return data_dir / "cache"


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
    return SYSTEM_SOCKET if os.path.exists(SYSTEM_SOCKET) and not os.path.exists(own) else own


def shipped(part: str, directory: str = "configs") -> Path:
    """Return where a part of configs/ or systemd/ lies: inside the package where it is installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / directory / part
    return installed if installed.exists() else package.parent / directory / part


def _given_by_systemd(variable: str) -> Path | None:
    """Return the first directory of the list that a unit's StateDirectory= and its like give, None outside a service."""
    first = os.environ.get(variable, "").partition(":")[0]
    return Path(first) if os.path.isabs(first) else None


def _xdg(variable: str, fallback: str, instead: str = "") -> Path:
    given = os.environ.get(variable)
    # The specification asks that a relative path be ignored.
    return (
        Path(given)
        if given and os.path.isabs(given)
        else home(f"{variable}, or {instead}" if instead else variable) / fallback
    )
