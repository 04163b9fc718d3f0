"""What the index should hold, and what it holds: the disk and both stores, read without a line of lookalike's own code.

The layout of the stores is the one that ARCHITECTURE.md documents.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis
from blake3 import blake3

from tests.drills.photos import SUFFIXES, is_photo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

PREFIX = b"lookalike:default:"
COLLECTIONS = "default_"
MILVUS_SECONDS = 5


def photo_id(data: bytes) -> int:
    """Return the first 63 bits of the content's BLAKE3 hash."""
    return int.from_bytes(blake3(data).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class Disk:
    """The files below a folder."""

    photos: dict[str, int]
    """Path -> id of the photo that it holds."""
    damaged: frozenset[str]
    """Paths of files that are named like a photo and are none."""

    @classmethod
    def read(cls, folder: Path) -> Disk:
        contents: dict[str, bytes] = {}
        for directory, _, names in os.walk(folder):
            for name in names:
                if name.endswith(SUFFIXES) and not name.startswith("."):
                    path = os.path.join(directory, name)
                    with open(path, "rb") as file:
                        contents[path] = file.read()
        return cls.of(contents)

    @classmethod
    def of(cls, contents: Mapping[str, bytes]) -> Disk:
        """Return the disk that has these files."""
        photos = {path: photo_id(data) for path, data in contents.items() if is_photo(data)}
        return cls(photos, frozenset(contents.keys() - photos.keys()))


@dataclass(frozen=True, slots=True)
class Stored:
    """What the two stores hold of a library."""

    photos: dict[str, int]
    """Path -> id, as the record of the file has it."""
    listed: frozenset[str]
    """Every path in the sorted set."""
    holders: dict[int, frozenset[str]]
    """Id -> the paths under which results show it."""
    vectors: dict[str, frozenset[int]]
    """Collection -> ids."""
    failures: frozenset[str]
    aside: frozenset[int] = frozenset()
    """Ids of photos whose files were excluded, and whose vectors are kept for a day."""

    @classmethod
    def read(cls, sockets: Path) -> Stored:
        """Read both stores; ConnectionError while one of them is away."""
        try:
            with redis.Redis(unix_socket_path=str(sockets / "valkey.sock"), socket_timeout=30) as mapping:
                return cls(
                    photos=_records(mapping),
                    listed=_paths(mapping.zrange(PREFIX + b"files", 0, -1)),
                    holders=_holders(mapping),
                    vectors=_vectors(sockets / "milvus.sock"),
                    failures=_paths(mapping.hkeys(PREFIX + b"failures")),
                    aside=frozenset(map(int, mapping.zrange(PREFIX + b"aside", 0, -1))),
                )
        except redis.exceptions.ConnectionError as error:
            raise ConnectionError(f"Redis cannot be read: {error}") from error


@dataclass(slots=True)
class Differences:
    """Where the index differs from the disk, a sentence each."""

    lost: list[str] = field(default_factory=list)
    """Photos on the disk that a query would not find under their paths, and damaged files that nothing tells of."""
    ghosts: list[str] = field(default_factory=list)
    """Paths and failures that are not on the disk."""
    strays: list[str] = field(default_factory=list)
    """Vectors of no photo: never shown, and collected within a second or two once everything was compared."""

    def __bool__(self) -> bool:
        return bool(self.lost or self.ghosts or self.strays)

    def __str__(self) -> str:
        return "\n".join(self.lost + self.ghosts + self.strays)


def compare(disk: Disk, stored: Stored) -> Differences:
    """Return every difference."""
    found = Differences()
    for path, photo in sorted(disk.photos.items()):
        found.lost += [f"lost: {path} (photo {photo}) {why}" for why in _lacks(path, photo, stored)]
    found.lost += [f"lost: {path} is damaged and is no failure" for path in sorted(disk.damaged - stored.failures)]

    shown = {path: photo for photo, paths in stored.holders.items() for path in paths}
    for path in sorted(stored.photos.keys() | stored.listed | shown.keys()):
        if path not in disk.photos:
            found.ghosts.append(f"ghost: {path} is indexed and not on the disk")
    found.ghosts += [
        f"ghost: photo {photo} is shown under {path}, which holds another"
        for photo, paths in sorted(stored.holders.items())
        for path in sorted(paths)
        if disk.photos.get(path, photo) != photo
    ]
    found.ghosts += [f"ghost: {path} is no failure" for path in sorted(stored.failures - disk.damaged)]

    known = set(disk.photos.values()) | stored.aside
    for name, ids in stored.vectors.items():
        found.strays += [f"ghost: {name} has a vector of {photo}, which is no photo" for photo in sorted(ids - known)]
    return found


def _lacks(path: str, photo: int, stored: Stored) -> Iterable[str]:
    if stored.photos.get(path) != photo:
        yield f"is recorded as {stored.photos.get(path)}"
    if path not in stored.listed:
        yield "is not listed"
    if path not in stored.holders.get(photo, frozenset()):
        yield "is not among the paths of its photo"
    if not stored.vectors or not all(photo in ids for ids in stored.vectors.values()):
        yield "has no vector"


def listed_paths(sockets: Path) -> frozenset[str]:
    """Return every path that the index lists."""
    with redis.Redis(unix_socket_path=str(sockets / "valkey.sock"), socket_timeout=30) as mapping:
        return _paths(mapping.zrange(PREFIX + b"files", 0, -1))


def _paths(raw: Any) -> frozenset[str]:
    return frozenset(map(os.fsdecode, raw))


def _below(mapping: redis.Redis, kind: bytes) -> dict[bytes, bytes]:
    """Return what stands behind the prefix -> the key."""
    prefix = PREFIX + kind
    return {key.removeprefix(prefix): key for key in mapping.scan_iter(match=prefix + b"*", count=10_000)}


def _records(mapping: redis.Redis) -> dict[str, int]:
    keys = _below(mapping, b"file:")
    with mapping.pipeline(transaction=False) as pipe:
        for key in keys.values():
            pipe.hget(key, "id")
        # A file that goes meanwhile has no id any more.
        return {os.fsdecode(path): int(photo or -1) for path, photo in zip(keys, pipe.execute(), strict=True)}


def _holders(mapping: redis.Redis) -> dict[int, frozenset[str]]:
    keys = _below(mapping, b"paths:")
    with mapping.pipeline(transaction=False) as pipe:
        for key in keys.values():
            pipe.smembers(key)
        return {int(photo): _paths(paths) for photo, paths in zip(keys, pipe.execute(), strict=True)}


def _vectors(socket: Path) -> dict[str, frozenset[int]]:
    from pymilvus import MilvusClient, MilvusException  # 0.8 s

    # It prints a traceback for each server that is away.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    try:
        # Not dedicated, it would go on with the connection to a server that has ended since.
        client = MilvusClient(uri=f"unix:{socket}", timeout=MILVUS_SECONDS, dedicated=True)
    except MilvusException as error:
        raise ConnectionError(f"Milvus cannot be reached: {error}") from error
    try:
        names = [name for name in client.list_collections() if name.startswith(COLLECTIONS)]
        return {name: _ids(client, name) for name in names}
    except MilvusException as error:
        raise ConnectionError(f"Milvus cannot be read: {error}") from error
    finally:
        client.close()


def _ids(client: Any, collection: str) -> frozenset[int]:
    # Not by the iterator: it goes on behind the last id of a page, and Milvus Lite returns pages in no order.
    rows = client.query(collection, filter="id >= 0", output_fields=["id"])
    found = Counter(int(row["id"]) for row in rows)
    twice = [photo for photo, count in found.items() if count > 1]
    assert not twice, f"{collection} has more than one vector of {twice}"
    return frozenset(found)
