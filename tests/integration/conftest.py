"""Real servers for the whole session, a library of its own for each test, and the check of the design's invariants."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import pytest

from daemon.changes import FileStat, PhotoInfo, photo_id
from daemon.index.embedded import EmbeddedMilvus, EmbeddedValkey
from daemon.index.index import Collection, Encoded, Index
from daemon.index.keys import Keys
from daemon.index.lease import Lease, Owner
from daemon.index.mappings import Add, Bind, Mappings, Remove
from daemon.index.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

DIM = 8
MODELS = ("one", "two")
_numbers = itertools.count()


@dataclass
class Stores:
    """The two embedded servers."""

    valkey: EmbeddedValkey
    milvus: EmbeddedMilvus
    leases: list[Lease] = field(default_factory=list)

    def library(self, *, dim: int = DIM, models: tuple[str, ...] = MODELS, timeout: float = 10.0) -> Index:
        """Return the index of a library that nobody has used."""
        return self.open(f"test{next(_numbers)}", dim=dim, models=models, timeout=timeout)

    def open(self, library: str, *, dim: int = DIM, models: tuple[str, ...] = MODELS, timeout: float = 10.0) -> Index:
        keys = Keys(library)
        collections = [
            Collection(model, model, keys.collection(model, "0f"), keys.alias(model), dim, "cosine") for model in models
        ]
        mappings = Mappings(self.valkey.url, keys, self.lease(keys), timeout_seconds=timeout)
        vectors = Vectors(self.milvus.url, timeout_seconds=timeout, embedded=True, guard=mappings.check_lease)
        return Index(mappings, vectors, collections)

    def lease(self, keys: Keys) -> Lease:
        """Take the lease of a library as its daemon, whose thread renews it until these stores end."""
        self.leases.append(Lease(Mappings(self.valkey.url, keys), keys.owner, Owner.here(), alone=True))
        self.leases[-1].start()
        return self.leases[-1]

    def end_leases(self) -> None:
        while self.leases:
            self.leases.pop().stop()

    def again(self, index: Index) -> Index:
        """Return the index as the next daemon would open it."""
        mappings = Mappings(self.valkey.url, index.mappings.keys, index.mappings._lease)
        return Index(mappings, Vectors(self.milvus.url, embedded=True, guard=mappings.check_lease), index.current)


@dataclass
class Loaded:
    """Models that stay as they are."""

    encoders: Sequence[Any]

    @property
    def by_version(self) -> dict[str, Any]:
        return {version: encoder for encoder in self.encoders for version in encoder.versions}

    @property
    def texts(self) -> dict[str, Any]:
        return {}


def _started() -> Iterator[Stores]:
    # pytest's own directories can be too long for a socket.
    place = Path(tempfile.mkdtemp(prefix="stores-"))
    stores = Stores(EmbeddedValkey(place / "data", place / "run"), EmbeddedMilvus(place / "data", place / "run"))
    try:
        stores.valkey.start()
        stores.milvus.start()
        yield stores
    finally:
        stores.end_leases()
        stores.milvus.stop()
        stores.valkey.stop()
        shutil.rmtree(place)


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    yield from _started()


@pytest.fixture
def own_stores() -> Iterator[Stores]:
    """Servers that the test may stop, kill and empty."""
    yield from _started()


@pytest.fixture
def index(stores: Stores) -> Iterator[Index]:
    index = stores.library()
    index.recover()
    yield index
    drop(index)


def drop(index: Index) -> None:
    """Delete a library from both stores, and close it."""
    with index.vectors._milvus() as client:
        for collection in index.collections:
            if client.has_collection(collection.name, timeout=10):
                client.drop_alias(collection.alias, timeout=10)
                client.drop_collection(collection.name, timeout=10)
    lease: Any = index.mappings._lease
    lease.stop()
    _delete_keys(index)
    index.stop()


def empty(index: Index) -> None:
    """Delete all that Redis has of a library, as if it had been emptied, and wait until the lease is taken again."""
    before = index.mappings.stamp
    _delete_keys(index)
    eventually(lambda: index.mappings.stamp not in ("", before))


def _delete_keys(index: Index) -> None:
    for key in index.mappings._redis.scan_iter(match=index.mappings.keys.prefix + b":*", count=1000):
        index.mappings._redis.delete(key)


class Photos:
    """Photos by name: their content is their name, their vectors come from it, and every file has an inode of its own."""

    def __init__(self) -> None:
        self._inodes = itertools.count(1)

    @staticmethod
    def digest(content: str) -> str:
        return blake3.blake3(content.encode()).hexdigest()

    def info(self, content: str) -> PhotoInfo:
        return PhotoInfo(self.digest(content), 640, 480, "JPEG", "2024-05-06T07:08:09", 1000)

    def id(self, content: str) -> int:
        return self.info(content).id

    def stat(self, inode: int | None = None) -> FileStat:
        return FileStat(1000, 1_700_000_000_000_000_001, 64, next(self._inodes) if inode is None else inode)

    def vector(self, content: str, dim: int = DIM) -> NDArray[np.float32]:
        values = np.random.default_rng(self.id(content)).normal(size=dim).astype(np.float32)
        return np.asarray(values / np.linalg.norm(values), dtype=np.float32)

    def add(self, path: str, content: str, stat: FileStat | None = None, *, models: int = 2) -> Encoded:
        vectors = dict.fromkeys(MODELS[:models], self.vector(content))
        return Encoded(Add(path, stat or self.stat(), self.info(content)), vectors)

    def adopt(self, path: str, content: str) -> Encoded:
        return Encoded(Add(path, self.stat(), self.info(content)), {})

    def bind(self, path: str, content: str, stat: FileStat | None = None, *, moved_from: str = "") -> Bind:
        return Bind(path, stat or self.stat(), self.id(content), moved_from)

    def expected(self, contents: Mapping[str, str]) -> dict[str, str]:
        return {path: self.digest(content) for path, content in contents.items()}


@pytest.fixture
def photos() -> Photos:
    return Photos()


def backlog_of(index: Index) -> list[str]:
    """Return every path of each photo that lacks a vector."""
    return list(index.paths_of(sorted(set[int]().union(*index.missing().values()))))


def converge(index: Index, photos: Photos, wanted: Mapping[str, str]) -> None:
    """Do what a daemon does after a start: recover, compare with the disk (path -> content), collect."""
    index.recover()
    for _ in range(5):
        backlog = set(backlog_of(index))
        recorded = [os.fsdecode(path) for path, _ in index.mappings.stream("/")]
        changes: list[Any] = [Remove(path) for path in recorded if path not in wanted]
        for path, record in zip(wanted, index.mappings.files(list(wanted)), strict=True):
            content = wanted[path]
            if record is None or record.photo != photos.id(content) or path in backlog:
                changes.append(_found(index, photos, path, content))
        if not changes:
            break
        index.commit(changes)
    else:
        pytest.fail(f"five comparisons with the disk do not converge; {changes} remain")
    index.collect()


def _found(index: Index, photos: Photos, path: str, content: str) -> Encoded | Bind:
    if not index.encoded([photos.id(content)])[0]:
        return photos.add(path, content)
    if index.mappings.photo(photos.id(content)) is None:
        return photos.adopt(path, content)
    return photos.bind(path, content)


def assert_in_step(
    index: Index, expected: Mapping[str, str], *, failed: Iterable[str] = (), aside: Iterable[int] = ()
) -> None:
    """Assert that both stores hold exactly `expected` (path -> content digest), the vectors of the photos set `aside`, and no more."""
    redis: Any = index.mappings._redis
    prefix = index.mappings.keys.prefix + b":"
    found: defaultdict[bytes, dict[bytes, Any]] = defaultdict(dict)
    for key in redis.scan_iter(match=prefix + b"*", count=1000):
        kind, _, rest = key.removeprefix(prefix).partition(b":")
        found[kind][rest] = key
    assert set(found) <= {
        b"schema",
        b"owner",
        b"files",
        b"photos",
        b"inodes",
        b"intents",
        b"failures",
        b"file",
        b"photo",
        b"paths",
        b"encoded",
        b"folders",
        b"holds",
        b"collections",
        b"aside",
    }
    assert index.mappings.aside() == set(aside)

    files = {os.fsdecode(path): redis.hgetall(key) for path, key in found[b"file"].items()}
    digests = {photo_id(digest): digest for digest in expected.values()}
    holders: defaultdict[int, set[str]] = defaultdict(set)
    for path, digest in expected.items():
        holders[photo_id(digest)].add(path)

    assert {path: int(file[b"id"]) for path, file in files.items()} == {
        path: photo_id(digest) for path, digest in expected.items()
    }
    ordered = [os.fsdecode(path) for path in redis.zrange(prefix + b"files", 0, -1)]
    assert ordered == sorted(expected, key=os.fsencode)
    assert {int(one): redis.hget(key, "digest").decode() for one, key in found[b"photo"].items()} == digests
    assert set(map(int, redis.smembers(prefix + b"photos"))) == set(digests)
    paths = {int(one): set(map(os.fsdecode, redis.smembers(key))) for one, key in found[b"paths"].items()}
    assert paths == dict(holders)
    assert redis.smembers(prefix + b"intents") == set()
    assert {os.fsdecode(path) for path in redis.hkeys(prefix + b"failures")} == set(failed)
    _assert_inodes(redis.hgetall(prefix + b"inodes"), files)
    names = {collection.name for collection in index.collections}
    assert {name.decode() for name in found[b"encoded"]} <= names
    for name in names:
        assert index.mappings.all_encoded(name) == {*digests, *aside}
        assert index.vectors.ids(name) == {*digests, *aside}
        assert index.vectors.count(name) == len({*digests, *aside})


def _assert_inodes(inodes: Mapping[bytes, bytes], files: Mapping[str, Mapping[bytes, bytes]]) -> None:
    """Every entry leads to a recorded file with that inode; files with an inode of their own have one."""
    for inode, path in inodes.items():
        file = files[os.fsdecode(path)]
        assert inode == file[b"device"] + b":" + file[b"inode"]
    of_files = [file[b"device"] + b":" + file[b"inode"] for file in files.values()]
    lone = {inode for inode in of_files if of_files.count(inode) == 1}
    # The last link to a file may have lost its entry with the other one, which costs one reading when it moves.
    assert len(lone - set(inodes)) <= 1


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until the condition holds; fail with it when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {seconds:g} s"
        time.sleep(0.02)


class Recorded:
    """Passes every call on, having told `before` its name, and tells `after` when it is done."""

    def __init__(
        self,
        inner: object,
        before: Callable[[str], object] = str,
        after: Callable[[str], object] = str,
    ) -> None:
        self._inner = inner
        self._before = before
        self._after = after

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(name)
            result = attribute(*args, **kwargs)
            self._after(name)
            return result

        return call


@dataclass(frozen=True)
class Kit:
    """What test modules share: they cannot import one another."""

    assert_in_step: Callable[..., None] = assert_in_step
    backlog_of: Callable[[Index], list[str]] = backlog_of
    converge: Callable[[Index, Photos, Mapping[str, str]], None] = converge
    eventually: Callable[..., None] = eventually
    drop: Callable[[Index], None] = drop
    empty: Callable[[Index], None] = empty
    recorded: type[Recorded] = Recorded
    photos: type[Photos] = Photos
    stores: type[Stores] = Stores
    loaded: type[Loaded] = Loaded


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()
