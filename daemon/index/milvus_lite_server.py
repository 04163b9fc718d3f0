"""Milvus Lite's gRPC service on a Unix socket, as a process of its own.

Run as a script: `python -P milvus_lite_server.py DATA_DIR SOCKET`. Milvus Lite itself offers TCP ports alone, and those
without authentication. `_build_server` is private, hence the upper bound on its version.

Milvus Lite takes concurrent reads, but two concurrent writes to one collection damage its sequence numbers: the client
has to send the writes to a collection one after the other.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from daemon.index.without_pandas import never_import_pandas, without_pandas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger("lookalike")

# The codes of sysexits.h.
EXIT_CORRUPT = 65
EXIT_LOST = 66
EXIT_INCOMPATIBLE = 70
EXIT_NO_SOCKET = 73
EXIT_UNREADABLE = 74
EXIT_LOCKED = 75

IS_DAMAGED = " is damaged: "
"""Between what is damaged, a path in the data directory, and why, in the last line before EXIT_CORRUPT."""
LOOK_SECONDS = 1.0
"""How often a request for a collection looks whether its files are there."""
INDEX_ATTEMPTS = 3
INDEX_SECONDS = 0.2
OUT_OF_PLACE = frozenset({None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP})
"""Errors of the system that say that a file is not what it was; with any other, the file may be whole."""
REASON_CHARACTERS = 200
EVERY_ID = "id >= 0"
"""The filter of the one query that is answered without Milvus Lite's own way of doing it."""
COLLECTIONS = "collections"
LARGE_BYTES = 40_000_000
"""A file that is merged with no others any more. While 120,000 rows of 1,280 floats were written, a search waited at most 1.3 s; 3.1 s with
100 MB, and 11.8 s where Milvus Lite decides. Of 18 files instead of 4, a search takes no longer (85 ms instead of 108)."""

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

    def exit(self) -> NoReturn:
        """End the process at once; what was acknowledged is in the files, as after a kill."""
        print(self, file=sys.stderr, flush=True)  # noqa: T201 - read by the daemon
        os._exit(self.status)


@contextlib.contextmanager
def reading(part: str) -> Iterator[None]:
    """Tell damage to `part` of the directory from a disk, a permission or a lack of memory that keeps it from being read."""
    # What damage raises is not documented: JSON, key, type, Arrow's and Milvus Lite's own errors.
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error
        # Arrow raises an OSError without a number for what it cannot decode.
        if isinstance(error, OSError) and error.errno not in OUT_OF_PLACE:
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise CannotServe(f"{part}{IS_DAMAGED}{said[:REASON_CHARACTERS]}", EXIT_CORRUPT) from error


class Database:
    """A `MilvusLite` that opens one collection at a time, and ends the process where that finds damage.

    The first request for a collection opens it, and meets there whatever can be wrong with its files: its segments, its log, which is
    written out, and its vector indexes, which are made again.
    """

    def __init__(self, data_dir: str) -> None:
        # It reads ENVIRONMENT when it is imported.
        with without_pandas():
            from milvus_lite import MilvusLite  # noqa: PLC0415

        self._database = MilvusLite(data_dir)
        self._directory = Path(data_dir, COLLECTIONS)
        # Two requests that open one collection would each have a log and sequence numbers of their own.
        self._opening = threading.Lock()
        self._opened: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._looked_at: dict[str, float] = {}
        self._passed_over: dict[str, set[str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def read_names(self) -> None:
        """Read what every request needs."""
        with reading("aliases.json"):
            self._database.list_aliases()
        with reading("database_properties.json"):
            self._database.describe_database()
        known = self._database.list_collections()
        for directory in self._directory.iterdir():
            if directory.name not in known and not self._remove_unfinished(directory.name):
                raise CannotServe(f"{COLLECTIONS}/{directory.name}{IS_DAMAGED}it has no schema", EXIT_CORRUPT)

    def drop_collection(self, name: str, *arguments: Any, **options: Any) -> Any:
        with self._opening:
            # Files that are removed on purpose are not lost.
            self._opened.pop(name, None)
            return self._database.drop_collection(name, *arguments, **options)

    def create_collection(self, name: str, *arguments: Any, **options: Any) -> Any:
        with self._opening:
            self._remove_unfinished(name)
            return self._taken_up(self._database.create_collection(name, *arguments, **options))

    def get_collection(self, name: str, **options: Any) -> Any:
        with self._opening:
            name = self._database.resolve_collection_name(name, **options)
            try:
                self._refuse_lost(name)
            except CannotServe as error:
                error.exit()
            if not self._database.has_collection(name, **options):
                return self._database.get_collection(name, **options)
            try:
                with reading(f"{COLLECTIONS}/{name}"):
                    return self._open(name, options)
            except CannotServe as error:
                error.exit()

    def _refuse_lost(self, name: str) -> None:
        """CannotServe where files of an open collection are not there any more: requests would read and write it as if they were."""
        collection, now = self._opened.get(name), time.monotonic()
        if collection is None or now - self._looked_at.get(name, 0.0) < LOOK_SECONDS:
            return
        self._looked_at[name] = now
        directory = self._directory / name
        if not os.path.lexists(directory / "schema.json") or self._lost_rows(collection) - self._passed_over[name]:
            raise CannotServe(f"files of {COLLECTIONS}/{name} were removed while they were in use", EXIT_LOST)

    def _lost_rows(self, collection: Any) -> set[str]:
        """Return the files of rows that a collection lists and that are not there."""

        def listed() -> set[str]:
            files = collection._manifest.get_all_data_files()  # noqa: SLF001
            return {f"{partition}/{name}" for partition, names in files.items() for name in names}

        directory = self._directory / collection.name / "partitions"
        lost = {name for name in listed() if not os.path.lexists(directory / name)}
        # A merge takes files off the list before it removes them.
        return lost & listed()

    def _open(self, name: str, options: dict[str, Any]) -> Any:
        collection = self._database.get_collection(name, **options)
        if self._opened.get(name) is not collection:
            self._write_out(collection)
            self._check_indexes(collection)
            self._taken_up(collection)
        return collection

    def _taken_up(self, collection: Any) -> Any:
        self._opened[collection.name] = collection
        # Milvus Lite opens a collection without them; the daemon finds by the ids what was in them.
        self._passed_over[collection.name] = self._lost_rows(collection)
        collection.query = functools.partial(query, collection, collection.query)
        # While it is flushed, an index can be met half-written, by a load that somebody asks for then.
        collection.load = functools.partial(self._load, collection, collection.load)
        merging = collection._compaction_mgr  # noqa: SLF001
        merging._select_target = functools.partial(files_to_merge, merging._select_target)  # noqa: SLF001
        return collection

    def _write_out(self, collection: Any) -> None:
        """Meet damage to the log now, and not at the next flush; a full disk keeps nothing from being read."""
        try:
            collection.flush()
        except OSError as error:
            if error.errno in OUT_OF_PLACE:
                raise
            log.warning("%s cannot be written out: %s", collection.name, error.strerror)

    def _check_indexes(self, collection: Any) -> None:
        self._load(collection, collection.load)
        # A server that was started again has loaded nothing: by that the daemon knows it.
        collection.release()

    def _load(self, collection: Any, load: Callable[[], None]) -> None:
        """Load a collection. A vector index that is just being written is waited for; what stays unreadable is made again."""
        for _ in range(INDEX_ATTEMPTS):
            with contextlib.suppress(RuntimeError, ValueError, MemoryError):
                load()
                return
            time.sleep(INDEX_SECONDS)
        log.warning("%s: its vector indexes cannot be read and are made again", collection.name)
        for index in self._directory.glob(f"{collection.name}/partitions/*/indexes/*.idx"):
            index.unlink() if not index.is_dir() else index.rmdir()
        load()

    def _remove_unfinished(self, name: str) -> bool:
        """Remove a collection whose making was cut short before it had a schema; return whether there is none left."""
        directory = self._directory / name
        if (directory / "schema.json").exists():
            return False
        (directory / "schema.json.tmp").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()
        return not directory.exists()


def query(collection: Any, otherwise: Callable[..., Any], expr: str | None = None, **options: Any) -> Any:
    """Answer one query here, the ids of all rows, and every other by `otherwise`.

    Milvus Lite would copy all vectors, and make a dict of every field of each row: at 100,000 rows of 1,280 floats 0.5 GB and 5 s.
    """
    if expr == EVERY_ID and options.get("output_fields") == ["id"]:
        return [{"id": identity} for identity in every_id(collection)]
    return otherwise(expr, **options)


def every_id(collection: Any) -> list[int]:
    """Return the id of every row in order, each once."""
    import numpy as np  # noqa: PLC0415 - comes with Milvus Lite, whose environment is set first
    from milvus_lite.search.bitmap import build_valid_mask  # noqa: PLC0415

    # What waits in memory first: written out in between, it is found twice and not missed.
    waiting = collection._memtable  # noqa: SLF001
    ids, numbers, *_ = waiting.to_search_arrays(vector_field=None)
    segments, deleted = collection._read_snapshot()  # noqa: SLF001
    for segment in segments:
        ids.extend(segment.pks)
    numbers = np.concatenate([numbers, *(segment.seqs for segment in segments)])
    valid = build_valid_mask(ids, numbers, deleted, memtable=waiting)
    # An earlier version of a row is valid as well, for as long as its segment lives.
    return sorted({ids[row] for row in np.flatnonzero(valid)})


def files_to_merge(
    choose: Callable[..., list[str] | None], by_size: list[list[tuple[str, int]]], _: int, directory: str
) -> list[str] | None:
    """Return which files of a collection are merged, as `choose` does of those that are smaller than LARGE_BYTES.

    A merge keeps everybody waiting, searches too. Milvus Lite would put up to 200,000 rows together, and those again with the next.
    """
    return choose([[file for file in files if file[1] < LARGE_BYTES] for files in by_size], 0, directory)


def open_database(data_dir: str) -> Database:
    """Return the opened database, having read what every request needs."""
    from milvus_lite.exceptions import DataDirLockedError  # noqa: PLC0415 - reads ENVIRONMENT when it is imported

    try:
        database = Database(data_dir)
        database.read_names()
    except DataDirLockedError as error:
        raise CannotServe(f"{data_dir} is in use by another process", EXIT_LOCKED) from error
    except OSError as error:
        raise CannotServe(f"{data_dir} cannot be opened: {error.strerror or error}", EXIT_UNREADABLE) from error
    return database


def build_server(database: Any, socket_path: str) -> Any:
    """Return the gRPC server of `database`, bound to the socket and not yet started."""
    try:
        with without_pandas():
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
    never_import_pandas()
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
