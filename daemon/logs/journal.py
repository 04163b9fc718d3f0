"""Log lines to the journal of systemd, in its native protocol: one datagram an entry, or a sealed file where it is too large for one.

The protocol: systemd.io/JOURNAL_NATIVE_PROTOCOL; the fields: systemd.journal-fields(7).
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING

from daemon.logs.fields import fields_of
from daemon.logs.lines import lines_of
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "lookaliked"
SEND_SECONDS = 1.0
"""How long a journal that is too busy to read is waited for, before a line goes to stderr."""
TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class JournalHandler(logging.Handler):
    """Sends each record to the journal that listens at `path`; what cannot be sent is handed to `fallback`."""

    def __init__(self, fallback: logging.Handler, path: Path = SOCKET) -> None:
        super().__init__()
        self._fallback = fallback
        self._path = os.fspath(path)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(entry(fields(record)))
        except OSError:
            self._fallback.handle(record)
        except Exception:  # noqa: BLE001 - logging's own contract: a line that cannot be written must not end the work
            self.handleError(record)

    def _send(self, data: bytes) -> None:
        # A socket for each: one that is kept would have to survive a journal that is started again, and a library that closes
        # all handlers of logging.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(SEND_SECONDS)
            try:
                client.sendto(data, self._path)
            except OSError as error:
                if error.errno not in TOO_LARGE:
                    raise
                _send_file(client, data, self._path)


def _send_file(client: socket.socket, data: bytes, path: str) -> None:
    """Hand an entry over in memory that nobody can change any more, which the journal asks for."""
    with os.fdopen(os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
        file.write(data)
        file.flush()
        fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, SEALS)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))
        client.sendmsg([b""], [rights], 0, path)


class PrefixedHandler(logging.StreamHandler[IO[str]]):
    """Writes lines with their priority before them, which the journal takes off what it reads of a service: sd-daemon(3)."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"<{priority(record.levelno)}>{line}" for line in lines_of(record))


def priority(level: int) -> int:
    """Return the priority of syslog(3) for a level of logging."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((priority for least, priority in steps if level >= least), 7)


def fields(record: logging.LogRecord) -> Iterable[tuple[str, bytes]]:
    """Yield the fields of a record's entry, by their names in the journal; each is printable, and only a message has further lines."""
    standard = {
        "PRIORITY": priority(record.levelno),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName,
        "LOGGER": record.name,
        "THREAD_NAME": record.threadName,
    }
    own = {f"LOOKALIKE_{name.upper()}": value for name, value in fields_of(record).items()}
    yield "MESSAGE", "\n".join(lines_of(record)).encode()
    for name, value in (standard | own).items():
        yield name, printable(str(value)).encode()


def entry(fields: Iterable[tuple[str, bytes]]) -> bytes:
    """Return fields as the journal reads them: `NAME=value`, or with the value's length where it has more than one line."""
    return b"".join(
        name.encode() + (b"\n" + struct.pack("<Q", len(value)) if b"\n" in value else b"=") + value + b"\n"
        for name, value in fields
    )


def leads_to_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether what is written to a file descriptor is read by the journal: systemd.exec(5), $JOURNAL_STREAM."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def listens(path: Path = SOCKET) -> bool:
    """Whether a journal can be reached at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True
