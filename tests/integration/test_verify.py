"""Verification before real stores, a real folder and the real pipeline: what is broken on purpose is told, and nothing else."""

from __future__ import annotations

import functools
import io
import itertools
import os
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
from PIL import Image

from daemon import indexer, paths
from daemon.beneath import Disk
from daemon.changes import FileStat, Hint, PhotoInfo
from daemon.encode.encoder import Encoder
from daemon.encode.images import decode
from daemon.encode.models import load_spec, prepare
from daemon.errors import QueryError
from daemon.index.index import Encoded, Index
from daemon.index.mappings import Add, Bind, Exclude, Fail
from daemon.index.search import Search
from daemon.index.vectors import Row
from daemon.indexer import Indexer
from daemon.verify import barrier, content, verifier
from daemon.verify.content import OwnBytes
from daemon.verify.report import KINDS
from daemon.verify.verifier import Verifier
from daemon.watch.brake import Brake
from daemon.watch.filters import Filters
from daemon.watch.pending import Pending
from daemon.watch.reconcile import Recording
from daemon.watch.settle import Settle
from daemon.watch.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from daemon.index.index import Collection
    from daemon.index.keys import Keys
    from daemon.verify.report import Report

FILTERS = Filters([".*"], [".png"])
MAX_PIXELS = 10**7
COARSE = 64


class Coarse:
    """A second model: the picture in 64 numbers."""

    versions = ("coarse",)
    min_side = 8

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        return np.asarray(image.convert("L").resize((8, 8)), np.float32)

    def encode(self, inputs: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        return {"coarse": np.stack([self.encode_query(one)["coarse"] for one in inputs])}

    def encode_query(self, query: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        flat = query.ravel() - query.mean()
        return {"coarse": np.asarray(flat / np.linalg.norm(flat), np.float32)}


def png(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 48)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Folder:
    path: str
    mode: str = "events"


class Ground:
    """One folder that nobody watches: what happens in it is noticed by nothing but a verification."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = Disk([str(folder)])
        self.folders = [Folder(str(folder))]
        self.walked = True
        self.busy = False
        self.rescans: list[str] = []
        self.held: set[str] = set()

    def ignores(self, path: str) -> bool:
        return not path.endswith(".png")

    def admits(self, path: str, seen: dict[str, bool] | None = None) -> bool:  # noqa: ARG002 - as the watcher has it
        return path.startswith(f"{self.folder}/") and path.endswith(".png")

    def is_unverified(self, path: str) -> bool:
        return path in self.held or not self.folder.is_dir()

    def is_watched(self, path: str) -> bool:
        return path.startswith(f"{self.folder}/")

    def is_reachable(self, path: str) -> bool:
        return self.admits(path) and self.folder.is_dir()

    def noticed(self, paths: Iterable[str]) -> None:
        """Nothing is held that could be let go."""

    def rescan(self, directory: str, reason: str) -> None:  # noqa: ARG002
        self.rescans.append(directory)

    def rescan_all(self, reason: str) -> None:
        """Nothing is found by itself."""


class Library:
    """A library of six photos in seven files, in step; and its verifier."""

    def __init__(self, folder: Path, index: Index, models: Any, territory: Any, pending: Pending) -> None:
        self.folder, self.index, self.pending, self.territory = folder, index, pending, territory
        self.redis: Any = index.mappings._redis
        self.keys: Keys = index.mappings.keys
        self.indexer = Indexer(
            index,
            models,
            pending,
            pending._settle,
            territory,
            threads=1,
            batch_photos=4,
            queue_bytes=10**8,
            max_file_bytes=10**6,
            decode=functools.partial(decode, max_pixels=MAX_PIXELS),
        )
        search = Search(index, territory.admits)
        own_bytes = OwnBytes(
            index,
            search,
            models,
            decode=functools.partial(decode, max_pixels=MAX_PIXELS),
            max_limit=50,
            is_shown=territory.admits,
        )
        self.owed: set[str] = set()
        self.verifier = Verifier(
            index, pending, territory, FILTERS, own_bytes, lambda collection, _: collection.name in self.owed
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, seed: int) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(seed))
        return str(path)

    def id(self, name: str) -> int:
        record = self.index.mappings.files([self.path(name)])[0]
        assert record is not None
        return record.photo

    def file(self, name: str) -> bytes:
        return self.keys.file(self.path(name))

    def raw(self, name: str) -> bytes:
        return os.fsencode(self.path(name))

    @property
    def second(self) -> Collection:
        return self.index.collections[1]

    def row(self, photo: int, seed: int) -> Row:
        vector = np.random.default_rng(seed).normal(size=self.second.dim).astype(np.float32)
        return Row(photo, vector / np.linalg.norm(vector), 0, 64, 48)

    def verify(self, *, deep: bool = False, repair: bool = False) -> Report:
        report = self.verifier.run(deep=deep, repair=repair)
        self.indexer.check()
        assert (report.deep, report.repaired) == (deep, repair)
        return report

    def differences(self, *, deep: bool = False) -> dict[str, tuple[str, ...]]:
        return _told(self.verify(deep=deep))


def _told(report: Report) -> dict[str, tuple[str, ...]]:
    """Return the examples by kind."""
    assert report.pending == 0
    assert all(min(one.count, 10) == len(one.examples) for one in report.differences)
    assert all(one.what == KINDS[one.kind] for one in report.differences)
    return {one.kind: one.examples for one in report.differences}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, kit: Any) -> Any:
    spec = load_spec(paths.shipped("models") / "efficientnet-lite0.yaml")
    model = prepare(spec, tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("pulled"))
    return kit.loaded([Encoder([model], threads=1), Coarse()])


@pytest.fixture
def index(stores: Any, models: Any, kit: Any) -> Iterator[Index]:
    library: Index = stores.library(dim=1280, models=tuple(models.by_version))
    first, second = library.current
    index = Index(library.mappings, library.vectors, [first, replace(second, dim=COARSE, metric="l2")])
    yield index
    kit.drop(index)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def library(folder: Path, index: Index, models: Any, kit: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    # Nothing watches: there is no event to wait for. What a start collects is waited for below.
    monkeypatch.setattr(barrier, "EVENT_SECONDS", 0.0)
    monkeypatch.setattr(indexer, "TEND_SECONDS", 0.05)
    library = Library(folder, index, models, Ground(folder), Pending(Settle(0.0, 0.0)))
    library.indexer.start()
    for number, name in enumerate(["a.png", "b.png", "c.png", "sub/d.png", "sub/\udce9.png", "z.png"]):
        library.write(name, number)
    shutil.copy(library.path("a.png"), library.path("sub/copy of a.png"))
    for path in folder.rglob("*.png"):
        library.pending.put(str(path), Hint.CLOSED)
    # What a test breaks is not to be mended by what a start collects.
    kit.eventually(lambda: not len(library.pending) and not library.indexer.collects)
    yield library
    library.verifier.stop()
    library.indexer.stop()


# A sound library


@pytest.mark.parametrize("deep", [False, True], ids=["shallow", "deep"])
def test_a_sound_library_has_no_difference(library: Library, *, deep: bool) -> None:
    report = library.verify(deep=deep)
    assert report.differences == ()
    assert (report.files, report.photos, report.failures, report.mended, report.pending) == (7, 6, 0, 0, 0)
    assert [(one.name, one.vectors) for one in report.models] == [(name, 6) for name in library.index.models]
    assert report.sampled == (6 if deep else 0)


def test_the_vectors_of_an_excluded_photo_are_no_difference(library: Library) -> None:
    photo = library.id("b.png")
    library.index.commit([Exclude(library.path("b.png"))])
    os.unlink(library.path("b.png"))
    report = library.verify(repair=True)
    assert report.differences == ()
    assert report.photos == 5
    assert [one.vectors for one in report.models] == [5, 5]
    assert library.index.mappings.aside() == {photo}
    assert library.index.encoded([photo]) == [True]


def test_a_vector_that_is_lost_of_an_excluded_photo_is_recorded_as_lost(library: Library) -> None:
    photo = library.id("b.png")
    library.index.commit([Exclude(library.path("b.png"))])
    os.unlink(library.path("b.png"))
    library.index.vectors.delete(library.second.name, [photo])
    assert set(library.differences()) == {"mapping_broken"}
    assert library.verify(repair=True).differences == ()
    assert library.index.encoded([photo]) == [False]


def test_what_a_model_is_known_to_lack_and_is_owed_is_no_difference(library: Library) -> None:
    photo = library.id("a.png")
    library.index.vectors.delete(library.second.name, [photo])
    library.index.mappings.set_encoded(library.second.name, absent=[photo])
    library.owed.add(library.second.name)
    assert library.differences() == {}
    library.owed.clear()
    assert set(library.differences()) == {"vector_missing"}


def test_what_is_about_to_be_collected_is_no_difference(library: Library) -> None:
    verifier = Verifier(
        library.index,
        library.pending,
        library.territory,
        FILTERS,
        library.verifier._own_bytes,
        lambda *_: False,
        is_collecting=lambda: library.indexer.collects,
    )
    with library.indexer.importing():
        vector_of_nobody_that_is_recorded(library)
    assert verifier.run(deep=False, repair=False).differences == ()
    vector_of_nobody_that_is_recorded(library)
    assert {one.kind for one in verifier.run(deep=False, repair=False).differences} == {"vector_stray"}


def test_a_photo_that_fails_is_no_difference_while_its_file_stays_the_same(library: Library, kit: Any) -> None:
    (library.folder / "broken.png").write_bytes(b"no picture")
    library.pending.put(library.path("broken.png"), Hint.CLOSED)
    kit.eventually(lambda: not len(library.pending))
    report = library.verify(deep=True)
    assert (report.failures, report.differences) == (1, ())
    (library.folder / "broken.png").write_bytes(png(20))
    assert library.differences() == {"not_indexed": (library.path("broken.png"),)}


def test_what_is_not_to_be_indexed_is_no_difference(library: Library) -> None:
    for name in ("text.txt", ".hidden.png", ".git/x.png"):
        library.write(name, 9)
    (library.folder / "link.png").symlink_to(library.path("a.png"))
    assert library.differences(deep=True) == {}


def test_a_file_behind_a_link_is_not_on_the_disk(library: Library) -> None:
    os.rename(library.folder / "sub", library.folder.with_name("elsewhere"))
    (library.folder / "sub").symlink_to(library.folder.with_name("elsewhere"))
    told = library.differences()
    assert set(told) == {"ghost_path"}
    assert library.path("sub/d.png") in told["ghost_path"]


# Each kind on purpose

Break = "Callable[[Library], str]"
"""Breaks one thing, and returns the example to be told."""


def not_indexed(library: Library) -> str:
    return library.write("new.png", 50)


def outdated(library: Library) -> str:
    return library.write("b.png", 51)


def ghost_path(library: Library) -> str:
    os.unlink(library.path("b.png"))
    return library.path("b.png")


def ghost_in_a_folder_with_a_strange_name(library: Library) -> str:
    os.unlink(library.path("sub/\udce9.png"))
    return library.path("sub/\udce9.png")


def ghost_copy(library: Library) -> str:
    os.unlink(library.path("sub/copy of a.png"))
    return library.path("sub/copy of a.png")


def ghost_of_a_failure(library: Library) -> str:
    library.redis.hset(
        library.keys.failures,
        library.raw("gone.png"),
        '{"reason": "it is broken", "attempts": 1, "since": 1.0, "signature": "1 2 3 4"}',
    )
    return library.path("gone.png")


def vector_lost(library: Library) -> str:
    library.index.vectors.delete(library.second.name, [library.id("c.png")])
    return f"coarse: {library.path('c.png')}"


def vector_lost_and_known_to_be(library: Library) -> str:
    library.index.mappings.set_encoded(library.second.name, absent=[library.id("c.png")])
    return vector_lost(library)


def vector_of_nobody(library: Library) -> str:
    library.index.vectors.upsert(library.second.name, [library.row(12345, 1)])
    return "coarse: 12345"


def vector_of_nobody_that_is_recorded(library: Library) -> str:
    library.index.mappings.set_encoded(library.second.name, present=[12345])
    return vector_of_nobody(library)


def vector_that_is_not_recorded(library: Library) -> str:
    library.index.mappings.set_encoded(library.second.name, absent=[library.id("c.png")])
    return f"coarse: {library.path('c.png')}"


def recorded_vector_of_nobody(library: Library) -> str:
    library.index.mappings.set_encoded(library.second.name, present=[12345])
    return "coarse: 12345"


def file_not_listed(library: Library) -> str:
    library.redis.zrem(library.keys.files, library.raw("b.png"))
    return f"path {library.path('b.png')}: it is recorded, and not listed"


def file_not_recorded(library: Library) -> str:
    library.redis.delete(library.file("b.png"))
    return f"path {library.path('b.png')}: it is listed, and nothing is recorded of it"


def path_unknown_to_its_photo(library: Library) -> str:
    library.redis.srem(library.keys.paths(library.id("a.png")), library.raw("a.png"))
    return f"path {library.path('a.png')}: its photo {library.id('a.png')} does not know it"


def path_of_another_photo(library: Library) -> str:
    library.redis.sadd(library.keys.paths(library.id("b.png")), library.raw("c.png"))
    return f"photo {library.id('b.png')}: it names a file that does not hold it: {library.path('c.png')}"


def path_that_is_gone(library: Library) -> str:
    library.redis.sadd(library.keys.paths(library.id("b.png")), b"/nowhere/x.png")
    return f"photo {library.id('b.png')}: it names a file that does not hold it: /nowhere/x.png"


def photo_not_listed(library: Library) -> str:
    library.redis.srem(library.keys.photos, library.id("b.png"))
    return f"photo {library.id('b.png')}: it is recorded, and not listed"


def photo_not_recorded(library: Library) -> str:
    library.redis.delete(library.keys.photo(library.id("b.png")))
    return f"photo {library.id('b.png')}: it is listed, and nothing is recorded of it"


def photo_of_another_digest(library: Library) -> str:
    library.redis.hset(library.keys.photo(library.id("b.png")), "digest", "0" * 64)
    return f"photo {library.id('b.png')}: its digest is that of another photo"


def photo_without_a_file(library: Library) -> str:
    library.redis.sadd(library.keys.photos, 777)
    library.redis.hset(library.keys.photo(777), mapping=library.redis.hgetall(library.keys.photo(library.id("b.png"))))
    library.redis.hset(library.keys.photo(777), "digest", f"{777 << 1:016x}{'0' * 48}")
    return "photo 777: no file holds it, and it is not on its way out"


def file_recorded_in_part(library: Library) -> str:
    library.redis.hdel(library.file("b.png"), "mtime_ns")
    return f"path {library.path('b.png')}: it is recorded in part"


def photo_recorded_in_part(library: Library) -> str:
    example = f"photo {library.id('b.png')}: it is recorded in part"
    library.redis.hdel(library.keys.photo(library.id("b.png")), "width")
    return example


def inode_of_another_file(library: Library) -> str:
    library.redis.hset(library.keys.inodes, "1:2", library.raw("b.png"))
    return f"inode 1:2: it leads to a file without that inode: {library.path('b.png')}"


def inode_of_no_file(library: Library) -> str:
    library.redis.hset(library.keys.inodes, "1:2", b"/nowhere/x.png")
    return "inode 1:2: it leads to a file without that inode: /nowhere/x.png"


def file_under_another_form_of_its_path(library: Library) -> str:
    known = library.index.mappings.files([library.path("a.png")])[0]
    assert known is not None
    library.index.commit([Bind(f"{library.folder}/../photos//a.png", known.stat, known.photo)])
    return f"{library.folder}/../photos//a.png"


def file_outside_every_folder(library: Library) -> str:
    outside = library.folder.with_name("outside.png")
    outside.write_bytes(png(70))
    path, photo = f"{library.folder}/sub/../../outside.png", PhotoInfo("7" * 64, 64, 48, "PNG", "", 1)
    vectors = {one.version: np.eye(1, one.dim, dtype=np.float32)[0] for one in library.index.collections}
    library.index.commit([Encoded(Add(path, FileStat.of(os.stat(outside)), photo), vectors)])
    return path


def failure_under_another_form_of_its_path(library: Library) -> str:
    library.index.commit([Fail(f"{library.folder}/./a.png", "it is broken", "1 2 3 4")])
    return f"{library.folder}/./a.png"


def intent_of_nobody(library: Library) -> str:
    library.redis.sadd(library.keys.intents, 12345)
    return "12345"


def intent_of_a_photo(library: Library) -> str:
    library.redis.sadd(library.keys.intents, library.id("b.png"))
    return library.path("b.png")


def content_changed(library: Library) -> str:
    path = Path(library.path("b.png"))
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return str(path)


def not_found(library: Library) -> str:
    library.index.vectors.upsert(library.second.name, [library.row(library.id("b.png"), 7)])
    return f"coarse: {library.path('b.png')}"


BROKEN = [
    ("not_indexed", not_indexed),
    ("outdated", outdated),
    ("ghost_path", ghost_path),
    ("ghost_path", ghost_in_a_folder_with_a_strange_name),
    ("ghost_path", ghost_copy),
    ("ghost_path", ghost_of_a_failure),
    ("vector_missing", vector_lost),
    ("vector_missing", vector_lost_and_known_to_be),
    ("vector_stray", vector_of_nobody),
    ("vector_stray", vector_of_nobody_that_is_recorded),
    ("vector_stray", vector_that_is_not_recorded),
    ("mapping_broken", recorded_vector_of_nobody),
    ("mapping_broken", file_not_listed),
    ("mapping_broken", file_not_recorded),
    ("mapping_broken", path_unknown_to_its_photo),
    ("mapping_broken", path_of_another_photo),
    ("mapping_broken", path_that_is_gone),
    ("mapping_broken", photo_not_listed),
    ("mapping_broken", photo_not_recorded),
    ("mapping_broken", photo_of_another_digest),
    ("mapping_broken", photo_without_a_file),
    ("mapping_broken", file_recorded_in_part),
    ("mapping_broken", photo_recorded_in_part),
    ("mapping_broken", inode_of_another_file),
    ("mapping_broken", inode_of_no_file),
    ("path_refused", file_under_another_form_of_its_path),
    ("path_refused", file_outside_every_folder),
    ("path_refused", failure_under_another_form_of_its_path),
    ("intent_left", intent_of_nobody),
    ("intent_left", intent_of_a_photo),
    ("content_changed", content_changed),
    ("not_found", not_found),
]


@pytest.mark.parametrize(("kind", "do"), BROKEN, ids=[do.__name__ for _, do in BROKEN])
def test_what_is_broken_is_told_alone_and_mended(library: Library, kind: str, do: Callable[[Library], str]) -> None:
    deep = kind in ("content_changed", "not_found")
    example = do(library)
    if deep:
        assert library.differences() == {}
    told = library.differences(deep=deep)
    # A file of which nothing is recorded is missed in three places.
    assert (set(told), example in told[kind], len(told[kind])) == ({kind}, True, 3 if do is file_not_recorded else 1)
    assert library.differences(deep=deep) == told, "verifying mends nothing"
    mended = library.verify(deep=deep, repair=True)
    assert (_told(mended), mended.mended >= 1) == ({}, True)
    clean = library.verify(deep=True)
    assert _told(clean) == {}
    assert clean.mended == 0


def test_every_kind_is_broken_by_some_test() -> None:
    assert {kind for kind, _ in BROKEN} | {"held"} == set(KINDS)


def test_everything_at_once_is_mended(library: Library) -> None:
    for kind, do in BROKEN:
        # The others need a record of the file that these take away.
        if kind != "ghost_path" and do not in (file_not_recorded, file_recorded_in_part):
            do(library)
    ghost_copy(library)
    file_not_recorded(library)
    assert library.verify(deep=True).differences
    assert _told(library.verify(deep=True, repair=True)) == {}
    assert library.differences(deep=True) == {}


def test_a_mapping_that_was_emptied_is_read_again_from_the_disk(library: Library) -> None:
    for key in library.redis.scan_iter(match=library.keys.prefix + b":*", count=1000):
        if key not in (library.keys.schema, library.keys.owner):
            library.redis.delete(key)
    told = library.differences()
    assert set(told) == {"not_indexed", "vector_stray"}
    assert len(told["not_indexed"]) == 7
    assert _told(library.verify(repair=True)) == {}
    assert library.differences(deep=True) == {}


# What is held


def test_what_is_held_is_told_and_never_mended(library: Library) -> None:
    path = library.path("b.png")
    record = library.index.mappings.files([path])[0]
    library.territory.held.add(path)
    os.unlink(path)
    assert library.differences() == {"held": (path,)}
    report = library.verify(repair=True, deep=True)
    assert (_told(report), report.mended) == ({"held": (path,)}, 0)
    assert library.index.mappings.files([path])[0] == record


def test_a_contradiction_of_a_held_file_waits_for_its_folder(library: Library) -> None:
    path = library.path("b.png")
    library.territory.held.add(path)
    content = Path(path).read_bytes()
    os.unlink(path)
    example = path_that_is_gone(library)
    assert library.differences() == {"mapping_broken": (example,)}
    report = library.verify(repair=True)
    assert (_told(report), report.mended) == ({"mapping_broken": (example,)}, 0)
    assert library.index.mappings.files([path])[0] is not None
    Path(path).write_bytes(content)
    assert _told(library.verify(repair=True)) == {}


def test_of_a_folder_that_is_away_everything_is_held(library: Library) -> None:
    os.rename(library.folder, library.folder.with_name("away"))
    (held,) = library.verify(repair=True).differences
    assert (held.kind, held.count) == ("held", 7)
    os.rename(library.folder.with_name("away"), library.folder)
    assert library.differences(deep=True) == {}


def test_of_more_than_is_followed_it_is_told_that_there_may_be_more(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.rename(library.folder, library.folder.with_name("away"))
    assert not library.verify().at_least
    monkeypatch.setattr("daemon.verify.verifier.MOST", 5)
    report = library.verify()
    assert ([one.count for one in report.differences], report.at_least) == ([5], True)


# A library that lives


def test_what_waits_for_its_turn_is_not_decided(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "PATIENCE_SECONDS", 0.5)
    library.indexer.stop()
    library.write("new.png", 60)
    library.write("sub/other.png", 61)
    # As if it were still being written to.
    library.pending.put(library.path("new.png"), Hint.CLOSED)
    monkeypatch.setattr(library.pending, "older_than", lambda _, below="": int(not below.endswith("sub")))
    report = library.verify()
    assert [one.examples for one in report.differences] == [(library.path("sub/other.png"),)]
    assert report.pending == 1


def test_a_polled_folder_is_walked_before_anything_is_said_of_it(library: Library) -> None:
    assert isinstance(library.territory, Ground)
    library.territory.folders[0].mode = "poll"
    library.verify()
    assert library.territory.rescans == [], "there was nothing to suspect"
    not_indexed(library)
    library.verify()
    assert library.territory.rescans == [str(library.folder)]


def test_one_verification_runs_at_a_time(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()

    def ids(name: str) -> set[int]:
        entered.set()
        assert leave.wait(30)
        return set()

    monkeypatch.setattr(library.index.vectors, "ids", ids)
    first = threading.Thread(target=lambda: library.verifier.run(deep=False, repair=False))
    first.start()
    assert entered.wait(30)
    with pytest.raises(QueryError, match="another verification") as caught:
        library.verify()
    assert caught.value.code == "busy"
    leave.set()
    first.join()


def test_a_verification_ends_when_the_daemon_stops(library: Library) -> None:
    not_indexed(library)
    library.pending.put(library.path("never looked at.png"), Hint.CLOSED)
    library.indexer.stop()
    said: list[str] = []

    def run() -> None:
        try:
            library.verifier.run(deep=False, repair=False)
        except QueryError as error:
            said.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    library.verifier.stop()
    thread.join(20)
    assert said == ["unavailable"]


def test_the_sample_is_bounded(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "SAMPLE", 3)
    assert library.verify(deep=True).sampled == 3
    monkeypatch.setattr(content, "SAMPLE_SECONDS", 0.0)
    assert library.verify(deep=True).sampled == 0


def test_more_equal_pictures_than_are_asked_for_are_all_found(
    library: Library, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "NEAREST", 3)
    picture = png(70)
    for number in range(6):
        # The same picture, in files that differ behind its end.
        (library.folder / f"equal {number}.png").write_bytes(picture + bytes([number]))
        library.pending.put(library.path(f"equal {number}.png"), Hint.CLOSED)
    kit.eventually(lambda: not len(library.pending))
    assert library.differences(deep=True) == {}


class Life:
    """A thread that never leaves the folder alone: photos come, are copied, change, move and go, and so do directories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done = threading.Event()
        self.rounds = 0
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _run(self) -> None:
        random = np.random.default_rng(1)
        for self.rounds in itertools.count():
            if self.done.wait(0.02):
                return
            self._change(int(random.integers(5)), int(random.integers(8)), int(random.integers(12)))

    def _change(self, what: int, number: int, seed: int) -> None:
        path = self.folder / f"live {number}.png"
        match what:
            case 0 | 1:
                path.write_bytes(png(100 + seed))
            case 2 if path.exists():
                path.unlink()
            case 3 if path.exists():
                path.rename(self.folder / f"live {(number + 1) % 8}.png")
            case 4:
                self._turn_directory()

    def _turn_directory(self) -> None:
        here, there = self.folder / "here", self.folder / "there"
        if here.exists():
            here.rename(there)
        elif there.exists():
            shutil.rmtree(there)
        else:
            here.mkdir()
            (here / "a.png").write_bytes(png(100))
            (here / "b.png").write_bytes(png(200))


@pytest.fixture
def watched(folder: Path, index: Index, models: Any) -> Iterator[Library]:
    settle = Settle(settle_seconds=0.2, pause_seconds=0.05)
    pending = Pending(settle)
    watcher = Watcher(
        [(str(folder), "events")],
        FILTERS,
        pending,
        Recording(below=index.mappings.stream, failures=index.mappings.failure_signatures, recorded=index.recorded),
        index.mappings,
        brake=Brake(0.2, 100),
        rescan_seconds=1e6,
        poll_seconds=1e6,
        max_pending=10_000,
    )
    library = Library(folder, index, models, watcher, pending)
    for number in range(10):
        library.write(f"{number}.png", number)
    library.indexer.start()
    watcher.start()
    yield library
    library.verifier.stop()
    watcher.stop()
    library.indexer.stop()


def test_a_library_that_never_rests_has_no_difference(watched: Library) -> None:
    with Life(watched.folder) as life:
        for _ in range(4):
            report = watched.verify(deep=True)
            assert report.differences == ()
        assert life.rounds > 20
    report = watched.verify(deep=True)
    assert (report.differences, report.pending) == ((), 0)


def test_what_is_broken_is_told_and_mended_while_the_library_lives(watched: Library, kit: Any) -> None:
    kit.eventually(lambda: watched.territory.walked and not len(watched.pending))
    watched.redis.srem(watched.keys.paths(watched.id("1.png")), watched.raw("1.png"))
    watched.index.vectors.delete(watched.second.name, [watched.id("2.png")])
    watched.redis.sadd(watched.keys.intents, 12345)
    with Life(watched.folder):
        told = {one.kind for one in watched.verify().differences}
        assert told == {"mapping_broken", "vector_missing", "intent_left"}
        assert watched.verify(repair=True).differences == ()
    report = watched.verify(deep=True)
    assert (report.differences, report.pending) == ((), 0)
