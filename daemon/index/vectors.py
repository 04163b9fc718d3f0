"""The vectors, in Milvus: one collection per model and version."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.errors import StoreError, StoreRefused, StoreUnavailable
from daemon.index.milvus_lite_server import EVERY_ID
from daemon.index.without_pandas import without_pandas
from daemon.instruments import store_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from daemon.instruments import Operation

log = logging.getLogger(__name__)

FLUSH_ROWS = 512
"""Rows Milvus Lite may hold unflushed: each costs every search some 50 microseconds."""
ID_PAGE = 16_384
"""The most that Milvus gives at once."""
LOAD_POLL_SECONDS = 0.02
OPENING_SECONDS = 600.0
"""How long the embedded server may take to open a collection: it reads all of it, 2.6 GB for 500,000 vectors of 1,280 floats."""
GRPC_OPTIONS = {
    # gRPC shares its reconnect back-off between all channels to an address; after a long outage that is two minutes.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_reconnect_backoff_ms": 1000,
}
# pymilvus asks every ten seconds whether the server is there, which Milvus Lite's hangs up on as "too_many_pings"; of a Unix socket
# the kernel tells.
LOCAL_GRPC_OPTIONS = GRPC_OPTIONS | {"grpc.keepalive_time_ms": 2**31 - 1}
READ_BATCH = 1000
"""Ids per request when many are read or deleted: 1,000 vectors of 1,280 floats are 5 MB."""

METRICS = {"cosine": "COSINE", "l2": "L2", "ip": "IP"}
INDEXES: dict[str, dict[str, Any]] = {
    "FLAT": {"index_type": "FLAT", "params": {}},
    # Milvus Lite fixes nprobe at 10: with as many cells all are searched, so that the nearest are the nearest and all are there for
    # whoever asks for all. Of 20,000 vectors of 1,280 floats, 16 cells find 0.985 of the nearest ten and give 12,524 of 16,000, in the
    # same time (40 ms).
    "IVF_FLAT": {"index_type": "IVF_FLAT", "params": {"nlist": 10}},
    "HNSW": {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}},
}

LEAST_EF, MOST_EF = 200, 32_768
"""Candidates that a search through HNSW's graph keeps: four for each photo that is wanted. Of 30,000 vectors of 1,280 floats in 600
clusters, a server's own choice finds 0.90 of the nearest hundred and 0.85 of the nearest thousand, and this one 0.96 and 0.99, in
10 ms instead of 6 and 34 instead of 17. The most is that of Milvus."""

CANNOT_CONNECT, NOT_FOUND, NOT_LOADED = 2, 100, 101
"""Codes of a MilvusException: the server is away; the collection was dropped, or not made yet; it was not loaded since the
server started."""
NO_ALIAS = (NOT_FOUND, 1600)
"""What Milvus Lite, and a server, say of an alias that is not there."""
CLOSED_CHANNEL = "closed channel"
"""What a call says whose connection pymilvus has meanwhile replaced for another thread."""
NO_SPACE = re.compile(os.strerror(errno.ENOSPC), re.IGNORECASE)
"""A server written in Go says it in lower case."""
NO_FILE = re.compile(os.strerror(errno.ENOENT), re.IGNORECASE)
"""Faiss says it without a number when somebody has removed the files; the daemon then starts the server again."""
SYSTEM_ERROR = re.compile(r"\[Errno (\d+)\]")
"""How Milvus Lite says that the system, and not the request, is in its way: a disk, a permission, descriptors or memory."""


@dataclass(frozen=True, slots=True)
class Row:
    """One photo's vector and what never changes for its content. `taken_at` is a Unix time as if in UTC, 0 when unknown."""

    id: int
    vector: NDArray[np.float32]
    taken_at: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One photo that a search found; `score` is what the collection's metric says."""

    id: int
    score: float


class Vectors:
    """The collections of one library. Every method raises StoreUnavailable while Milvus is away.

    `uri` is what pymilvus takes: http(s)://host:port, or unix:/path for the embedded server (`embedded`), whose engine has one
    writer and wants to be flushed. Writes are serialised here for that reason.

    `guard` is called right before each change, and raises where this daemon may change nothing: Milvus itself knows no leases.
    """

    def __init__(
        self,
        uri: str,
        *,
        token: str = "",
        index: str = "auto",
        timeout_seconds: float = 10.0,
        embedded: bool = False,
        guard: Callable[[], object] | None = None,
    ) -> None:
        self.url = uri
        self._token = token
        self._index = ("IVF_FLAT" if embedded else "HNSW") if index == "auto" else index
        self._timeout = timeout_seconds
        self._opening_timeout = max(timeout_seconds, OPENING_SECONDS) if embedded else timeout_seconds
        self._embedded = embedded
        self._guard = guard
        self._client: Any = None
        self._connecting = threading.Lock()
        self._writing = threading.Lock()
        self._unflushed: dict[str, int] = {}

    def close(self) -> None:
        with self._connecting:
            if self._client is not None:
                self._client.close()
                self._client = None

    def server_version(self) -> str:
        """Return the version of the server, once it has shown that its collections may be listed."""
        with self._milvus() as client:
            client.list_collections(**self._call)
            return str(client.get_server_version(**self._call))

    def loaded(self, collection: str) -> bool:
        """Whether the collection can be asked; a server that was started again has loaded none."""
        with self._milvus("manage") as client:
            return self._is_loaded(client, collection)

    # Collections

    def ensure(self, collection: str, *, dim: int, metric: str) -> bool:
        """Create and load the collection if it is not there, and return whether it was made anew.

        Raises StoreRefused when a collection of that name holds vectors of another dimension.
        """
        with self._changing() as client:
            created = not client.has_collection(collection, **self._opening)
            if created:
                self._create(client, collection, dim)
            self._check_dimension(client, collection, dim)
            if not client.list_indexes(collection, **self._opening):
                # Loading waits for the index; pymilvus would first sleep for half a second.
                client.create_index(collection, self._index_params(metric), sync=False, **self._opening)
            self._load(client, collection)
        return bool(created)

    def described(self, collection: str) -> tuple[int, str] | None:
        """Return the dimension and the metric of a collection, or None where there is none that holds vectors."""
        with self._milvus() as client:
            if not client.has_collection(collection, **self._opening):
                return None
            fields = client.describe_collection(collection, **self._opening)["fields"]
            dim = next((int(field["params"]["dim"]) for field in fields if field["name"] == "vector"), None)
            indexes = client.list_indexes(collection, **self._opening)
            if dim is None or not indexes:
                return None
            named = client.describe_index(collection, indexes[0], **self._opening)["metric_type"]
            return dim, next(metric for metric, name in METRICS.items() if name == named)

    def drop(self, collection: str) -> None:
        """Delete the collection with all its vectors, if it is there."""
        with self._writing:
            with self._milvus() as client:
                is_there = client.has_collection(collection, **self._call)
            if is_there:
                with self._changing() as client:
                    client.drop_collection(collection, **self._call)
            self._unflushed.pop(collection, None)

    def _load(self, client: Any, collection: str) -> None:
        """Load the collection, which Milvus Lite reopens as released; a large one takes a server longer than one call may."""
        client.load_collection(collection, _async=True, **self._opening)
        deadline = time.monotonic() + self._opening_timeout
        while not self._is_loaded(client, collection):
            if time.monotonic() > deadline:
                raise StoreUnavailable("Milvus", self.url, "is still loading its collections")
            time.sleep(LOAD_POLL_SECONDS)

    def _is_loaded(self, client: Any, collection: str) -> bool:
        from pymilvus.client.types import LoadState  # noqa: PLC0415

        return bool(client.get_load_state(collection, **self._call)["state"] == LoadState.Loaded)

    def _create(self, client: Any, collection: str, dim: int) -> None:
        from pymilvus import DataType, MilvusClient  # noqa: PLC0415 - 0.5 s of imports, paid once and only by the daemon

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        for name in ("taken_at", "width", "height"):
            schema.add_field(name, DataType.INT64)
        client.create_collection(collection, schema=schema, consistency_level="Session", **self._call)

    def _index_params(self, metric: str) -> Any:
        from pymilvus import MilvusClient  # noqa: PLC0415

        wanted = INDEXES[self._index]
        # pymilvus spreads them out, which Milvus Lite does not read: it would build with its own.
        params = {"params": wanted["params"]} if self._embedded else wanted["params"]
        made = MilvusClient.prepare_index_params()
        made.add_index("vector", index_type=wanted["index_type"], metric_type=METRICS[metric], params=params)
        return made

    def _check_dimension(self, client: Any, collection: str, dim: int) -> None:
        fields = client.describe_collection(collection, **self._opening)["fields"]
        found = next((int(field["params"]["dim"]) for field in fields if field["name"] == "vector"), None)
        if found != dim:
            raise StoreRefused(
                "Milvus",
                self.url,
                f"holds a collection {collection} of {found} dimensions where the model has {dim}; drop it to go on",
            )

    # Aliases

    def target(self, alias: str) -> str | None:
        """Return the collection that the alias leads to, or None."""
        from pymilvus import MilvusException  # noqa: PLC0415

        with self._milvus() as client:
            try:
                return str(client.describe_alias(alias, **self._call)["collection_name"])
            except MilvusException as error:
                if error.code in NO_ALIAS:
                    return None
                raise

    def point(self, alias: str, collection: str) -> None:
        """Let the alias lead to the collection."""
        before = self.target(alias)
        if before == collection:
            return
        with self._changing() as client:
            (client.create_alias if before is None else client.alter_alias)(collection, alias, **self._call)

    def unpoint(self, alias: str) -> None:
        """Delete the alias, if it is there."""
        if self.target(alias) is not None:
            with self._changing() as client:
                client.drop_alias(alias, **self._call)

    # Writing

    def upsert(self, collection: str, rows: Sequence[Row]) -> None:
        """Write the rows, in place of any with the same ids."""
        data = [
            {"id": row.id, "vector": row.vector, "taken_at": row.taken_at, "width": row.width, "height": row.height}
            for row in rows
        ]
        with self._writing:
            with self._changing("write") as client:
                client.upsert(collection, data, **self._call)
            self._unflushed[collection] = self._unflushed.get(collection, 0) + len(rows)
            if self._unflushed[collection] >= FLUSH_ROWS:
                self._flush(collection)

    def delete(self, collection: str, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), READ_BATCH):
            with self._writing, self._changing("write") as client:
                client.delete(collection, ids=list(ids[start : start + READ_BATCH]), **self._call)

    def flush(self) -> None:
        """Let the embedded server write down what it holds in memory; a server of its own decides that itself."""
        with self._writing:
            for collection, rows in list(self._unflushed.items()):
                if rows:
                    self._flush(collection)

    def _flush(self, collection: str) -> None:
        if self._embedded:
            with self._milvus("flush") as client:
                client.flush(collection, **self._call)
        self._unflushed[collection] = 0

    # Reading

    def search(self, collection: str, vector: NDArray[np.float32], limit: int) -> list[Hit]:
        """Return the `limit` nearest photos to a vector [dim], best first."""
        with self._milvus("search") as client:
            hits = client.search(
                collection,
                data=[vector],
                limit=limit,
                output_fields=["id"],
                search_params={"params": self._search_params(limit)},
                consistency_level="Session",
                **self._call,
            )[0]
            return [Hit(int(hit["id"]), float(hit["distance"])) for hit in hits]

    def _search_params(self, limit: int) -> dict[str, int]:
        if self._index == "HNSW":
            return {"ef": min(max(LEAST_EF, 4 * limit), MOST_EF)}
        if self._index == "IVF_FLAT":
            return {"nprobe": int(INDEXES["IVF_FLAT"]["params"]["nlist"])}
        return {}

    def get(self, collection: str, photo: int) -> NDArray[np.float32] | None:
        """Return the stored vector [dim] of a photo, or None."""
        with self._milvus("read") as client:
            rows = client.get(collection, ids=[photo], output_fields=["vector"], **self._call)
            return np.asarray(rows[0]["vector"], dtype=np.float32) if rows else None

    def read(self, collection: str, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the stored vectors [dim] of those photos that have one, by their ids; READ_BATCH of them at most."""
        if not ids:
            return {}
        with self._milvus("read") as client:
            rows = client.get(collection, ids=list(ids), output_fields=["id", "vector"], **self._call)
            return {int(row["id"]): np.asarray(row["vector"], dtype=np.float32) for row in rows}

    def count(self, collection: str) -> int:
        with self._milvus("read") as client:
            rows = client.query(
                collection, filter="", output_fields=["count(*)"], consistency_level="Strong", **self._call
            )
            return int(rows[0]["count(*)"])

    def ids(self, collection: str) -> set[int]:
        """Return the id of every vector in the collection."""
        with self._milvus("scan") as client:
            if self._embedded:
                rows = client.query(collection, filter=EVERY_ID, output_fields=["id"], **self._call)
                return {int(row["id"]) for row in rows}
            found: set[int] = set()
            # The iterator's first request knows no deadline: it is not made of a server that hangs.
            client.get_server_version(**self._call)
            pages = client.query_iterator(
                collection,
                batch_size=ID_PAGE,
                filter=EVERY_ID,
                output_fields=["id"],
                consistency_level="Strong",
                **self._call,
            )
            try:
                while page := pages.next():
                    found.update(int(row["id"]) for row in page)
            finally:
                pages.close()
            return found

    # The client

    @property
    def _call(self) -> dict[str, Any]:
        # Without it a call has no deadline at all: the client's own bounds only its connecting.
        return {"timeout": self._timeout}

    @property
    def _opening(self) -> dict[str, Any]:
        """What a call is given that may be a collection's first one since the server started."""
        return {"timeout": self._opening_timeout}

    @contextlib.contextmanager
    def _milvus(self, operation: Operation = "manage") -> Iterator[Any]:
        """Give the client, measure the call, and say in our words what pymilvus and gRPC say in theirs."""
        with store_call("milvus", operation):
            try:
                yield self._connected()
            except StoreError:
                raise
            except Exception as error:
                raise self._translated(error) from error

    @contextlib.contextmanager
    def _changing(self, operation: Operation = "manage") -> Iterator[Any]:
        """Give the client for a change, if this daemon may make one."""
        if self._guard is not None:
            self._guard()
        with self._milvus(operation) as client:
            yield client

    def _connected(self) -> Any:
        with self._connecting:
            if self._client is None:
                with without_pandas():
                    from pymilvus import MilvusClient  # noqa: PLC0415

                # pymilvus logs a traceback for each failed call, which its exception says as well.
                logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
                logging.getLogger("pymilvus.milvus_client").setLevel(logging.CRITICAL)
                self._client = MilvusClient(
                    uri=self.url,
                    token=self._token,
                    timeout=self._timeout,
                    dedicated=True,
                    grpc_options=LOCAL_GRPC_OPTIONS if self._embedded else GRPC_OPTIONS,
                )
            return self._client

    def _translated(self, error: Exception) -> Exception:
        import grpc  # noqa: PLC0415
        from pymilvus.exceptions import MilvusException  # noqa: PLC0415

        if CLOSED_CHANNEL in str(error):
            return StoreUnavailable("Milvus", self.url, "cannot be reached")
        # Of a call whose connection is made anew first, pymilvus says no more than that there is none.
        for answered in (error, error.__cause__):
            if isinstance(answered, grpc.Call) and (reason := self._unwelcome(answered)):
                return StoreRefused("Milvus", self.url, reason)
        # pymilvus gives up retrying with gRPC's code in the place of Milvus's.
        if isinstance(error, grpc.RpcError | grpc.FutureTimeoutError | OSError) or isinstance(
            getattr(error, "code", None), grpc.StatusCode
        ):
            return StoreUnavailable("Milvus", self.url, "does not answer in time")
        if not isinstance(error, MilvusException):
            return error
        if reason := _reason_to_wait(error):
            return StoreUnavailable("Milvus", self.url, reason)
        said = error.message.strip().splitlines() or [f"error {error.code}"]
        return StoreRefused("Milvus", self.url, f"refuses a call: {said[0]}")

    def _unwelcome(self, call: Any) -> str | None:
        """Return why the server does nothing for whoever has this token; None when that is not what it says."""
        import grpc  # noqa: PLC0415

        if call.code() == grpc.StatusCode.UNAUTHENTICATED:
            return f"{'refuses the token; check' if self._token else 'asks for a token; set'} milvus.token or LOOKALIKE_MILVUS_TOKEN"
        if call.code() == grpc.StatusCode.PERMISSION_DENIED:
            return f"forbids a call to the user of milvus.token: {call.details()}"
        return None


def _reason_to_wait(error: Any) -> str | None:
    """Return what keeps Milvus from doing for now what it was asked; None when it will not do it later either."""
    if error.code == CANNOT_CONNECT:
        return "cannot be reached"
    if error.code in (NOT_FOUND, NOT_LOADED):
        # A recovery makes it, or loads it after the server was started again.
        return "has its collections not ready yet"
    if NO_SPACE.search(error.message):
        return "cannot be written now: no space is left on its disk"
    trouble = SYSTEM_ERROR.search(error.message)
    if trouble or NO_FILE.search(error.message):
        number = int(trouble[1]) if trouble else errno.ENOENT
        return f"cannot use its files now: {os.strerror(number).lower()}"
    if error.retriable:
        return f"cannot do it now: {error.message.strip().partition(chr(10))[0]}"
    return None
