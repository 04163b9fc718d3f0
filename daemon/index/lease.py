"""The lease of a library: one daemon writes at a time.

The holder keeps raising a count (`renewals`), and a daemon that wants the lease watches whether the count stands still. Nothing
in Redis expires and no clock is compared with another, so a changed clock gives nobody the lease. The silence of the holder is
counted in looks, with a pause before each: when all machines sleep for an hour, that adds one look.

A holder that was suspended may have lost the lease without knowing it. Therefore every script that writes checks the epoch
(`fence.lua`), and such a check comes right before each change of Milvus.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shlex
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from daemon.errors import LibraryInUse, StoreError, StoreUnavailable
from daemon.index.embedded import ProcessIdentity
from daemon.lifecycle import Worker
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.index.mappings import Mappings

log = logging.getLogger(__name__)

RENEW_SECONDS = 2.0
LOOK_SECONDS = 0.5
SILENT_LOOKS = 20
"""The lease is free after so many looks in a row at the same count: ten seconds, in which five renewals are missing."""
TELLING_LOOKS = 6
"""After so many, one renewal is missing, and the log says why the start takes longer."""
TIMEOUT_SECONDS = 5.0
"""Redis has so long for an answer: after a renewal that got none, there is time for another one."""
COMMAND_LENGTH = 100
LATEST = 2**32
"""The latest Unix time that is shown: Redis may hold any number."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One process that may hold a lease."""

    host: str
    process: ProcessIdentity
    namespace: str
    """The namespace in which its process id holds; empty where the kernel does not say."""
    command: str
    since: int
    """Unix time at which it took the lease, for people alone."""

    @classmethod
    def here(cls) -> Owner:
        """Return this process."""
        process = ProcessIdentity.of(os.getpid()) or ProcessIdentity(os.getpid(), 0, "")
        try:
            namespace = os.readlink("/proc/self/ns/pid")
        except OSError:
            namespace = ""
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        host, command = printable(socket.gethostname()), printable(command)[:COMMAND_LENGTH]
        return cls(host, process, namespace, command, int(time.time()))

    @classmethod
    def read(cls, fields: dict[bytes, bytes]) -> Owner:
        """Return the holder that a lease names; a field that is missing or of another kind stays empty."""
        text = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        process = ProcessIdentity(_number(text.get("process")), _number(text.get("started")), text.get("boot", ""))
        host, namespace, command = (printable(text.get(name, "")) for name in ("host", "namespace", "command"))
        return cls(host, process, namespace, command, min(_number(text.get("since")), LATEST))

    def fields(self) -> dict[str, str | int]:
        """Return the fields by which a lease names its holder."""
        return {
            "host": self.host,
            "boot": self.process.boot,
            "namespace": self.namespace,
            "process": self.process.pid,
            "started": self.process.started_ticks,
            "command": self.command,
            "since": self.since,
        }

    def sees_the_end_of(self, other: Owner) -> bool:
        """Whether `other` ran on this machine, in this namespace of processes, and has ended."""
        mine, its = (self.process.boot, self.namespace), (other.process.boot, other.namespace)
        return all(mine) and mine == its and _has_ended(other.process)

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        return f"lookaliked on {self.host or 'an unknown host'} (process {self.process.pid}, {self.command}, since {since})"


def _has_ended(process: ProcessIdentity) -> bool:
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        # Another user's, which /proc may hide.
        pass
    return Path(f"/proc/{process.pid}").exists() and not process.running


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0


class State(NamedTuple):
    """A lease as Redis has it at one moment."""

    epoch: int = 0
    token: str = ""
    """Empty while the lease is free."""
    renewals: str = ""
    owner: Owner | None = None

    @classmethod
    def read(cls, flat: list[bytes]) -> State:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        token = fields.get(b"token", b"").decode(errors="replace")
        return cls(
            _number(fields.get(b"epoch", b"").decode(errors="replace")),
            token,
            fields.get(b"renewals", b"").decode(errors="replace"),
            Owner.read(fields) if token else None,
        )


class _Held(NamedTuple):
    """A lease that this daemon has taken."""

    epoch: int
    token: str


class Lease:
    """The lease at `key` for one owner: taken at the start, renewed until the stop.

    The worker thread owns the state while it runs; before that and afterwards, the thread that calls `start` and `stop` does. Any
    thread may read the stamp. `start` and `check` raise LibraryInUse when another daemon has the lease. An outage of Redis is no
    loss: the stamp stays, and is valid until somebody else takes the lease.
    """

    name = "lease"

    def __init__(
        self,
        mappings: Mappings,
        key: bytes,
        owner: Owner,
        *,
        alone: bool = False,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """`mappings` serves the lease alone, which closes it. `alone` says that no other daemon can reach this Redis."""
        self.key = key
        self._mappings = mappings
        self._owner = owner
        self._alone = alone
        self._ask = mappings.lease_script(key)
        self._stop = threading.Event()
        self._pause = pause or self._stop.wait
        self._held: _Held | None = None
        self._last_epoch = 0
        self._worker = Worker(self.name, self._keep)

    @property
    def stamp(self) -> str:
        """The epoch and the token that `fence.lua` compares; empty while the lease is not held."""
        held = self._held
        return "" if held is None else f"{held.epoch}:{held.token}"

    def start(self) -> None:
        """Take the lease, or leave that to the worker while Redis is away; raise LibraryInUse when another daemon has it."""
        with contextlib.suppress(StoreUnavailable):
            self.renew()
        self._worker.start()

    def stop(self) -> None:
        """Give the lease back, so that the next daemon need not wait. Every writer has to be stopped before."""
        self._stop.set()
        self._worker.join()
        held, self._held = self._held, None
        if held is not None:
            # Without an answer, the next daemon sees that this process has ended, or waits.
            with contextlib.suppress(StoreError):
                self._ask("release", held.token)
        self._mappings.close()

    def check(self) -> None:
        self._worker.check()

    def lost(self) -> LibraryInUse:
        """Return the error of a holder that lost the lease, with the name of the new one. Any thread may call this."""
        try:
            other = self._look().owner
        except StoreError:
            other = None
        return LibraryInUse(
            f"{other or 'Another lookaliked'} has taken over the library {self._mappings.keys.library}, because this daemon was "
            "suspended or cut off from Redis for too long; this daemon changes nothing more and ends"
        )

    def renew(self) -> None:
        """Take the lease, or renew it; raise LibraryInUse when another daemon has it."""
        held = self._held
        if held is None:
            self._take()
        elif not self._ask("renew", held.token):
            if self._look().epoch >= held.epoch:
                raise self.lost()
            # Redis was emptied, or has lost its last writes: it shows an earlier epoch, or none.
            log.warning("Redis has lost the lease of this daemon, which takes it again")
            self._held = None
            self._take()

    def _keep(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            try:
                self.renew()
            except StoreUnavailable as error:
                # The pipeline reports the outage.
                log.debug("the lease is not renewed: %s", error)

    def _look(self) -> State:
        return State.read(self._ask("look"))

    def _take(self) -> None:
        seen, silent = self._look(), 0
        while not (self._is_free(seen, silent) and self._take_as(seen)):
            self._pause(LOOK_SECONDS)
            if self._stop.is_set():
                return
            found = self._look()
            if found.token == seen.token and found.renewals != seen.renewals:
                raise self._in_use(found)
            silent = silent + 1 if found == seen else 0
            seen = found
            if silent == TELLING_LOOKS:
                log.info("waiting to see whether %s has ended: it has the library", seen.owner)
        if silent:
            log.warning("%s has the library no more: it was silent for too long", seen.owner)

    def _is_free(self, seen: State, silent: int) -> bool:
        """Whether nobody has the lease, or its holder has ended or was silent for long enough."""
        if seen.owner is None or self._alone or silent >= SILENT_LOOKS:
            return True
        return self._owner.sees_the_end_of(seen.owner)

    def _take_as(self, seen: State) -> bool:
        """Take the lease unless it has changed since it was seen so."""
        token = secrets.token_hex(8)
        owner = replace(self._owner, since=int(time.time()))
        fields = [word for field in ({"token": token} | owner.fields()).items() for word in field]
        epoch = int(self._ask("take", seen.token, seen.renewals, self._last_epoch + 1, *fields))
        if epoch:
            self._last_epoch, self._held = epoch, _Held(epoch, token)
        return bool(epoch)

    def _in_use(self, found: State) -> LibraryInUse:
        return LibraryInUse(
            f"{found.owner} already writes to the library {self._mappings.keys.library} in Redis at {self._mappings.url}; "
            "stop it, or give this daemon another library"
        )
