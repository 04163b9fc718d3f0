"""The pipeline from a pending path to both stores: real files, real servers, the real model."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import pytest
from PIL import Image

from daemon import indexer as module
from daemon import paths, reading
from daemon.beneath import Disk
from daemon.changes import FileStat, Hint
from daemon.encode.encoder import Encoder
from daemon.encode.images import decode
from daemon.encode.models import Model, load_spec, prepare
from daemon.errors import ModelError, PhotoError, StoreRefused, StoreUnavailable
from daemon.index.index import Index
from daemon.index.mappings import Fail, Remove
from daemon.indexer import Indexer
from daemon.watch.filters import NO_MEDIA, Filters
from daemon.watch.pending import Pending
from daemon.watch.reconcile import Recording, Walk, compare
from daemon.watch.settle import Settle
from tests.unit.test_long_paths import deep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

MAX_FILE_BYTES = 1_000_000
WHITE = 255
DIM = 1280


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    spec = load_spec(paths.shipped("models") / "efficientnet-lite0.yaml")
    return prepare(spec, tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("pulled"))


@pytest.fixture(scope="module")
def encoder(model: Model) -> Encoder:
    return Encoder([model], threads=1)


@pytest.fixture(scope="module")
def other(model: Model) -> Encoder:
    """Another model, with a name and a collection of its own."""
    return Encoder([replace(model, spec=model.spec.model_copy(update={"name": "other"}))], threads=1)


class Wrapped:
    """The encoder, held back until `gate` opens; a white photo is more than it can bear. `seen` are the means of its inputs."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.seen: list[float] = []
        self.bears_white = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, inputs: Sequence[NDArray[np.float32]]) -> Mapping[str, NDArray[np.float32]]:
        self.waiting.set()
        assert self.gate.wait(60)
        if not self.bears_white and any(one.min() >= (WHITE - 127) / 128 for one in inputs):
            raise ModelError("efficientnet-lite0", "it saw white")
        self.seen += [float(one.mean()) for one in inputs]
        return self._encoder.encode(inputs)


class Territory:
    """One folder that holds .png files."""

    def __init__(self, folder: Path, pending: Pending, index: Index) -> None:
        self.folder = folder
        self.disk = Disk([str(folder)])
        self.pending = pending
        self.index = index
        self.reachable = True
        self.walked = True
        self.busy = False
        self.rescans = 0
        self.met: set[str] = set()
        self.excluded: set[str] = set()

    def admits(self, path: str, seen: dict[str, bool] | None = None) -> bool:  # noqa: ARG002 - as the watcher has it
        is_hidden = os.path.lexists(os.path.join(os.path.dirname(path), NO_MEDIA))
        return (
            path not in self.excluded and path.startswith(f"{self.folder}/") and path.endswith(".png") and not is_hidden
        )

    def ignores(self, path: str) -> bool:
        return not path.endswith(".png")

    def is_reachable(self, path: str) -> bool:  # noqa: ARG002
        return self.reachable

    def noticed(self, paths: Iterable[str]) -> None:
        self.met |= set(paths)

    def is_watched(self, path: str) -> bool:
        return path.startswith(f"{self.folder}/")

    def is_unverified(self, path: str) -> bool:  # noqa: ARG002
        return not self.reachable

    def walk(self, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Put what differs between the disk and the index into `pending`; `meanwhile` is called once the failures are read."""
        mappings = self.index.mappings

        def below(folder: str) -> Iterator[tuple[bytes, str]]:
            meanwhile()
            yield from mappings.stream(folder)

        found = compare(
            Walk(str(self.folder), Filters([], [".png"])),
            Recording(below=below, failures=mappings.failure_signatures, recorded=self.index.recorded),
            queue=lambda paths: self.pending.put_all(paths, Hint.FOUND),
        )
        self.pending.put_all(found.missing + found.mended, Hint.GONE)

    def rescan_all(self, reason: str) -> None:  # noqa: ARG002
        self.rescans += 1
        self.busy = True
        recorded = [os.fsdecode(path) for path, _ in self.index.mappings.stream(str(self.folder))]
        self.pending.put_all(map(str, self.folder.rglob("*.png")), Hint.FOUND)
        self.pending.put_all(recorded, Hint.GONE)
        self.busy = False


class Pipeline:
    """An indexer over one folder, and what a test does to it."""

    def __init__(self, folder: Path, index: Index, encoders: Sequence[Encoder], kit: Any, **options: int) -> None:
        self.calls: list[str] = []
        self.folder = folder
        self.index = Index(index.mappings, kit.recorded(index.vectors, self.calls.append), index.collections)
        self.encoders = [Wrapped(encoder) for encoder in encoders]
        self.encoder = self.encoders[0]
        settle = Settle(settle_seconds=0.05, pause_seconds=0.0)
        self.pending = Pending(settle)
        self.territory = Territory(folder, self.pending, index)
        self._kit = kit
        given: dict[str, Any] = {"threads": 2, "batch_photos": 4, "queue_bytes": 10**8} | options
        self.indexer = Indexer(
            self.index,
            kit.loaded(self.encoders),
            self.pending,
            settle,
            self.territory,
            max_file_bytes=MAX_FILE_BYTES,
            decode=functools.partial(decode, max_pixels=10**7),
            **given,
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def save(self, name: str, seed: int) -> str:
        return self.write(name, png(seed))

    def write(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return str(path)

    def look(self, *names: str, hint: Hint = Hint.CLOSED) -> None:
        """Have the paths looked at, and wait until that is done."""
        self.pending.put_all([self.path(name) for name in names], hint)
        self.wait()

    def wait(self) -> None:
        def idle() -> bool:
            self.indexer.check()
            return not len(self.pending) and not self.indexer.backfill.active

        self._kit.eventually(idle)

    def milvus_writes(self) -> list[str]:
        return [call for call in self.calls if call in ("upsert", "delete")]

    def assert_like_disk(self, *, failed: Sequence[str] = ()) -> None:
        bad = [self.path(name) for name in failed]
        found = [str(path) for path in self.folder.rglob("*.png") if path.is_file() and not path.is_symlink()]
        good = {path: blake3.blake3(Path(path).read_bytes()).hexdigest() for path in found if path not in bad}
        self._kit.assert_in_step(self.index, good, failed=bad)

    def failed_once(self, count: int) -> list[str]:
        """Return paths of as many failures whose files have gone since: each makes a change."""
        paths = [self.path(f"{n}.png") for n in range(count)]
        self.index.mappings.apply([Fail(path, "it is no image", "1 2 3 4") for path in paths], [])
        return paths

    def failure(self, name: str) -> Any:
        return self.index.mappings.failure(self.path(name))


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 250, (8, 8, 3), dtype=np.uint8)
    return plain(Image.fromarray(pixels).resize((64, 64)))


def flat(shade: int) -> bytes:
    """Return an image of one shade, as many bytes as any other."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (shade,) * 3).save(buffer, "BMP")
    return buffer.getvalue()


def plain(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def make(folder: Path, encoder: Encoder, other: Encoder, kit: Any) -> Iterator[Callable[..., Pipeline]]:
    made: list[Pipeline] = []

    def start(index: Index, *, held: bool = False, **options: int) -> Pipeline:
        named = {one.versions[0]: one for one in (encoder, other)}
        encoders = [named[collection.version] for collection in index.collections]
        made.append(Pipeline(folder, index, encoders, kit, **options))
        if held:
            made[-1].encoders[-1].gate.clear()
        made[-1].indexer.start()
        return made[-1]

    yield start
    for pipeline in made:
        for one in pipeline.encoders:
            one.gate.set()
        pipeline.indexer.stop()
    assert [
        one.name for one in threading.enumerate() if one.name.startswith(("look", "load", "encode", "commit"))
    ] == []


@pytest.fixture
def library(stores: Any, encoder: Encoder, kit: Any) -> Iterator[Index]:
    index: Index = stores.library(dim=DIM, models=encoder.versions)
    yield index
    kit.drop(index)


@pytest.fixture
def pipeline(library: Index, make: Callable[..., Pipeline]) -> Pipeline:
    return make(library)


def encoded_by(pipeline: Pipeline, work: Callable[[], None]) -> tuple[int, list[str]]:
    """Return how many photos were encoded meanwhile, and what was written into Milvus."""
    before, writes = pipeline.encoder.encoded, len(pipeline.milvus_writes())
    work()
    return pipeline.encoder.encoded - before, pipeline.milvus_writes()[writes:]


UNTOUCHED = (0, list[str]())


def note_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the paths that are read from now on."""
    paths: list[str] = []
    read = reading.read_whole

    def noted(path: str, max_bytes: int, disk: Disk) -> Any:
        paths.append(path)
        return read(path, max_bytes, disk)

    monkeypatch.setattr(module, "read_whole", noted)
    return paths


# Several models


@pytest.fixture
def of_two(stores: Any, encoder: Encoder, other: Encoder, kit: Any) -> Iterator[Index]:
    index: Index = stores.library(dim=DIM, models=encoder.versions + other.versions)
    yield index
    kit.drop(index)


def encoded_by_each(pipeline: Pipeline, work: Callable[[], object]) -> tuple[int, ...]:
    """Return how many photos each model encoded meanwhile."""
    before = [one.encoded for one in pipeline.encoders]
    work()
    return tuple(one.encoded - count for one, count in zip(pipeline.encoders, before, strict=True))


def drop_collection(index: Index, number: int) -> None:
    collection = index.collections[number]
    with index.vectors._milvus() as client:
        client.drop_alias(collection.alias, timeout=10)
        client.drop_collection(collection.name, timeout=10)


def test_a_new_photo_is_encoded_once_by_every_model(of_two: Index, make: Callable[..., Pipeline]) -> None:
    pipeline = make(of_two)
    pipeline.save("a.png", 1)
    assert encoded_by_each(pipeline, lambda: pipeline.look("a.png")) == (1, 1)
    pipeline.assert_like_disk()


@pytest.mark.parametrize("dropped", [0, 1])
@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it does not"])
def test_a_dropped_collection_is_encoded_again_and_no_other(
    of_two: Index, make: Callable[..., Pipeline], kit: Any, dropped: int, *, running: bool
) -> None:
    pipeline = make(of_two)
    names = [f"{n}.png" for n in range(6)]
    for n, name in enumerate(names):
        pipeline.save(name, n)
    pipeline.look(*names)

    def lost_and_mended() -> None:
        if not running:
            pipeline.indexer.stop()
        drop_collection(of_two, dropped)
        last = pipeline if running else make(of_two)
        kit.eventually(lambda: last.territory.rescans or not running)
        last.wait()

    counts = encoded_by_each(pipeline, lost_and_mended)
    assert counts == tuple(len(names) if number == dropped else 0 for number in range(2))
    pipeline.assert_like_disk()


def test_an_emptied_redis_costs_no_model_a_photo(of_two: Index, make: Callable[..., Pipeline], kit: Any) -> None:
    pipeline = make(of_two)
    names = [f"{n}.png" for n in range(6)]
    for n, name in enumerate(names):
        pipeline.save(name, n)
    pipeline.look(*names)

    def emptied_and_filled() -> None:
        kit.empty(of_two)
        kit.eventually(lambda: of_two.mappings.counts().files == len(names))
        pipeline.wait()

    assert encoded_by_each(pipeline, emptied_and_filled) == (0, 0)
    pipeline.assert_like_disk()


def test_an_emptied_redis_and_a_dropped_collection_cost_that_model_alone(
    of_two: Index, make: Callable[..., Pipeline], kit: Any
) -> None:
    pipeline = make(of_two)
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    pipeline.indexer.stop()
    kit.empty(of_two)
    drop_collection(of_two, 1)
    again = make(of_two)
    assert encoded_by_each(again, lambda: again.look("a.png", hint=Hint.FOUND)) == (0, 1)
    again.assert_like_disk()


def test_a_model_that_joins_encodes_what_is_there_and_the_others_do_not(
    of_two: Index, make: Callable[..., Pipeline]
) -> None:
    alone = make(Index(of_two.mappings, of_two.vectors, of_two.collections[:1]))
    names = [f"{n}.png" for n in range(4)]
    for n, name in enumerate(names):
        alone.save(name, n)
    alone.look(*names)
    alone.indexer.stop()
    before = alone.encoder.encoded
    both = make(of_two)
    both.wait()
    both.assert_like_disk()
    assert both.encoder.encoded == before
    assert of_two.vectors.count(of_two.collections[1].name) == len(names)


@pytest.fixture
def joining(of_two: Index, make: Callable[..., Pipeline]) -> Callable[..., Pipeline]:
    """A function that lets a first model index what is there, and a second one join, held back until its gate opens."""

    def join(*names: str, **options: int) -> Pipeline:
        alone = make(Index(of_two.mappings, of_two.vectors, of_two.collections[:1]))
        alone.encoder.bears_white = True
        alone.look(*names)
        alone.indexer.stop()
        both = make(of_two, held=True, **options)
        assert both.encoders[1].waiting.wait(30)
        return both

    return join


def test_what_happens_now_goes_before_what_a_new_model_lacks(
    pipeline: Pipeline, joining: Callable[..., Pipeline]
) -> None:
    names = [f"{n}.png" for n in range(40)]
    for n, name in enumerate(names):
        pipeline.save(name, n)
    both = joining(*names, threads=1, batch_photos=1, queue_bytes=1)
    both.write("light.png", flat(250))
    both.pending.put(both.path("light.png"), Hint.CLOSED)
    both.encoders[1].gate.set()
    both.wait()
    both.assert_like_disk()
    seen = both.encoders[1].seen
    assert len(seen) == len(names) + 1
    assert max(seen) in seen[:6]


def test_the_library_is_in_use_while_a_model_that_joined_is_being_filled(
    pipeline: Pipeline, joining: Callable[..., Pipeline]
) -> None:
    names = [f"{n}.png" for n in range(12)]
    for n, name in enumerate(names):
        pipeline.save(name, n)
    before = pipeline.encoder.encoded
    both = joining(*names)
    assert both.indexer.backfill.active
    assert both.indexer.backfill.fills(both.index.collections[1].name)
    assert not both.indexer.backfill.fills(both.index.collections[0].name)
    os.unlink(both.path("3.png"))
    os.rename(both.path("4.png"), both.path("moved.png"))
    both.pending.put_all([both.path(name) for name in ("3.png", "4.png", "moved.png")], Hint.CLOSED)
    both.encoders[1].gate.set()
    both.wait()
    assert not both.indexer.backfill.active
    assert both.encoder.encoded - before == len(names)
    both.assert_like_disk()


def test_what_is_missing_when_a_model_joins_is_for_a_walk_to_judge(
    pipeline: Pipeline, joining: Callable[..., Pipeline]
) -> None:
    pipeline.save("a.png", 1)
    pipeline.save("b.png", 2)
    both = joining("a.png", "b.png")
    os.unlink(both.path("a.png"))
    both.encoders[1].gate.set()
    both.pending.put(both.path("a.png"), Hint.FOUND)
    both.wait()
    assert both.index.mappings.files([both.path("a.png")])[0] is not None
    both.look("a.png", hint=Hint.GONE)
    both.assert_like_disk()


def test_a_folder_that_is_no_longer_watched_loses_nothing_to_a_model_that_joins(
    pipeline: Pipeline, joining: Callable[..., Pipeline], folder: Path
) -> None:
    path = pipeline.save("a.png", 1)
    both = joining("a.png")
    both.territory.folder = folder / "elsewhere"
    both.encoders[1].gate.set()
    both.wait()
    both.look("a.png", hint=Hint.FOUND)
    assert both.index.mappings.files([path])[0] is not None


def test_a_photo_that_cannot_be_read_for_a_new_model_stays_with_the_others(
    of_two: Index, make: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make(Index(of_two.mappings, of_two.vectors, of_two.collections[:1]))
    path = alone.save("a.png", 1)
    alone.look("a.png")
    alone.indexer.stop()

    def failing(path: str, *_: object) -> None:
        raise PhotoError(path, "it cannot be read: input/output error")

    monkeypatch.setattr(module, "read_whole", failing)
    both = make(of_two)
    both.wait()
    assert both.index.mappings.files([path])[0] is not None
    assert both.index.vectors.count(of_two.collections[0].name) == 1
    assert both.failure("a.png") is None


def test_copies_are_encoded_once_for_a_new_model(pipeline: Pipeline, joining: Callable[..., Pipeline]) -> None:
    names = [f"{n}.png" for n in range(8)]
    for name in names:
        pipeline.save(name, 1)
    both = joining(*names)
    both.encoders[1].gate.set()
    both.wait()
    both.assert_like_disk()
    assert len(both.encoders[1].seen) == 1


def test_a_new_photo_that_one_model_cannot_encode_is_in_the_index_of_the_others(
    of_two: Index, make: Callable[..., Pipeline]
) -> None:
    both = make(of_two)
    both.encoder.bears_white = True
    both.write("white.png", flat(WHITE))
    both.save("a.png", 1)
    both.look("white.png", "a.png")
    first, second = both.index.collections
    assert (both.index.vectors.count(first.name), both.index.vectors.count(second.name)) == (2, 1)
    assert both.failure("white.png") is None
    assert both.indexer.encoded == 2


def test_a_photo_that_a_new_model_cannot_encode_stays_with_the_others(
    pipeline: Pipeline, joining: Callable[..., Pipeline]
) -> None:
    pipeline.write("white.png", flat(WHITE))
    pipeline.save("a.png", 1)
    both = joining("white.png", "a.png")
    both.encoders[1].gate.set()
    both.wait()
    first, second = both.index.collections
    assert (both.index.vectors.count(first.name), both.index.vectors.count(second.name)) == (2, 1)
    assert both.index.mappings.files([both.path("white.png")])[0] is not None
    assert not both.indexer.backfill.active


# One path


@pytest.mark.parametrize("hint", [Hint.CLOSED, Hint.CREATED, Hint.FOUND])
def test_a_new_photo_is_indexed_whatever_raised_the_change(pipeline: Pipeline, hint: Hint) -> None:
    pipeline.save("a.png", 1)
    pipeline.look("a.png", hint=hint)
    pipeline.assert_like_disk()
    assert (pipeline.indexer.lag_seconds is None) == (hint is Hint.FOUND)


def test_a_file_that_did_not_change_is_left_alone(pipeline: Pipeline) -> None:
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    committed = pipeline.indexer.committed
    assert encoded_by(pipeline, lambda: pipeline.look("a.png")) == UNTOUCHED
    assert pipeline.indexer.committed == committed


def test_a_changed_photo_takes_the_place_of_the_old_one(pipeline: Pipeline) -> None:
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    pipeline.save("a.png", 2)
    pipeline.look("a.png")
    pipeline.assert_like_disk()


def test_a_touched_photo_is_not_encoded_again(pipeline: Pipeline) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    os.utime(path, ns=(1, 1))
    assert encoded_by(pipeline, lambda: pipeline.look("a.png")) == UNTOUCHED
    pipeline.assert_like_disk()
    record = pipeline.index.mappings.files([path])[0]
    assert record is not None
    assert record.stat.mtime_ns == 1


def test_a_photo_saved_anew_with_the_same_content_is_not_encoded_again(pipeline: Pipeline) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    Path(pipeline.save("new.tmp", 1)).replace(path)
    assert encoded_by(pipeline, lambda: pipeline.look("a.png")) == UNTOUCHED
    pipeline.assert_like_disk()


@pytest.mark.parametrize("closed", ["before", "after"])
def test_a_photo_overwritten_in_place_is_noticed_though_its_size_and_mtime_were_put_back(
    pipeline: Pipeline, closed: str
) -> None:
    path = pipeline.write("a.png", flat(1))
    pipeline.look("a.png")
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.write(flat(2))
        file.flush()
        if closed == "after":
            os.utime(file.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FileStat.of(os.stat(path)) == FileStat.of(before)
    pipeline.look("a.png")
    pipeline.assert_like_disk()


def test_a_photo_that_a_folder_brought_along_is_not_read_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    # Events of a renamed folder tell of each file in it, whose own ctime is as it was.
    monkeypatch.setattr(module, "REWRITTEN_SECONDS", -60.0)
    read = note_reads(monkeypatch)
    pipeline.look("a.png")
    assert read == []


def test_a_photo_whose_mode_changed_is_not_read_again(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    os.chmod(path, 0o600)
    read = note_reads(monkeypatch)
    assert encoded_by(pipeline, lambda: pipeline.look("a.png", hint=Hint.CREATED)) == UNTOUCHED
    assert read == []


@pytest.mark.parametrize("link", [False, True], ids=["copied", "hard-linked"])
def test_a_second_file_of_a_photo_is_bound_to_it(pipeline: Pipeline, *, link: bool) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    if link:
        os.link(path, pipeline.path("b.png"))
    else:
        pipeline.save("b.png", 1)
    assert encoded_by(pipeline, lambda: pipeline.look("b.png")) == UNTOUCHED
    pipeline.assert_like_disk()


def test_what_is_written_through_one_name_of_a_file_is_seen_under_the_others(pipeline: Pipeline, kit: Any) -> None:
    path = pipeline.save("a.png", 1)
    os.link(path, pipeline.path("b.png"))
    pipeline.look("a.png", "b.png")
    for content, failed in ((png(2), ()), (b"no photo", ("a.png", "b.png")), (png(3), ())):
        Path(path).write_bytes(content)
        pipeline.look("a.png")
        kit.eventually(lambda: not len(pipeline.pending))
        pipeline.assert_like_disk(failed=failed)


def test_two_new_files_with_the_same_content_are_one_photo(pipeline: Pipeline) -> None:
    for name in ("a.png", "b.png", "c.png"):
        pipeline.save(name, 1)
    pipeline.look("a.png", "b.png", "c.png")
    pipeline.assert_like_disk()
    assert pipeline.index.mappings.counts().photos == 1


def excluding(pipeline: Pipeline, *names: str) -> Callable[[], None]:
    """Have files excluded, as a marker would; returns what takes the marker away."""
    paths = {pipeline.path(name) for name in names}
    pipeline.territory.excluded |= paths

    def end() -> None:
        pipeline.territory.excluded -= paths

    return end


def test_an_excluded_photo_leaves_the_index_and_comes_back_without_being_encoded(pipeline: Pipeline, kit: Any) -> None:
    for number, name in enumerate(("a.png", "b.png")):
        pipeline.save(name, number)
    pipeline.look("a.png", "b.png")
    record = pipeline.index.mappings.files([pipeline.path("a.png")])[0]
    end = excluding(pipeline, "a.png")
    assert encoded_by(pipeline, lambda: pipeline.look("a.png", hint=Hint.GONE)) == UNTOUCHED
    b = {pipeline.path("b.png"): blake3.blake3(png(1)).hexdigest()}
    kit.assert_in_step(pipeline.index, b, aside=[record.photo])  # type: ignore[union-attr]
    end()
    assert encoded_by(pipeline, lambda: pipeline.look("a.png", hint=Hint.FOUND)) == UNTOUCHED
    pipeline.assert_like_disk()


def test_an_excluded_photo_that_is_back_after_its_time_is_encoded(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, kit: Any
) -> None:
    monkeypatch.setattr(module, "ASIDE_SECONDS", 0.0)
    monkeypatch.setattr(module, "ASIDE_TEND_SECONDS", 0.1)
    monkeypatch.setattr(module, "TEND_SECONDS", 0.05)
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    end = excluding(pipeline, "a.png")
    pipeline.look("a.png", hint=Hint.GONE)
    kit.eventually(lambda: not pipeline.index.mappings.aside())
    kit.assert_in_step(pipeline.index, {})
    end()
    assert encoded_by(pipeline, lambda: pipeline.look("a.png", hint=Hint.FOUND)) == (1, ["upsert"])
    pipeline.assert_like_disk()


def test_a_photo_whose_name_is_excluded_goes_though_its_disk_is_away(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, kit: Any
) -> None:
    path = Path(pipeline.save("a.png", 1))
    pipeline.look("a.png")
    path.unlink()
    pipeline.territory.reachable = False
    pipeline.look("a.png", hint=Hint.GONE)
    record = pipeline.index.mappings.files([str(path)])[0]
    assert record is not None
    monkeypatch.setattr(pipeline.territory, "ignores", lambda _: True)
    pipeline.look("a.png", hint=Hint.GONE)
    kit.assert_in_step(pipeline.index, {}, aside=[record.photo])


@pytest.mark.parametrize("order", [("new.png", "a.png"), ("a.png", "new.png")])
def test_a_moved_photo_is_bound_without_being_read(
    pipeline: Pipeline, order: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    os.rename(path, pipeline.path("new.png"))
    read = note_reads(monkeypatch)
    assert encoded_by(pipeline, lambda: pipeline.look(*order)) == UNTOUCHED
    assert read == []
    pipeline.assert_like_disk()


def test_a_moved_photo_that_lacks_its_vector_is_encoded(pipeline: Pipeline) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    record = pipeline.index.mappings.files([path])[0]
    assert record is not None
    pipeline.index.mappings.set_encoded(pipeline.index.collections[0].name, absent=[record.photo])
    os.rename(path, pipeline.path("b.png"))
    pipeline.look("b.png", "a.png")
    pipeline.assert_like_disk()


def test_photos_that_swap_their_names_are_not_encoded_again(pipeline: Pipeline) -> None:
    first, second = pipeline.save("a.png", 1), pipeline.save("b.png", 2)
    pipeline.look("a.png", "b.png")
    os.rename(first, first + "~")
    os.rename(second, first)
    os.rename(first + "~", second)
    assert encoded_by(pipeline, lambda: pipeline.look("a.png", "b.png")) == UNTOUCHED
    pipeline.assert_like_disk()


def test_a_renamed_folder_encodes_nothing(pipeline: Pipeline) -> None:
    names = [f"{n}.png" for n in range(20)]
    for n, name in enumerate(names):
        pipeline.save(f"old/{name}", n)
    pipeline.look(*(f"old/{name}" for name in names), hint=Hint.FOUND)
    os.rename(pipeline.path("old"), pipeline.path("new"))

    def look() -> None:
        pipeline.pending.put_all([pipeline.path(f"old/{name}") for name in names], Hint.GONE)
        pipeline.look(*(f"new/{name}" for name in names), hint=Hint.FOUND)

    assert encoded_by(pipeline, look) == UNTOUCHED
    pipeline.assert_like_disk()


def test_a_deleted_photo_is_gone(pipeline: Pipeline) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    os.unlink(path)
    pipeline.look("a.png", hint=Hint.GONE)
    pipeline.assert_like_disk()


def test_a_photo_whose_disk_went_away_is_kept(pipeline: Pipeline) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    pipeline.territory.reachable = False
    os.rename(path, path + "~")
    pipeline.look("a.png", hint=Hint.GONE)
    os.rename(path + "~", path)
    pipeline.assert_like_disk()


def test_a_disk_that_goes_away_between_look_and_reading_costs_no_photo(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    first = Path(path).read_bytes()
    read = reading.read_whole

    def unmounted(path: str, limit: int, disk: Disk) -> Any:
        pipeline.territory.reachable = False
        os.rename(path, path + "~")
        monkeypatch.setattr(module, "read_whole", read)
        return read(path, limit, disk)

    monkeypatch.setattr(module, "read_whole", unmounted)
    pipeline.save("a.png", 2)
    pipeline.look("a.png")
    Path(path).write_bytes(first)
    pipeline.assert_like_disk()


def open_files() -> list[str]:
    """Return what the descriptors of this process lead to, those that a thread closes meanwhile left out."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return found


@pytest.mark.parametrize("kind", ["directory", "link", "dangling link", "pipe"])
@pytest.mark.parametrize("late", [False, True], ids=["before the look", "after the look"])
def test_what_is_no_file_any_more_is_no_photo_and_no_failure(
    pipeline: Pipeline, kind: str, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    path = pipeline.save("a.png", 1)
    pipeline.save("b.png", 2)
    pipeline.look("a.png", "b.png")

    def become() -> None:
        os.unlink(path)
        if kind == "directory":
            os.mkdir(path)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            os.symlink(pipeline.path("b.png") if kind == "link" else "nowhere", path)

    if late:
        pipeline.save("a.png", 3)
        read = reading.read_whole

        def replaced(path: str, limit: int, disk: Disk) -> Any:
            become()
            monkeypatch.setattr(module, "read_whole", read)
            return read(path, limit, disk)

        monkeypatch.setattr(module, "read_whole", replaced)
    else:
        become()
    pipeline.look("a.png")
    pipeline.assert_like_disk()
    assert not [target for target in open_files() if target.startswith(path)]


def test_a_path_below_what_became_a_file_is_gone(pipeline: Pipeline) -> None:
    path = pipeline.save("d/a.png", 1)
    pipeline.look("d/a.png")
    os.unlink(path)
    os.rmdir(pipeline.path("d"))
    pipeline.write("d", b"")
    pipeline.look("d/a.png")
    pipeline.assert_like_disk()


def test_a_path_that_the_folder_does_not_admit_is_taken_out(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    excluding(pipeline, "a.png")
    pipeline.look("a.png")
    # Its vectors stay for a while, under its number alone.
    (photo,) = pipeline.index.mappings.aside()
    pipeline._kit.assert_in_step(pipeline.index, {}, aside=[photo])


# What cannot be indexed


def test_a_bad_file_is_a_failure_and_its_earlier_photo_is_gone(pipeline: Pipeline) -> None:
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    pipeline.write("a.png", png(2)[:200])
    pipeline.look("a.png")
    pipeline.assert_like_disk(failed=["a.png"])
    first = pipeline.failure("a.png")
    assert first.attempts == 1
    pipeline.look("a.png")
    again = pipeline.failure("a.png")
    assert (again.attempts, again.since, again.reason) == (2, first.since, first.reason)
    pipeline.save("a.png", 2)
    pipeline.look("a.png")
    pipeline.assert_like_disk()


def test_a_bad_file_that_is_deleted_is_no_failure_any_more(pipeline: Pipeline) -> None:
    path = pipeline.write("a.png", b"no image")
    pipeline.look("a.png")
    pipeline.assert_like_disk(failed=["a.png"])
    os.unlink(path)
    pipeline.look("a.png", hint=Hint.GONE)
    pipeline.assert_like_disk()


def test_a_photo_whose_path_no_system_call_takes_is_a_failure_that_goes_with_its_tree(pipeline: Pipeline) -> None:
    path = deep(pipeline.folder, 21, "a.png")
    name = os.path.relpath(path, pipeline.folder)
    for attempts in (1, 2):
        pipeline.look(name, hint=Hint.FOUND)
        failure = pipeline.failure(name)
        assert (failure.reason, failure.kind, failure.attempts) == (
            "its path is longer than the 4,095 bytes that the system takes",
            "unreadable",
            attempts,
        )
    for entry in os.listdir(pipeline.folder):
        shutil.rmtree(pipeline.folder / entry)
    pipeline.look(name, hint=Hint.GONE)
    assert pipeline.failure(name) is None


def test_a_file_that_is_too_large_is_not_read(pipeline: Pipeline) -> None:
    pipeline.write("a.png", bytes(MAX_FILE_BYTES + 1))
    pipeline.look("a.png")
    assert "1,000,001 bytes, more than limits.max_file_bytes (1,000,000)" in pipeline.failure("a.png").reason


def test_a_file_that_may_not_be_read_is_a_failure(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(disk: Disk, path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(reading, "open_itself", refuse)
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    assert pipeline.failure("a.png").reason == "it cannot be read: permission denied"
    pipeline.assert_like_disk(failed=["a.png"])


def test_a_file_that_changes_while_it_is_read_is_read_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pipeline.save("a.png", 1)
    calls = itertools.count()
    stat = os.fstat

    def change(descriptor: int) -> os.stat_result:
        found = stat(descriptor)
        if os.readlink(f"/proc/self/fd/{descriptor}") == path and next(calls) == 0:
            Path(path).write_bytes(png(2))
        return found

    monkeypatch.setattr("daemon.indexer.os.fstat", change)
    pipeline.look("a.png")
    monkeypatch.undo()
    pipeline.assert_like_disk()
    assert next(calls) >= 3


def test_a_file_that_is_still_being_written_is_waited_for(pipeline: Pipeline) -> None:
    path = pipeline.write("a.png", png(1)[:100])
    pipeline.pending.put(path, Hint.CREATED)
    time.sleep(0.02)
    Path(path).write_bytes(png(1))
    pipeline.wait()
    pipeline.assert_like_disk()


def overwrite(path: Path) -> None:
    path.write_bytes(png(2))


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("b.png"))


def become_a_folder_and_a_photo_again(path: Path) -> None:
    become_a_folder(path)
    path.rmdir()
    path.write_bytes(png(3))


def spoil(path: Path) -> None:
    path.write_bytes(b"no image")


def move(path: Path) -> None:
    path.rename(path.with_name("b.png"))


CHANGES = [overwrite, Path.unlink, become_a_folder, become_a_link, become_a_folder_and_a_photo_again, spoil, move]


@pytest.mark.parametrize("known", [True, False], ids=["of another content before", "new"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_happens_to_a_photo_while_it_is_encoded_is_what_the_index_says(
    pipeline: Pipeline, change: Callable[[Path], None], *, known: bool
) -> None:
    if known:
        pipeline.save("a.png", 0)
        pipeline.look("a.png")
    path = Path(pipeline.save("a.png", 1))
    pipeline.encoder.waiting.clear()
    pipeline.encoder.gate.clear()
    pipeline.pending.put(str(path), Hint.CLOSED)
    assert pipeline.encoder.waiting.wait(30)
    change(path)
    pipeline.pending.put(str(path), Hint.CLOSED if path.exists() else Hint.GONE)
    pipeline.pending.put(pipeline.path("b.png"), Hint.CLOSED)
    pipeline.encoder.gate.set()
    pipeline.wait()
    pipeline.assert_like_disk(failed=["a.png"] if change is spoil else [])


@pytest.mark.parametrize("change", CHANGES)
def test_what_happened_to_a_photo_while_it_was_encoded_is_found_by_the_next_walk_when_no_event_told(
    pipeline: Pipeline, change: Callable[[Path], None]
) -> None:
    path = Path(pipeline.save("a.png", 1))
    pipeline.encoder.gate.clear()
    pipeline.pending.put(str(path), Hint.CLOSED)
    assert pipeline.encoder.waiting.wait(30)
    change(path)
    pipeline.encoder.gate.set()
    pipeline.wait()
    pipeline.territory.walk()
    pipeline.wait()
    pipeline.assert_like_disk(failed=["a.png"] if change is spoil else [])


class Way:
    """The commit of a pipeline, held back: changes that it is asked for are on their way until they are `released`."""

    def __init__(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held, self.released, self._commit = threading.Event(), threading.Event(), pipeline.index.commit
        monkeypatch.setattr(pipeline.index, "commit", self._hold)

    def _hold(self, changes: Any) -> list[bool]:
        self.held.set()
        assert self.released.wait(30)
        return self._commit(changes)


def hide(path: Path) -> None:
    """Ask that the directory of a photo is left alone."""
    (path.parent / NO_MEDIA).touch()


@pytest.mark.parametrize("content", [png(1), b"no image"], ids=["a photo", "a failure"])
@pytest.mark.parametrize("change", [Path.unlink, become_a_folder, become_a_link, hide])
def test_a_file_that_goes_while_its_record_is_on_its_way_is_gone_though_a_walk_came_too_early_and_no_event_told(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], content: bytes
) -> None:
    pipeline.save("d/b.png", 2)
    pipeline.look("d/b.png", hint=Hint.FOUND)
    path, way = Path(pipeline.write("d/a.png", content)), Way(pipeline, monkeypatch)
    pipeline.pending.put(str(path), Hint.FOUND)
    assert way.held.wait(30)
    change(path)
    pipeline.territory.walk()
    moment = time.monotonic()
    way.released.set()
    pipeline._kit.eventually(lambda: not pipeline.pending.older_than(moment))
    assert pipeline.index.mappings.files([str(path)]) == [None]
    assert pipeline.failure("d/a.png") is None


def test_a_photo_that_becomes_a_failure_between_the_two_readings_of_a_walk_and_has_gone_before_is_no_failure(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.save("b.png", 2)
    path = Path(pipeline.save("a.png", 1))
    pipeline.look("a.png", "b.png")
    committed, way = pipeline.indexer.committed, Way(pipeline, monkeypatch)
    path.write_bytes(b"no image")
    pipeline.pending.put(str(path), Hint.CLOSED)
    assert way.held.wait(30)
    path.unlink()

    def commit() -> None:
        way.released.set()
        pipeline._kit.eventually(lambda: pipeline.indexer.committed > committed)

    pipeline.territory.walk(meanwhile=commit)
    pipeline.wait()
    pipeline.assert_like_disk()


def test_a_photo_that_comes_back_while_its_removal_is_on_its_way_is_found_though_a_walk_came_too_early(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, aside = Path(pipeline.save("a.png", 1)), pipeline.folder.parent / "aside"
    pipeline.look("a.png")
    way = Way(pipeline, monkeypatch)
    path.rename(aside)
    pipeline.pending.put(str(path), Hint.GONE)
    assert way.held.wait(30)
    aside.rename(path)
    pipeline.territory.walk()
    moment = time.monotonic()
    way.released.set()
    pipeline._kit.eventually(lambda: not pipeline.pending.older_than(moment))
    pipeline.assert_like_disk()


def test_a_photo_that_is_put_back_while_its_successor_is_on_its_way_is_found_though_a_walk_came_too_early(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, aside = Path(pipeline.save("a.png", 1)), pipeline.folder.parent / "aside"
    pipeline.look("a.png")
    way = Way(pipeline, monkeypatch)
    path.rename(aside)
    pipeline.save("a.png", 2)
    pipeline.pending.put(str(path), Hint.CLOSED)
    assert way.held.wait(30)
    aside.rename(path)
    pipeline.territory.walk()
    moment = time.monotonic()
    way.released.set()
    pipeline._kit.eventually(lambda: not pipeline.pending.older_than(moment))
    pipeline.assert_like_disk()


def test_a_photo_whose_disk_goes_while_its_record_is_on_its_way_is_for_a_walk_to_judge(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, way = Path(pipeline.save("a.png", 1)), Way(pipeline, monkeypatch)
    pipeline.pending.put(str(path), Hint.CLOSED)
    assert way.held.wait(30)
    path.unlink()
    pipeline.territory.reachable = False
    way.released.set()
    pipeline.wait()
    assert pipeline.index.mappings.files([str(path)]) != [None]


def test_the_old_path_of_a_moved_photo_is_pending_for_as_long_as_its_move(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Path(pipeline.save("a.png", 1)), Path(pipeline.path("b.png"))
    pipeline.look("a.png")
    way = Way(pipeline, monkeypatch)
    old.rename(new)
    pipeline.pending.put(str(new), Hint.CLOSED)
    assert way.held.wait(30)
    new.rename(old)
    pipeline.territory.walk()
    moment = time.monotonic()
    way.released.set()
    pipeline._kit.eventually(lambda: not pipeline.pending.older_than(moment))
    pipeline.assert_like_disk()


def test_a_photo_that_is_back_under_its_old_name_before_its_move_was_written_down_is_kept(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Path(pipeline.save("a.png", 1)), Path(pipeline.path("b.png"))
    pipeline.look("a.png")
    way = Way(pipeline, monkeypatch)
    old.rename(new)
    pipeline.pending.put(str(new), Hint.CLOSED)
    assert way.held.wait(30)
    new.rename(old)
    pipeline.pending.put(str(old), Hint.CLOSED)
    pipeline._kit.eventually(lambda: len(pipeline.pending) == 1)
    pipeline.pending.put(str(new), Hint.GONE)
    way.released.set()
    pipeline.wait()
    pipeline.assert_like_disk()


def test_a_copy_whose_photo_went_away_meanwhile_is_pending_since_it_changed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    path, commit = pipeline.save("b.png", 1), pipeline.index.commit
    calls, again, released = itertools.count(), threading.Event(), threading.Event()

    def refuse_once(changes: Any) -> list[bool]:
        if next(calls) == 0:
            return [False] * len(changes)
        again.set()
        assert released.wait(30)
        return commit(changes)

    monkeypatch.setattr(pipeline.index, "commit", refuse_once)
    pipeline.pending.put(path, Hint.CLOSED)
    moment = time.monotonic()
    assert again.wait(30)
    assert pipeline.pending.older_than(moment) == 1
    released.set()
    pipeline.wait()
    pipeline.assert_like_disk()


def test_paths_of_which_nothing_is_known_cost_no_change(pipeline: Pipeline) -> None:
    pipeline.look(*(f"{n}.png" for n in range(20)), hint=Hint.GONE)
    assert pipeline.indexer.committed == 0


def test_content_whose_id_is_that_of_another_photo_is_a_failure(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("daemon.changes.photo_id", "daemon.indexer.photo_id"):
        monkeypatch.setattr(place, lambda _: 42)
    first = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    pipeline.save("b.png", 2)
    pipeline.look("b.png")
    assert "id is that of another photo" in pipeline.failure("b.png").reason
    assert pipeline.index.mappings.photos([42])[0][1] == [first]


def test_a_photo_that_the_model_refuses_costs_no_other(library: Index, make: Callable[..., Pipeline]) -> None:
    pipeline = make(library, threads=1, batch_photos=8)
    pipeline.encoder.gate.clear()
    for n in range(5):
        pipeline.save(f"{n}.png", n)
    pipeline.write("white.png", plain(Image.new("RGB", (64, 64), (WHITE,) * 3)))
    pipeline.pending.put_all([pipeline.path(f"{n}.png") for n in range(5)] + [pipeline.path("white.png")], Hint.FOUND)
    pipeline.encoder.gate.set()
    pipeline.wait()
    pipeline.assert_like_disk(failed=["white.png"])
    assert "it saw white" in pipeline.failure("white.png").reason


# Order


def test_live_work_goes_before_the_bulk(library: Index, make: Callable[..., Pipeline]) -> None:
    pipeline = make(library, threads=1, batch_photos=1, queue_bytes=1)
    pipeline.encoder.gate.clear()
    for n in range(20):
        pipeline.write(f"{n}.png", plain(Image.new("RGB", (64, 64), (n, n, n))))
    pipeline.pending.put_all([pipeline.path(f"{n}.png") for n in range(20)], Hint.FOUND)
    assert pipeline.encoder.waiting.wait(30)
    pipeline.write("live.png", plain(Image.new("RGB", (64, 64), (200, 200, 200))))
    pipeline.pending.put(pipeline.path("live.png"), Hint.CLOSED)
    pipeline._kit.eventually(lambda: any(task.lane == 0 for task in list(pipeline.indexer._to_load.queue)))
    pipeline.encoder.gate.set()
    pipeline.wait()
    # At most what was loaded and encoded when it came is before it: one in each thread's hand, and two between them.
    assert max(pipeline.encoder.seen) in pipeline.encoder.seen[:5]


def test_a_deletion_overtakes_a_long_import(library: Index, make: Callable[..., Pipeline]) -> None:
    pipeline = make(library, threads=1, batch_photos=1, queue_bytes=1)
    path = pipeline.save("old.png", 99)
    pipeline.look("old.png")
    pipeline.encoder.waiting.clear()
    pipeline.encoder.gate.clear()
    for n in range(30):
        pipeline.save(f"{n}.png", n)
    pipeline.pending.put_all([pipeline.path(f"{n}.png") for n in range(30)], Hint.FOUND)
    assert pipeline.encoder.waiting.wait(30)
    os.unlink(path)
    pipeline.pending.put(path, Hint.GONE)
    pipeline._kit.eventually(lambda: pipeline.index.mappings.files([path]) == [None])
    pipeline._kit.eventually(lambda: len(pipeline.pending) == 30)
    pipeline.encoder.gate.set()
    pipeline.wait()
    pipeline.assert_like_disk()


# Ends and beginnings


def test_stopping_in_the_middle_is_prompt_and_the_next_start_goes_on(
    library: Index, make: Callable[..., Pipeline], kit: Any
) -> None:
    pipeline = make(library)
    names = [f"{n}.png" for n in range(60)]
    for n, name in enumerate(names):
        pipeline.save(name, n)
    pipeline.pending.put_all(map(pipeline.path, names), Hint.FOUND)
    kit.eventually(lambda: pipeline.indexer.committed >= 3)
    before = time.monotonic()
    pipeline.indexer.stop()
    assert time.monotonic() - before < 10
    recorded = [os.fsdecode(path) for path, _ in library.mappings.stream("/")]
    assert len(recorded) >= 3
    kit.assert_in_step(library, {path: blake3.blake3(Path(path).read_bytes()).hexdigest() for path in recorded})

    again = make(library)
    assert encoded_by(again, lambda: again.look(*names, hint=Hint.FOUND))[0] == len(names) - len(recorded)
    again.assert_like_disk()


def test_an_idle_indexer_stops_at_once(pipeline: Pipeline) -> None:
    pipeline.save("a.png", 1)
    pipeline.look("a.png")
    before = time.monotonic()
    pipeline.indexer.stop()
    assert time.monotonic() - before < 1.8


def test_one_that_was_never_started_can_be_stopped(folder: Path, library: Index, encoder: Encoder, kit: Any) -> None:
    Pipeline(folder, library, [encoder], kit).indexer.stop()


def test_a_start_encodes_what_is_owed_and_collects_what_nobody_holds(
    library: Index, make: Callable[..., Pipeline], kit: Any
) -> None:
    first = make(library)
    first.save("a.png", 1)
    first.save("b.png", 2)
    path = first.save("c.png", 3)
    first.look("a.png", "b.png", "c.png")
    first.indexer.stop()
    name = library.collections[0].name
    owed, other, ghost = (
        record.photo for record in library.mappings.files([first.path("a.png"), first.path("b.png"), path]) if record
    )
    # As many lost as left over would not be noticed: only their numbers are compared.
    library.vectors.delete(name, [owed, other])
    os.unlink(path)
    library.mappings.apply([Remove(path)], [])
    library.mappings._redis.srem(library.mappings.keys.intents, ghost)
    library.mappings.forget([ghost], [name])

    second = make(library)
    second.wait()
    kit.eventually(lambda: not second.indexer.collects)
    second.assert_like_disk()
    assert second.encoder.seen != []


def test_what_a_store_refuses_ends_the_indexer_even_with_its_queues_full(
    library: Index, make: Callable[..., Pipeline], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before it starts: the thread that looks asks for a batch, and then waits.
    monkeypatch.setattr(module, "LOOK_BATCH", 100)
    pipeline = make(library)

    def refuse(changes: Any) -> Any:
        raise StoreRefused("Milvus", "unix:/x", "refuses a call: no")

    gone = pipeline.failed_once(600)
    monkeypatch.setattr(pipeline.index, "commit", refuse)
    monkeypatch.setattr(pipeline.indexer._to_commit, "maxsize", 4)
    pipeline.pending.put_all(gone, Hint.GONE)
    kit.eventually(lambda: not pipeline.indexer._look_worker.alive)
    with pytest.raises(StoreRefused):
        pipeline.indexer.check()
    pipeline.indexer.stop()


# Outages


@pytest.fixture
def own_library(own_stores: Any, encoder: Encoder) -> Iterator[Index]:
    index: Index = own_stores.library(dim=DIM, models=encoder.versions, timeout=2.0)
    yield index
    index.stop()


@pytest.mark.parametrize("store", ["valkey", "milvus"])
def test_an_outage_of_a_store_delays_and_loses_nothing(
    own_stores: Any, own_library: Index, make: Callable[..., Pipeline], kit: Any, store: str
) -> None:
    pipeline = make(own_library)
    server = getattr(own_stores, store)
    for n in range(6):
        pipeline.save(f"{n}.png", n)
    pipeline.look(*(f"{n}.png" for n in range(6)))
    server.stop()
    pipeline.save("0.png", 100)
    pipeline.save("new.png", 101)
    os.rename(pipeline.path("1.png"), pipeline.path("moved.png"))
    os.unlink(pipeline.path("2.png"))
    changed = ["0.png", "new.png", "moved.png", "1.png", "2.png"]
    before = pipeline.encoder.encoded
    pipeline.pending.put_all(map(pipeline.path, changed), Hint.CLOSED)
    kit.eventually(lambda: pipeline.indexer.outage.reason)
    assert len(pipeline.pending) > 0
    assert pipeline.indexer.outage.store == {"valkey": "Redis", "milvus": "Milvus"}[store]
    server.start()
    kit.eventually(lambda: not pipeline.indexer.outage.reason and pipeline.territory.rescans, 60)
    pipeline.wait()
    pipeline.assert_like_disk()
    assert pipeline.encoder.encoded - before == 2
    assert pipeline.indexer.outage.count == 1


def test_a_start_while_a_store_is_away_waits_for_it(
    own_stores: Any, own_library: Index, make: Callable[..., Pipeline], kit: Any
) -> None:
    own_stores.milvus.stop()
    pipeline = make(own_library)
    pipeline.pending.put(pipeline.save("a.png", 1), Hint.FOUND)
    kit.eventually(lambda: pipeline.indexer.outage.reason)
    own_stores.milvus.start()
    kit.eventually(lambda: not pipeline.indexer.outage.reason)
    pipeline.wait()
    pipeline.assert_like_disk()


def test_an_emptied_redis_is_filled_again_without_encoding(
    own_library: Index, make: Callable[..., Pipeline], kit: Any
) -> None:
    pipeline = make(own_library)
    names = [f"{n}.png" for n in range(8)]
    for n, name in enumerate(names):
        pipeline.save(name, n)
    pipeline.look(*names)

    def empty() -> None:
        kit.empty(own_library)
        kit.eventually(lambda: own_library.mappings.counts().files == len(names))
        pipeline.wait()

    assert encoded_by(pipeline, empty) == UNTOUCHED
    pipeline.assert_like_disk()


def test_a_milvus_that_was_restarted_unnoticed_is_loaded_again(
    own_stores: Any, own_library: Index, make: Callable[..., Pipeline], kit: Any
) -> None:
    pipeline = make(own_library)
    path = pipeline.save("a.png", 1)
    pipeline.look("a.png")
    record = own_library.mappings.files([path])[0]
    assert record is not None
    own_stores.milvus.stop()
    own_stores.milvus.start()

    def found() -> bool:
        try:
            return own_library.vectors.get(own_library.collections[0].name, record.photo) is not None
        except StoreUnavailable:
            return False

    kit.eventually(found)


def test_stopping_during_an_outage_does_not_wait_for_its_end(
    own_stores: Any, own_library: Index, make: Callable[..., Pipeline], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make(own_library)
    gone = pipeline.failed_once(600)
    monkeypatch.setattr(pipeline.indexer._to_commit, "maxsize", 1)
    own_stores.milvus.stop()
    pipeline.pending.put(pipeline.save("a.png", 1), Hint.CLOSED)
    kit.eventually(lambda: pipeline.indexer.outage.reason)
    pipeline.pending.put_all(gone, Hint.GONE)
    kit.eventually(pipeline.indexer._to_commit.full)
    before = time.monotonic()
    pipeline.indexer.stop()
    assert time.monotonic() - before < 8
