"""The mapping of photos and paths, in Redis."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import time
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from daemon.changes import FileStat, Hold, PhotoInfo, Remembered
from daemon.errors import FAILURE_KINDS, LibraryInUse, StoreError, StoreForbids, StoreRefused, StoreUnavailable
from daemon.index.versions import Collection, fields
from daemon.instruments import store_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daemon.errors import FailureKind, LookalikeError
    from daemon.index.keys import Keys
    from daemon.instruments import Operation

SCHEMA = b"1"
PAGE = 2000
"""Files a page: the script that reads one holds Redis for some five milliseconds."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What the mapping knows of one path."""

    photo: int
    stat: FileStat


@dataclass(frozen=True, slots=True)
class Counts:
    """How much the mapping holds."""

    photos: int
    files: int
    failures: int
    aside: int = 0
    """Photos that are not in the library any more, and whose vectors are kept for a while."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the file at `path` is not indexed; tried again once its stat differs."""

    path: str
    reason: str
    attempts: int
    since: float
    """Unix time of the first attempt with this content."""
    signature: str
    kind: FailureKind = "other"


@dataclass(frozen=True, slots=True)
class Add:
    """Bind `path` to a photo whose vectors have just been written."""

    path: str
    stat: FileStat
    photo: PhotoInfo


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind `path` to a photo that is known: a copy, a touch, or a move when `moved_from` is given."""

    path: str
    stat: FileStat
    photo: int
    moved_from: str = ""


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing is at `path` any more."""

    path: str


@dataclass(frozen=True, slots=True)
class Exclude:
    """The file at `path` may be there, and does not belong in the index any more: its vectors are kept for a while."""

    path: str


@dataclass(frozen=True, slots=True)
class Fail:
    """What is at `path` cannot be indexed."""

    path: str
    reason: str
    signature: str
    attempts: int = 1
    since: float | None = None
    """Unix time of the first attempt with this content; None for now."""
    kind: FailureKind = "damaged"


MappingChange = Add | Bind | Remove | Exclude | Fail


class Outcome(tuple[bool, int | None]):
    """Whether a change was made, and the photo it left without a path."""

    __slots__ = ()

    @property
    def done(self) -> bool:
        return self[0]

    @property
    def orphan(self) -> int | None:
        return self[1]


class Fence(Protocol):
    """The right to write, in the form in which the scripts check it: a lease."""

    @property
    def key(self) -> bytes: ...
    @property
    def stamp(self) -> str:
        """The epoch and the token of this writer; empty while it may not write."""
        ...

    def lost(self) -> LibraryInUse:
        """Return the error for a writer that has lost the lease to another one."""
        ...


class Mappings:
    """The mapping of one library. Every method raises StoreUnavailable while Redis is away.

    A method that writes does so only for the holder of the lease: the scripts check that as they write (`fence.lua`). It raises
    LibraryInUse when somebody else has taken the lease, and StoreUnavailable while this daemon holds none.

    `url` is a redis-py URL (redis://, rediss://, unix://); what is secret in it is never shown.
    """

    def __init__(self, url: str, keys: Keys, lease: Fence | None = None, *, timeout_seconds: float = 10.0) -> None:
        self.keys = keys
        self._lease = lease
        self.url = shown(url)
        try:
            # Retrying is the caller's: only it knows whether the work can wait.
            self._redis = redis.Redis.from_url(
                url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds, retry=Retry(NoBackoff(), 0)
            )
            # An option that redis-py does not know is refused by the connection alone.
            self._redis.connection_pool.make_connection()
        except (ValueError, TypeError) as error:
            # What redis-py says of it may quote a password.
            raise StoreRefused("Redis", self.url, "is no URL of a Redis server; check redis.url") from error
        self._script = self._redis.register_script(_text("fence.lua") + _text("mappings.lua"))
        self._writes = itertools.count(1)
        self.written = 0
        """Another number after each write: while it stays, so does what was counted."""

    @property
    def stamp(self) -> str:
        """The stamp that this mapping writes with; empty while it may not write."""
        return "" if self._lease is None else self._lease.stamp

    def close(self) -> None:
        self._redis.close()

    def server(self) -> dict[str, Any]:
        """Return what the server says of itself: https://redis.io/docs/latest/commands/info."""
        with self._errors():
            return self._redis.info()

    @property
    def empty(self) -> bool:
        """Whether the library is not there at all: new, or emptied under us."""
        with self._errors():
            return self._redis.get(self.keys.schema) is None

    def establish(self) -> None:
        """Mark the library as there; StoreRefused when a newer lookalike wrote it."""
        self._change("run", "SET", self.keys.schema, SCHEMA, "NX")
        with self._errors():
            found = self._redis.get(self.keys.schema)
        if found != SCHEMA:
            layout = cast("bytes", found).decode(errors="replace")
            raise StoreRefused(
                "Redis", self.url, f"holds a library of layout {layout}, which this lookalike does not know; update it"
            )

    # Reading

    def files(self, paths: Sequence[str]) -> list[FileRecord | None]:
        """Return what is recorded of each path, in their order."""
        with self._errors(), self._redis.pipeline(transaction=False) as pipe:
            for path in paths:
                pipe.hmget(self.keys.file(path), "id", "size", "mtime_ns", "device", "inode")
            rows = pipe.execute()
        return [None if None in row else FileRecord(int(row[0]), FileStat(*map(int, row[1:]))) for row in rows]

    def paths_by_inode(self, stats: Sequence[FileStat]) -> list[str | None]:
        """Return the path last recorded for each device and inode."""
        if not stats:
            return []
        with self._errors():
            found = cast(
                "list[bytes | None]",
                self._redis.hmget(self.keys.inodes, [f"{stat.device}:{stat.inode}" for stat in stats]),
            )
        return [os.fsdecode(path) if path is not None else None for path in found]

    def page(self, folder: str, after: bytes | None = None, files: int = PAGE) -> list[tuple[bytes, str]]:
        """Return the next files below `folder` in byte order: path and "size mtime_ns inode"."""
        flat = self._run("page", *_range(folder, after), files)
        return list(zip(flat[::2], map(bytes.decode, flat[1::2]), strict=True))

    def stream(self, folder: str) -> Iterator[tuple[bytes, str]]:
        """Yield every file below `folder` in byte order, a page at a time."""
        page = self.page(folder)
        while page:
            yield from page
            page = self.page(folder, page[-1][0]) if len(page) == PAGE else []

    def every_path(self) -> Iterator[str]:
        """Yield the path of every file that is listed, in byte order, and of every failure."""
        first = b"-"
        while page := self._run("page", first, b"+", PAGE)[::2]:
            yield from map(os.fsdecode, page)
            first = b"(" + page[-1]
        yield from self.failed_paths()

    def photos_below(self, folders: Sequence[str]) -> set[int]:
        """Return the photos that a file below one of the folders holds."""
        found: set[int] = set()
        for folder in folders:
            after: bytes | None = None
            while after != b"":
                after, *ids = self._run("ids", *_range(folder, after), PAGE)
                found.update(map(int, ids))
        return found

    def count_below(self, folder: str) -> int:
        below = os.fsencode(folder).rstrip(b"/")
        with self._errors():
            return int(self._redis.zlexcount(self.keys.files, b"[" + below + b"/", b"(" + below + b"0"))

    def counts(self) -> Counts:
        with self._errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.scard(self.keys.photos)
            pipe.zcard(self.keys.files)
            pipe.hlen(self.keys.failures)
            pipe.zcard(self.keys.aside)
            return Counts(*map(int, pipe.execute()))

    def photo(self, photo: int) -> PhotoInfo | None:
        # Not by photos(): this is asked for every copy, and there may be thousands of paths to read each time.
        with self._errors():
            return _photo_info(cast("dict[bytes, bytes]", self._redis.hgetall(self.keys.photo(photo))))

    def infos(self, ids: Sequence[int]) -> list[PhotoInfo | None]:
        """Return what is known of each photo, but for its paths."""
        with self._errors(), self._redis.pipeline(transaction=False) as pipe:
            for photo in ids:
                pipe.hgetall(self.keys.photo(photo))
            return [_photo_info(fields) for fields in pipe.execute()]

    def photos(self, ids: Sequence[int]) -> list[tuple[PhotoInfo | None, list[str]]]:
        """Return of each id what is known of the photo, and its paths in order."""
        with self._errors(), self._redis.pipeline(transaction=False) as pipe:
            for photo in ids:
                pipe.hgetall(self.keys.photo(photo))
                pipe.smembers(self.keys.paths(photo))
            rows = pipe.execute()
        return [
            (_photo_info(fields), [os.fsdecode(path) for path in sorted(paths)])
            for fields, paths in zip(rows[::2], rows[1::2], strict=True)
        ]

    def failures(self) -> dict[str, Failure]:
        """Return every recorded failure by path."""
        with self._errors("scan"):
            rows = cast("dict[bytes, bytes]", self._redis.hgetall(self.keys.failures))
        return {(path := os.fsdecode(raw)): Failure(path=path, **json.loads(value)) for raw, value in rows.items()}

    def failed_paths(self) -> list[str]:
        """Return every path of which a failure is recorded."""
        with self._errors("scan"):
            return list(map(os.fsdecode, cast("list[bytes]", self._redis.hkeys(self.keys.failures))))

    def failure_kinds(self, counts: Callable[[str], bool] = bool) -> dict[str, int]:
        """Return how many failures of each kind are recorded, of those whose path `counts`.

        Asked again and again, it reads them a page at a time.
        """
        with self._errors("scan"):
            # A hash that is rebuilt meanwhile may name a field twice.
            kinds = {
                path: json.loads(value).get("kind")
                for path, value in self._redis.hscan_iter(self.keys.failures, count=PAGE)
            }
        found: dict[str, int] = dict.fromkeys(FAILURE_KINDS, 0)
        for path, kind in kinds.items():
            if counts(os.fsdecode(path)):
                found[kind if kind in found else "other"] += 1
        return found

    def failure_signatures(self) -> dict[str, str]:
        """Return of each path that failed the state of its file then, as `signature` describes it."""
        return {path: failure.signature for path, failure in self.failures().items()}

    def failure(self, path: str) -> Failure | None:
        with self._errors():
            value = cast("bytes | None", self._redis.hget(self.keys.failures, os.fsencode(path)))
        return Failure(path=path, **json.loads(value)) if value is not None else None

    def failures_of(self, paths: Sequence[str]) -> list[Failure]:
        """Return the failures that are recorded of these paths."""
        if not paths:
            return []
        with self._errors():
            values = cast("list[bytes | None]", self._redis.hmget(self.keys.failures, list(map(os.fsencode, paths))))
        return [
            Failure(path=path, **json.loads(value))
            for path, value in zip(paths, values, strict=True)
            if value is not None
        ]

    def failed(self, paths: Sequence[str]) -> list[bool]:
        """Return of each path whether a failure is recorded of it."""
        if not paths:
            return []
        with self._errors():
            found = cast("list[bytes | None]", self._redis.hmget(self.keys.failures, list(map(os.fsencode, paths))))
        return [value is not None for value in found]

    # What is remembered of the watched folders

    def recall(self, folder: str) -> Remembered:
        key = os.fsencode(folder)
        with self._errors():
            facts = cast("bytes | None", self._redis.hget(self.keys.folders, key))
            holds = cast("bytes | None", self._redis.hget(self.keys.holds, key))
        return _remembered(facts, holds)

    def remembered(self) -> dict[str, Remembered]:
        """Return what is remembered of every folder, by its path."""
        with self._errors():
            rows = cast("dict[bytes, bytes]", self._redis.hgetall(self.keys.folders))
            holds = cast("dict[bytes, bytes]", self._redis.hgetall(self.keys.holds))
        return {os.fsdecode(raw): _remembered(facts, holds.get(raw)) for raw, facts in rows.items()}

    def remember(self, folder: str, remembered: Remembered) -> None:
        """Write down what is to be remembered of a folder.

        The volumes and the holds change at once: a volume that is written down as the one to be expected, without its hold, would
        cost the held files.
        """
        holds = json.dumps([_hold_fields(hold) for hold in remembered.holds]) if remembered.holds else ""
        facts = json.dumps({"volumes": dict(remembered.volumes), "kept": remembered.kept})
        self._change("remember", os.fsencode(folder), facts, holds)

    def forget_folders(self, folders: Sequence[str]) -> None:
        """Drop what is remembered of folders."""
        for folder in folders:
            self._change("forget_folder", os.fsencode(folder))

    def all_photos(self) -> set[int]:
        """Return the id of every photo."""
        with self._errors("scan"):
            return set(map(int, self._redis.sscan_iter(self.keys.photos, count=PAGE)))

    # Which collections there are

    def collections(self) -> dict[str, Collection]:
        """Return every collection of the library by its name in Milvus."""
        with self._errors():
            rows = cast("dict[bytes, bytes]", self._redis.hgetall(self.keys.collections))
        return {(name := raw.decode()): Collection(name=name, **json.loads(value)) for raw, value in rows.items()}

    def record(self, collection: Collection) -> None:
        self._change("run", "HSET", self.keys.collections, collection.name, json.dumps(fields(collection)))

    def forget_collection(self, collection: str) -> None:
        """Drop what is recorded of a collection, and which vectors it had."""
        self._change("forget_collection", collection)

    # Which vectors are there

    def encoded(self, collection: str, ids: Sequence[int]) -> list[bool]:
        """Return whether the vector of each id is in the collection."""
        if not ids:
            return []
        with self._errors():
            return [
                bool(hit) for hit in cast("list[int]", self._redis.smismember(self.keys.encoded(collection), list(ids)))
            ]

    def count_encoded(self, collection: str) -> int:
        with self._errors():
            return int(self._redis.scard(self.keys.encoded(collection)))

    def all_encoded(self, collection: str) -> set[int]:
        with self._errors("scan"):
            return set(map(int, self._redis.sscan_iter(self.keys.encoded(collection), count=PAGE)))

    def set_encoded(self, collection: str, *, present: Sequence[int] = (), absent: Sequence[int] = ()) -> None:
        """Record which vectors are in the collection after all, and which are not."""
        key = self.keys.encoded(collection)
        self._change_members("SADD", key, present)
        self._change_members("SREM", key, absent)

    def not_encoded(self, collection: str) -> list[int]:
        """Return the photos whose vector is not in the collection."""
        with self._errors("scan"):
            return sorted(
                map(int, cast("set[bytes]", self._redis.sdiff([self.keys.photos, self.keys.encoded(collection)])))
            )

    def only_in(self, one: str, other: str) -> list[int]:
        """Return the photos whose vector is in collection `one` and not in `other`."""
        with self._errors("scan"):
            found = cast("set[bytes]", self._redis.sdiff([self.keys.encoded(one), self.keys.encoded(other)]))
        return sorted(map(int, found))

    def strays(self, collection: str) -> list[int]:
        """Return the ids with a vector in the collection that are no photo of the library, and none that is set aside."""
        with self._errors("scan"):
            found = cast("set[bytes]", self._redis.sdiff([self.keys.encoded(collection), self.keys.photos]))
        return sorted(set(map(int, found)) - self.aside())

    def known(self, ids: Sequence[int]) -> list[bool]:
        """Return whether each id is a photo of this library."""
        found: list[bool] = []
        with self._errors():
            for start in range(0, len(ids), PAGE):
                found += map(
                    bool, cast("list[int]", self._redis.smismember(self.keys.photos, list(ids[start : start + PAGE])))
                )
        return found

    # Photos whose files are excluded

    def aside(self, until: float = math.inf) -> set[int]:
        """Return the photos that were set aside up to a Unix time."""
        with self._errors("scan"):
            return set(map(int, cast("list[bytes]", self._redis.zrangebyscore(self.keys.aside, "-inf", until))))

    def date_aside(self, now: float) -> None:
        """Have no photo set aside in the future: the clock was put back since."""
        with self._errors("scan"):
            ahead = cast("list[bytes]", self._redis.zrangebyscore(self.keys.aside, f"({now}", "+inf"))
        for start in range(0, len(ahead), PAGE):
            dated = [word for photo in ahead[start : start + PAGE] for word in (str(now), photo)]
            self._change("run", "ZADD", self.keys.aside, "XX", *dated)

    # Intents

    def intend(self, ids: Sequence[int]) -> None:
        """Note that Milvus is about to be written for these ids."""
        self._change_members("SADD", self.keys.intents, ids)

    def intents(self) -> set[int]:
        with self._errors():
            return set(map(int, cast("set[bytes]", self._redis.smembers(self.keys.intents))))

    def settle_intents(self, ids: Sequence[int]) -> None:
        """Take ids out of the intents."""
        self._change_members("SREM", self.keys.intents, ids)

    # Changing

    def check_lease(self) -> None:
        """Raise what a write would raise, without writing: for a change of Milvus, which knows no leases."""
        self._change("nothing")

    def _change(self, *change: str | bytes | int) -> None:
        """Make one change by the script, for the holder of the lease."""
        with self._errors("write"):
            self._call(*change)

    def _change_members(self, command: str, key: bytes, ids: Sequence[int]) -> None:
        """Add members to a set or take them out of it, a page at a time."""
        for start in range(0, len(ids), PAGE):
            self._change("run", command, key, *ids[start : start + PAGE])

    def apply(
        self, changes: Sequence[MappingChange], collections: Sequence[str], *, rescue: bool = False
    ) -> list[Outcome]:
        """Make each change, atomically one by one and in their order; returns their outcomes.

        A `Bind` to a photo among the intents is not made, unless `rescue` says that the photo's vectors are still there.
        """
        now = time.time()
        with self._errors("write"), self._redis.pipeline(transaction=False) as pipe:
            for change in changes:
                self._call(*_arguments(change, collections, now, rescue), client=pipe)
            rows = pipe.execute()
        return [Outcome((bool(done), int(orphan) if orphan is not None else None)) for done, orphan in rows]

    def forget(self, ids: Sequence[int], collections: Sequence[str]) -> None:
        """Drop photos without a path whose vectors have been deleted."""
        with self._errors("write"), self._redis.pipeline(transaction=False) as pipe:
            for photo in ids:
                self._call("forget", photo, *collections, client=pipe)
            pipe.execute()

    def script(self, file: str) -> Callable[..., list[Any]]:
        """Return a script of this package, behind `fence.lua`, as a function of the script's arguments."""
        registered = self._redis.register_script(_text("fence.lua") + _text(file))

        def run(*args: str | bytes | int) -> list[Any]:
            try:
                with self._errors("scan"):
                    return cast("list[Any]", registered(keys=self._fenced_keys, args=[self.stamp, *args]))
            finally:
                # It may have written.
                self.written = next(self._writes)

        return run

    def lease_script(self, key: bytes) -> Callable[..., Any]:
        """Return `lease.lua` for one lease, as a function of the script's arguments. Nothing fences it: it takes the lease."""
        registered = self._redis.register_script(_text("lease.lua"))

        def run(*args: str | bytes | int) -> Any:
            with self._errors("manage"):
                return registered(keys=[key], args=args)

        return run

    @property
    def _fenced_keys(self) -> list[bytes]:
        return [self.keys.prefix, self.keys.owner if self._lease is None else self._lease.key]

    def _call(self, *args: Any, client: Any = None) -> Any:
        """Call the script of the changes, in a pipeline where one is given."""
        return self._script(keys=self._fenced_keys, args=[self.stamp, *args], client=client)

    def _run(self, *args: str | bytes | int) -> list[bytes]:
        with self._errors("scan"):
            return cast("list[bytes]", self._call(*args))

    @contextlib.contextmanager
    def _errors(self, operation: Operation = "read") -> Iterator[None]:
        """Measure a call, and say in our words what redis-py says in its own."""
        try:
            with store_call("redis", operation), self._translated():
                yield
        finally:
            if operation == "write":
                self.written = next(self._writes)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except redis.exceptions.AuthenticationError as error:
            raise StoreRefused("Redis", self.url, "refuses the password; check redis.url") from error
        except redis.exceptions.BusyLoadingError as error:
            raise StoreUnavailable("Redis", self.url, "is still reading its files") from error
        except (redis.exceptions.TimeoutError, TimeoutError) as error:
            raise StoreUnavailable("Redis", self.url, "does not answer in time") from error
        except (redis.exceptions.ConnectionError, OSError) as error:
            raise StoreUnavailable("Redis", self.url, "cannot be reached") from error
        except redis.exceptions.ResponseError as error:
            raise self._refusal(error) from error
        except redis.exceptions.InvalidResponse as error:
            raise StoreUnavailable("Redis", self.url, "does not answer as Redis does") from error

    def _refusal(self, error: redis.exceptions.ResponseError) -> LookalikeError:
        said = _said(error)
        if said.startswith("STALE ") and self._lease is not None:
            return self._lease.lost()
        if said.startswith("UNHELD "):
            return StoreUnavailable("Redis", self.url, "has no lease of this daemon, which takes it again")
        return _refusal(self.url, error, said)


_WAITING = re.compile(r"\b(MISCONF|OOM|NOREPLICAS|BUSY|LOADING|MASTERDOWN|READONLY|TRYAGAIN|CLUSTERDOWN)\b")
"""What Redis answers while it cannot write for now: a full disk or memory, a failover, a long script."""


def _said(error: redis.exceptions.ResponseError) -> str:
    # In a pipeline redis-py puts the command, paths and all, before the server's own words.
    return str(error).rpartition("caused error: ")[2].rstrip(".")


def _refusal(url: str, error: redis.exceptions.ResponseError, said: str) -> StoreError:
    # redis-py takes the code that it has a class for off the words, and keeps it here.
    if _WAITING.search(f"{error.status_code} {said}"):
        return StoreUnavailable("Redis", url, f"cannot be written now: {said}")
    refusal = StoreForbids if isinstance(error, redis.exceptions.NoPermissionError) else StoreRefused
    return refusal("Redis", url, f"refuses a command: {said}")


def _range(folder: str, after: bytes | None) -> tuple[bytes, bytes]:
    """Return the bounds of the files below a folder that come behind one of them, as Redis takes them."""
    below = os.fsencode(folder).rstrip(b"/") + b"/"
    # "0" follows "/": the first name that is no longer below the folder.
    return (b"(" + after if after is not None else b"[" + below), b"(" + below[:-1] + b"0"


def _text(file: str) -> str:
    return resources.files("daemon.index").joinpath(file).read_text(encoding="utf-8")


def shown(url: str) -> str:
    """Return a store's URL without what is secret in it; of one that cannot be told apart, nothing."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "…" if "@" in url else url.partition("?")[0]
    if rest.startswith("/"):
        return f"{scheme}://{rest.partition('?')[0]}"
    place, _, _ = rest.rpartition("@")[2].partition("?")
    # The "@" may stand in an option, or behind a "?" in a password.
    told_apart = "@" not in rest.partition("?")[2]
    return f"{scheme}://{place if told_apart else '…'}"


def _photo_info(fields: dict[bytes, bytes]) -> PhotoInfo | None:
    text = {key.decode(): value.decode() for key, value in fields.items()}
    if not text.keys() >= {"digest", "width", "height", "format", "taken_at", "bytes"}:
        return None
    return PhotoInfo(
        digest=text["digest"],
        width=int(text["width"]),
        height=int(text["height"]),
        format=text["format"],
        taken_at=text["taken_at"],
        bytes=int(text["bytes"]),
    )


def _arguments(change: MappingChange, collections: Sequence[str], now: float, rescue: bool) -> list[Any]:  # noqa: FBT001
    path = os.fsencode(change.path)
    match change:
        case Add(stat=stat, photo=photo):
            return ["add", path, photo.id, *_stat(stat), *_fields(photo), *collections]
        case Bind(stat=stat, photo=known, moved_from=moved_from):
            return ["bind", path, known, *_stat(stat), os.fsencode(moved_from), int(rescue)]
        case Remove():
            return ["remove", path]
        case Exclude():
            return ["exclude", path, now]
        case Fail(reason=reason, signature=state, attempts=attempts, since=since, kind=kind):
            record = {"reason": reason, "kind": kind, "attempts": attempts, "since": now if since is None else since}
            return ["fail", path, json.dumps(record | {"signature": state})]


def _hold_fields(hold: Hold) -> dict[str, Any]:
    # Not with its paths: asdict() copies each of them, and there may be very many.
    return asdict(replace(hold, paths=frozenset())) | {"paths": sorted(hold.paths)}


def _remembered(facts: bytes | None, holds: bytes | None) -> Remembered:
    known = json.loads(facts) if facts is not None else {}
    standing = [Hold(**hold | {"paths": frozenset(hold["paths"])}) for hold in json.loads(holds or b"[]")]
    return Remembered(**known, holds=tuple(standing))


def _stat(stat: FileStat) -> tuple[int, int, int, int]:
    return (stat.size, stat.mtime_ns, stat.device, stat.inode)


def _fields(photo: PhotoInfo) -> list[Any]:
    """Return a photo's fields in the order in which the script takes them."""
    return list(asdict(photo).values())
