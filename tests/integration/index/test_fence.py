"""Only the holder of the lease changes the stores: whoever lost it, or never had it, is refused by each script that writes."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import daemon
from daemon.changes import Remembered
from daemon.config import Config
from daemon.errors import LibraryInUse, StoreUnavailable
from daemon.index.audit import Audit, Place
from daemon.index.mappings import Bind, Exclude, Fail, Mappings, Remove
from daemon.index.vectors import Row, Vectors
from daemon.life import _build_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.index.index import Index

KNOWN, LOST = "/p/known.jpg", "/p/lost.jpg"
SCRIPTS = sorted(
    file.name
    for file in resources.files("daemon.index").iterdir()
    if file.name.endswith(".lua") and file.name not in ("fence.lua", "lease.lua")
)


class Lost:
    """The lease of a writer whose place somebody else has taken."""

    def __init__(self, index: Index, stamp: str) -> None:
        self.key, self.stamp = index.mappings.keys.owner, stamp

    def lost(self) -> LibraryInUse:
        return LibraryInUse("another one has it")


@pytest.fixture
def filled(index: Index, photos: Any) -> Index:
    """A library with something for each change to change: a photo, a failure, an intent, a folder."""
    index.commit([photos.add(KNOWN, "known"), photos.add(LOST, "lost"), Fail("/p/failed.jpg", "empty", "1 2 3 4")])
    index.mappings.apply([Remove(LOST)], [])
    index.mappings.apply([photos.add("/p/hidden.jpg", "hidden").add, Exclude("/p/hidden.jpg")], [])
    index.mappings.remember("/q", Remembered())
    return index


@pytest.fixture
def stale(filled: Index, stores: Any) -> Iterator[Mappings]:
    """The mapping of a writer that had the lease before the one that has it now."""
    epoch, _, token = filled.mappings.stamp.partition(":")
    mappings = Mappings(stores.valkey.url, filled.mappings.keys, Lost(filled, f"{epoch}:{token[::-1]}"))
    yield mappings
    mappings.close()


def contents(index: Index) -> dict[bytes, bytes]:
    """Return all that Redis has of a library but its lease, which is renewed meanwhile."""
    redis: Any = index.mappings._redis
    keys = set(redis.scan_iter(match=index.mappings.keys.prefix + b":*")) - {index.mappings.keys.owner}
    return {key: redis.dump(key) for key in keys}


def writing(index: Index, photos: Any) -> dict[str, list[Callable[[Mappings], object]]]:
    """Return calls of every method that writes; each changes something of what is there when those before it were made."""
    collection, photo, lost = index.collections[0], photos.id("known"), photos.id("lost")
    name = collection.name
    changes = [
        photos.add("/p/new.jpg", "new").add,
        Bind("/p/copy.jpg", photos.stat(), photo),
        Remove(KNOWN),
        Fail("/p/copy.jpg", "broken", "1 2 3 4"),
        Exclude("/p/new.jpg"),
    ]
    return {
        "establish": [lambda mappings: mappings.establish()],
        "check_lease": [lambda mappings: mappings.check_lease()],
        "record": [lambda mappings: mappings.record(collection)],
        "remember": [lambda mappings: mappings.remember("/p", Remembered(kept=1))],
        "set_encoded": [
            lambda mappings: mappings.set_encoded(name, present=[12]),
            lambda mappings: mappings.set_encoded(name, absent=[photo]),
        ],
        "intend": [lambda mappings: mappings.intend([12])],
        "settle_intents": [lambda mappings: mappings.settle_intents([12])],
        "apply": [lambda mappings, change=change: mappings.apply([change], [name]) for change in changes],  # type: ignore[misc]
        "forget": [lambda mappings: mappings.forget([lost], [name])],
        "forget_folders": [lambda mappings: mappings.forget_folders(["/q"])],
        "date_aside": [lambda mappings: mappings.date_aside(1.0)],
        "forget_collection": [lambda mappings: mappings.forget_collection(name)],
    }


def reading(index: Index, photos: Any) -> dict[str, Callable[[Mappings], object]]:
    """Return a call of every method that only reads."""
    name, photo = index.collections[0].name, photos.id("known")
    arguments: dict[str, tuple[Any, ...]] = {
        "server": (),
        "files": ([KNOWN],),
        "paths_by_inode": ([photos.stat()],),
        "page": ("/p",),
        "stream": ("/p",),
        "every_path": (),
        "count_below": ("/p",),
        "counts": (),
        "photo": (photo,),
        "infos": ([photo],),
        "photos": ([photo],),
        "failures": (),
        "failed_paths": (),
        "failures_of": ([KNOWN],),
        "failure_kinds": (),
        "failure_signatures": (),
        "failure": (KNOWN,),
        "failed": ([KNOWN],),
        "recall": ("/p",),
        "remembered": (),
        "all_photos": (),
        "collections": (),
        "encoded": (name, [photo]),
        "count_encoded": (name,),
        "all_encoded": (name,),
        "not_encoded": (name,),
        "only_in": (name, name),
        "strays": (name,),
        "known": ([photo],),
        "intents": (),
        "photos_below": (["/p"],),
        "aside": (),
    }
    return {
        method: lambda mappings, method=method, given=given: getattr(mappings, method)(*given)  # type: ignore[misc]
        for method, given in arguments.items()
    }


def test_every_method_of_the_mapping_is_known_to_read_or_to_write(filled: Index, photos: Any) -> None:
    methods = {name for name, _ in inspect.getmembers(Mappings, inspect.isfunction) if not name.startswith("_")}
    around = {"close", "script", "lease_script"}
    assert methods == set(writing(filled, photos)) | set(reading(filled, photos)) | around


def test_a_writer_that_lost_the_lease_changes_nothing(filled: Index, stale: Mappings, photos: Any) -> None:
    before = contents(filled)
    for name, calls in writing(filled, photos).items():
        for call in calls:
            with pytest.raises(LibraryInUse, match="another one has it"):
                call(stale)
            assert contents(filled) == before, name


def test_what_is_refused_without_the_lease_is_done_with_it(filled: Index, photos: Any) -> None:
    already_so = {"establish", "check_lease", "record"}
    for name, calls in writing(filled, photos).items():
        for call in calls:
            before = contents(filled)
            call(filled.mappings)
            assert (contents(filled) == before) == (name in already_so), name


def test_a_writer_without_a_lease_changes_nothing_and_may_read(filled: Index, stores: Any, photos: Any) -> None:
    mappings, before = Mappings(stores.valkey.url, filled.mappings.keys), contents(filled)
    for calls in writing(filled, photos).values():
        for call in calls:
            with pytest.raises(StoreUnavailable, match="has no lease of this daemon"):
                call(mappings)
    for name, ask in reading(filled, photos).items():
        found: Any = ask(mappings)
        if name == "stream":
            assert list(found) == mappings.page("/p")
    assert contents(filled) == before
    mappings.close()


def test_a_writer_that_lost_the_lease_may_read(filled: Index, stale: Mappings, photos: Any) -> None:
    assert stale.page("/p") == filled.mappings.page("/p")
    assert list(Audit(stale).contradictions(bool)) == []


@pytest.mark.parametrize("file", SCRIPTS)
def test_each_change_of_each_script_is_refused(file: str, filled: Index, stale: Mappings) -> None:
    text = resources.files("daemon.index").joinpath(file).read_text(encoding="utf-8")
    assert text.rstrip().endswith("return fenced(ask, change)")
    changes = re.findall(r"^function change\.(\w+)", text, re.MULTILINE)
    assert changes
    before = contents(filled)
    for change in changes:
        with pytest.raises(LibraryInUse):
            stale.script(file)(change, *["path"] * 13)
    assert contents(filled) == before


def test_nothing_is_mended_without_the_lease(filled: Index, stale: Mappings) -> None:
    redis: Any = filled.mappings._redis
    redis.zadd(filled.mappings.keys.files, {"/p/ghost.jpg": 0})
    audit, before = Audit(stale), contents(filled)
    (place,) = audit.contradictions(bool)
    assert place == Place("path", "/p/ghost.jpg")
    for mend in (lambda: audit.mend(place), lambda: audit.distrust([KNOWN])):
        with pytest.raises(LibraryInUse):
            mend()
    assert contents(filled) == before


def refused() -> None:
    raise LibraryInUse("another one has it")


CHANGES_OF_MILVUS: dict[str, Callable[[Vectors, str, Any], object]] = {
    "ensure": lambda vectors, name, _: vectors.ensure(f"{name}_other", dim=8, metric="cosine"),
    "drop": lambda vectors, name, _: vectors.drop(name),
    "point": lambda vectors, name, _: vectors.point(f"{name}_other", name),
    "unpoint": lambda vectors, name, _: vectors.unpoint(name.rpartition("_")[0]),
    "upsert": lambda vectors, name, photos: vectors.upsert(name, [Row(1, photos.vector("x"), 0, 1, 1)]),
    "delete": lambda vectors, name, photos: vectors.delete(name, [photos.id("known")]),
}
READING_OF_MILVUS = {
    "close",
    "server_version",
    "loaded",
    "described",
    "target",
    "flush",
    "search",
    "get",
    "read",
    "count",
    "ids",
}


def test_every_method_of_the_vectors_is_known_to_read_or_to_write() -> None:
    methods = {name for name, _ in inspect.getmembers(Vectors, inspect.isfunction) if not name.startswith("_")}
    assert methods == READING_OF_MILVUS | set(CHANGES_OF_MILVUS)


@pytest.mark.parametrize("name", CHANGES_OF_MILVUS)
def test_milvus_is_not_changed_without_the_lease(name: str, filled: Index, stores: Any, photos: Any) -> None:
    collection = filled.collections[0]
    vectors = Vectors(stores.milvus.url, embedded=True, guard=refused)
    with pytest.raises(LibraryInUse):
        CHANGES_OF_MILVUS[name](vectors, collection.name, photos)
    assert vectors.ids(collection.name) == {photos.id("known"), photos.id("lost")}
    assert vectors.target(collection.alias) == collection.name
    assert vectors.described(f"{collection.name}_other") is None
    assert vectors.target(f"{collection.name}_other") is None
    vectors.close()


def test_the_index_of_the_daemon_asks_for_the_lease_in_both_stores(filled: Index, stores: Any) -> None:
    from daemon.api.status import Store

    redis, milvus = Store("Redis", stores.valkey.url, None), Store("Milvus", stores.milvus.url, None)
    config = Config(library=filled.mappings.keys.library, folders=())
    lost: Any = Lost(filled, "1:other")
    models: Any = None
    index = _build_index(config, [], models, redis, milvus, lost)
    with pytest.raises(LibraryInUse):
        index.mappings.intend([1])
    with pytest.raises(LibraryInUse):
        index.vectors.drop(filled.collections[0].name)
    index.stop()


def test_only_the_mapping_talks_to_redis() -> None:
    top = Path(daemon.__file__).parent
    importing = {
        str(path.relative_to(top))
        for path in top.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.partition(".")[0] == "redis"
    }
    assert importing == {"index/mappings.py"}
