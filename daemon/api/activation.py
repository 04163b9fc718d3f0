"""The socket that systemd listens on until the first query: sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket

from daemon.errors import ConfigError

FIRST_DESCRIPTOR = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def inherited() -> socket.socket | None:
    """Return the listening Unix socket that this process was started with, once; None where it was started with none.

    ConfigError when the socket is of another kind.
    """
    process, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS", "0")
    for variable in VARIABLES:
        # They are not meant for the stores, which inherit the rest.
        os.environ.pop(variable, None)
    if process != str(os.getpid()) or not count.isascii() or not count.isdigit() or int(count) == 0:
        return None
    if int(count) > 1:
        raise ConfigError(
            "lookaliked.socket", [f"it has {count} sockets, and the daemon answers on one; leave one ListenStream="]
        )
    os.set_inheritable(FIRST_DESCRIPTOR, False)
    found = socket.socket(fileno=FIRST_DESCRIPTOR)
    if (found.family, found.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        found.detach()
        raise ConfigError(
            "lookaliked.socket", ["its ListenStream= has to be a path, for a Unix socket; TCP is api.listen"]
        )
    return found
