"""Milvus Lite's gRPC service on a Unix socket, as a process of its own.

Run as a script: `python -P milvus_lite_server.py DATA_DIR SOCKET`. Milvus Lite itself offers TCP ports alone, and those
without authentication. `_build_server` is private, hence the upper bound on its version.

Milvus Lite takes concurrent reads, but two concurrent writes to one collection damage its sequence numbers: the client
has to send the writes to a collection one after the other.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

# The codes of sysexits.h.
EXIT_CORRUPT = 65
EXIT_INCOMPATIBLE = 70
EXIT_NO_SOCKET = 73
EXIT_UNREADABLE = 74
EXIT_LOCKED = 75

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOP_GRACE_SECONDS = 5

ENVIRONMENT: Mapping[str, str] = {
    # Rows that wait in memory are searched one by one in Python, 50 us each: the default of 128 MiB is many thousands.
    "MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": str(4 * 1024 * 1024),
    # Arrow's own allocator keeps what it frees: half the resident memory at 100,000 vectors.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "GRPC_VERBOSITY": "ERROR",
    # pymilvus reads a .env file when it is imported.
    "PYTHON_DOTENV_DISABLED": "1",
}


class OneLineFormatter(logging.Formatter):
    """Says what was raised, without the traceback: a rejected request is not a crash."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", " ")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return f"({type(ei[1]).__name__})"


class CannotServe(Exception):  # noqa: N818 - it reads as the sentence it is
    """The service cannot run: a sentence, and the exit status that says which kind of trouble it is."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


def open_database(data_dir: str) -> Any:
    """Return the opened `MilvusLite`, having read what every request needs."""
    # These read ENVIRONMENT when they are imported.
    from milvus_lite import MilvusLite  # noqa: PLC0415
    from milvus_lite.exceptions import DataDirLockedError  # noqa: PLC0415

    try:
        database = MilvusLite(data_dir)
        # Opening reads nothing; damaged names would fail every request. A damaged collection fails its own alone.
        for name in database.list_databases():
            database.list_collections(database_name=name)
            database.list_aliases(database_name=name)
    except DataDirLockedError as error:
        raise CannotServe(f"{data_dir} is in use by another process", EXIT_LOCKED) from error
    except OSError as error:
        raise CannotServe(f"{data_dir} cannot be opened: {error.strerror or error}", EXIT_UNREADABLE) from error
    except Exception as error:  # what damage raises is not documented: JSON, key, type and Milvus Lite's own errors
        raise CannotServe(f"{data_dir} is damaged ({type(error).__name__}: {error})", EXIT_CORRUPT) from error
    return database


def build_server(database: Any, socket_path: str) -> Any:
    """Return the gRPC server of `database`, bound to the socket and not yet started."""
    try:
        from milvus_lite.adapter.grpc.server import DEFAULT_MAX_WORKERS, _build_server  # noqa: PLC0415
    except ImportError as error:
        raise CannotServe(f"this version of milvus-lite cannot be served: {error}", EXIT_INCOMPATIBLE) from error
    server = _build_server(database, DEFAULT_MAX_WORKERS)
    try:
        server.add_insecure_port(f"unix:{quote(socket_path)}")
    except RuntimeError as error:
        raise CannotServe(f"{socket_path} cannot be bound: {error}", EXIT_NO_SOCKET) from error
    return server


def serve(data_dir: str, socket_path: str) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in hand and close the files."""
    database = open_database(data_dir)
    try:
        server = build_server(database, socket_path)
        server.start()
        signal.sigwait(STOP_SIGNALS)
        server.stop(STOP_GRACE_SECONDS).wait()
    finally:
        database.close()


def configure_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def main(arguments: list[str]) -> int:
    # Blocked before any thread exists, so that only sigwait() sees them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    # The socket and the files are the user's alone.
    os.umask(0o077)
    os.environ.update(ENVIRONMENT)
    configure_logging()
    data_dir, socket_path = arguments
    try:
        serve(data_dir, socket_path)
    except CannotServe as error:
        print(error, file=sys.stderr)  # noqa: T201 - read by the daemon
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
