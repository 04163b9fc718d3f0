"""Tell systemd how the service is doing: the sd_notify(3) protocol, which is one datagram to $NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STATUS_SECONDS = 1.0
"""Numbers that run are told no oftener."""
SEND_SECONDS = 1.0
"""How long a service manager that is too busy to read is waited for."""
LONGEST_STATUS = 500
"""Characters: what a person reads in a line or two of `systemctl status`."""


class ServiceManager:
    """What the daemon tells systemd of itself; without one, everything here does nothing.

    `ready` after the start and after a reload, `status` whenever it may have changed, `alive` only when every part is well,
    `reloading` and `stopping` before the work begins.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._clock = clock
        self._alive_seconds = watchdog_seconds(self._environment) / 2
        self._alive_at = float("-inf")
        self._status = ""
        self._status_at = float("-inf")

    @property
    def listens(self) -> bool:
        return bool(self._environment.get("NOTIFY_SOCKET"))

    def ready(self) -> None:
        self._tell("READY=1")

    def reloading(self) -> None:
        """Tell that the configuration is being read again; `ready()` tells that it has been, or that the old one is kept."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def status(self, text: str, *, at_once: bool = False) -> None:
        """Tell in words what the service is doing: when that has changed, and, unless `at_once`, at most once a second."""
        # A line's end would end the assignment.
        line = printable(" ".join(text.split()))[:LONGEST_STATUS]
        now = self._clock()
        if line != self._status and (at_once or now - self._status_at >= STATUS_SECONDS):
            self._status, self._status_at = line, now
            self._tell(f"STATUS={line}")

    def alive(self) -> None:
        """Feed the watchdog, at half its time; call it only after every service has passed its check."""
        now = self._clock()
        if self._alive_seconds and now - self._alive_at >= self._alive_seconds:
            self._alive_at = now
            self._tell("WATCHDOG=1")

    def _tell(self, *states: str) -> None:
        notify(*states, environment=self._environment)


def watchdog_seconds(environment: Mapping[str, str]) -> float:
    """Return how long the service may be silent, by WatchdogSec= of its unit; 0 where nobody watches this process."""
    microseconds, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    # The variables are inherited; who they are meant for is said: sd_watchdog_enabled(3).
    meant = not process or process == str(os.getpid())
    return int(microseconds) / 1e6 if meant and microseconds.isascii() and microseconds.isdigit() else 0.0


def notify(*states: str, environment: Mapping[str, str] | None = None) -> None:
    """Send states such as `READY=1` or `STATUS=…`; nothing happens when no service manager listens."""
    address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A service manager that went away is no reason to stop indexing.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
        client.settimeout(SEND_SECONDS)
        client.sendto("\n".join(states).encode(errors="backslashreplace"), address)
