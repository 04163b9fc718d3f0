"""One photo never costs more than itself: whatever is raised while one is in hand, and what was in hand at a crash."""

from __future__ import annotations

import functools
import io
import logging
import os
import resource
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import pytest
from PIL import Image

from daemon import blame
from daemon import indexer as module
from daemon.beneath import Disk
from daemon.changes import Hint
from daemon.encode.images import decode
from daemon.errors import PhotoError, StoreRefused
from daemon.in_hand import InHand, Photo
from daemon.index.index import Index
from daemon.indexer import CRASHED_TWICE, Indexer
from daemon.reading import read_whole
from daemon.watch.pending import Pending
from daemon.watch.settle import Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from daemon.encode.images import Bytes
    from daemon.index.vectors import Row

SIDE = 8
DIM = SIDE * SIDE
GOOD = 30
STAGES = ("look", "read", "decode", "preprocess", "encode", "commit")


class PanicException(BaseException):
    """As libraries that are written in Rust raise one: no Exception."""


class Unspeakable(Exception):  # noqa: N818 - a library names its own
    """An exception that fails when it is asked for its text."""

    def __str__(self) -> str:
        raise ValueError


def turned_into_an_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.warn("Corrupt EXIF data", RuntimeWarning, stacklevel=1)


def error(raised: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise raised

    return fail


POISONS: list[Callable[[], None]] = [
    error(ValueError("two lines\nand a \0 in\x1b[31m them.")),
    error(KeyError("a")),
    error(MemoryError()),
    error(RecursionError("maximum recursion depth exceeded")),
    error(FileNotFoundError("a table of the codec")),
    error(OSError("cannot identify")),
    error(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")),
    error(Image.DecompressionBombError("Image size (200000000 pixels) exceeds limit")),
    error(StopIteration()),
    error(Unspeakable()),
    error(PanicException("called `Option::unwrap()` on a `None` value")),
    error(SystemExit(1)),
    error(RuntimeError("x" * 10_000)),
    error(StoreRefused("Milvus", "unix:/x", "refuses a call: no")),
    turned_into_an_error,
]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def good(seed: int) -> bytes:
    return png(Image.fromarray(np.random.default_rng(seed).integers(0, 250, (SIDE, SIDE, 3), dtype=np.uint8)))


def poison(number: int) -> bytes:
    return png(Image.new("RGB", (SIDE, SIDE), (255, number, 0)))


class Poisoned:
    """Everything a photo goes through, where a poison photo, by its name or its pixels, has `poisons[number]()` called at `stage`."""

    versions = ("one",)
    min_side = SIDE

    def __init__(self, stage: str, poisons: Sequence[Callable[[], None]] = POISONS) -> None:
        self.stage = stage
        self.poisons = poisons
        self.batches: list[int] = []
        self.is_mended = False
        self._ids = {int(blake3.blake3(poison(n)).hexdigest()[:16], 16) >> 1: n for n in range(len(poisons))}

    def touch(self, stage: str, number: int | None) -> None:
        if stage == self.stage and number is not None and not self.is_mended:
            self.poisons[number]()

    def touch_path(self, stage: str, path: str) -> None:
        name = os.path.basename(path)
        self.touch(stage, int(name[6:-4]) if name.startswith("poison") else None)

    def read_whole(self, path: str, max_bytes: int, disk: Disk) -> Any:
        self.touch_path("read", path)
        return read_whole(path, max_bytes, disk)

    def decode(self, data: Bytes, path: str, *, min_side: int) -> Any:
        self.touch_path("decode", path)
        return decode(data, path, min_side=min_side, max_pixels=10_000)

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        self.touch("preprocess", _number(np.asarray(image)))
        return np.asarray(image, np.float32)

    def encode(self, inputs: Sequence[NDArray[np.float32]]) -> Mapping[str, NDArray[np.float32]]:
        self.batches.append(len(inputs))
        for one in inputs:
            self.touch("encode", _number(one))
        rows = np.stack([one.mean(2).reshape(-1) + 1 for one in inputs])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return dict.fromkeys(self.versions, rows)

    def touch_rows(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.touch("commit", self._ids.get(row.id))


def _number(pixels: NDArray[Any]) -> int | None:
    return int(pixels[0, 0, 1]) if pixels[0, 0, 0] == 255 else None


class PoisonedVectors:
    """The vectors of a library, whose every upsert is looked at first."""

    def __init__(self, inner: Any, before: Callable[[Sequence[Row]], None]) -> None:
        self._inner = inner
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def upsert(self, collection: str, rows: Sequence[Row]) -> None:
        self._before(rows)
        self._inner.upsert(collection, rows)


class Territory:
    """One folder that holds .png files."""

    def __init__(self, folder: Path, before: Callable[[str, str], None]) -> None:
        self.folder = folder
        self.disk = Disk([str(folder)])
        self._before = before
        self.walked = True
        self.busy = False

    def admits(self, path: str, seen: dict[str, bool] | None = None) -> bool:  # noqa: ARG002 - as the watcher has it
        self._before("look", path)
        return path.startswith(f"{self.folder}/") and path.endswith(".png")

    def ignores(self, path: str) -> bool:  # noqa: ARG002
        return False

    def noticed(self, paths: Iterable[str]) -> None:
        pass

    def is_reachable(self, path: str) -> bool:  # noqa: ARG002
        return True

    def is_watched(self, path: str) -> bool:
        return path.startswith(f"{self.folder}/")

    def is_unverified(self, path: str) -> bool:  # noqa: ARG002
        return False

    def rescan_all(self, reason: str) -> None:
        pass


class Pipeline:
    """An indexer over one folder, and what a test does to it."""

    def __init__(
        self, folder: Path, library: Index, kit: Any, *encoders: Poisoned, in_hand: InHand | None = None
    ) -> None:
        poisoned = encoders[0]
        self.folder = folder
        vectors: Any = PoisonedVectors(library.vectors, poisoned.touch_rows)
        self.index = Index(library.mappings, vectors, library.collections)
        self.pending = Pending(Settle(0.0, 0.0))
        self._kit = kit
        self.indexer = Indexer(
            self.index,
            kit.loaded(list(encoders)),
            self.pending,
            Settle(0.0, 0.0),
            Territory(folder, poisoned.touch_path),
            threads=2,
            batch_photos=8,
            queue_bytes=10**6,
            max_file_bytes=10**6,
            decode=poisoned.decode,
            in_hand=in_hand,
        )

    def write(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def look(self, paths: Sequence[str], hint: Hint = Hint.FOUND, seconds: float = 60.0) -> None:
        self.pending.put_all(paths, hint)

        def idle() -> bool:
            self.indexer.check()
            return not len(self.pending) and not self.indexer.backfill.active

        self._kit.eventually(idle, seconds)

    def assert_in_step(self, good: Sequence[str], failed: Sequence[str] = ()) -> None:
        def digest(path: str) -> str:
            with open(path, "rb") as file:
                return str(blake3.blake3(file.read()).hexdigest())

        self._kit.assert_in_step(self.index, {path: digest(path) for path in good}, failed=failed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def library(stores: Any, kit: Any) -> Iterator[Index]:
    index: Index = stores.library(dim=DIM, models=("one",))
    yield index
    kit.drop(index)


@pytest.fixture
def make(folder: Path, library: Index, kit: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pipeline]]:
    made: list[Pipeline] = []

    def start(*encoders: Poisoned, index: Index = library, in_hand: InHand | None = None) -> Pipeline:
        # Of the seams, the only one that is no argument.
        monkeypatch.setattr(module, "read_whole", encoders[0].read_whole)
        made.append(Pipeline(folder, index, kit, *encoders, in_hand=in_hand))
        made[-1].indexer.start()
        return made[-1]

    yield start
    for pipeline in made:
        pipeline.indexer.stop()


def fill(pipeline: Pipeline, poisons: int) -> tuple[list[str], list[str]]:
    """Write good photos and poison ones, and return their paths."""
    return (
        [pipeline.write(f"{n}.png", good(n)) for n in range(GOOD)],
        [pipeline.write(f"poison{n}.png", poison(n)) for n in range(poisons)],
    )


@pytest.mark.parametrize("stage", STAGES)
def test_whatever_is_raised_at_any_stage_is_the_failure_of_one_photo(
    make: Callable[..., Pipeline], stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "daemon")
    poisoned = Poisoned(stage)
    pipeline = make(poisoned)
    well, bad = fill(pipeline, len(POISONS))
    pipeline.look([path for pair in zip(well, bad, strict=False) for path in pair] + well[len(bad) :])

    pipeline.assert_in_step(well, failed=bad)
    failures = pipeline.index.mappings.failures()
    if stage == "read":
        # Told of a file that is there, it is no error of lookaliked: some file systems list what they cannot open.
        assert failures.pop(bad[4]).kind == "unreadable"
    assert {failure.kind for failure in failures.values()} == {"internal"}
    for failure in failures.values():
        assert failure.reason.startswith("an internal error stopped lookaliked while it "), failure.reason
        assert failure.reason.isprintable()
        assert len(failure.reason) < 400
        told = [record for record in caplog.records if record.exc_info and getattr(record, "path", "") == failure.path]
        assert [record.levelno for record in told] == [logging.DEBUG]

    # They are tried again like others: not when a walk meets them, but when somebody asks for it.
    poisoned.is_mended = True
    pipeline.look(bad)
    pipeline.assert_in_step(well, failed=bad)
    pipeline.look(bad, Hint.CLOSED)
    pipeline.assert_in_step(well + bad)


def test_a_photo_that_is_known_stays_known_whatever_a_look_at_it_raises(make: Callable[..., Pipeline]) -> None:
    poisoned = Poisoned("look")
    poisoned.is_mended = True
    pipeline = make(poisoned)
    well, bad = fill(pipeline, 3)
    pipeline.look(well + bad)
    poisoned.is_mended = False
    pipeline.look(well + bad)
    pipeline.assert_in_step(well + bad)


def test_a_photo_whose_file_went_while_looking_at_it_failed_is_left_to_the_next_look(
    make: Callable[..., Pipeline], folder: Path
) -> None:
    gone = [*map(error, (ValueError(), FileNotFoundError(2, "none")))]

    def vanish(number: int) -> None:
        (folder / f"poison{number}.png").unlink(missing_ok=True)
        gone[number]()

    pipeline = make(Poisoned("look", [functools.partial(vanish, n) for n in range(2)]))
    well, bad = fill(pipeline, 2)
    pipeline.look(well + bad)
    pipeline.assert_in_step(well)


def test_what_one_model_raises_of_a_photo_takes_it_from_no_other(
    make: Callable[..., Pipeline], stores: Any, kit: Any
) -> None:
    index = stores.library(dim=DIM, models=("one", "two"))
    healthy, poisoned = Poisoned("none"), Poisoned("encode")
    poisoned.versions = ("two",)
    pipeline = make(healthy, poisoned, index=index)
    well, bad = fill(pipeline, len(POISONS))
    pipeline.look(well + bad)
    assert pipeline.index.mappings.failures() == {}
    first, second = index.collections
    assert index.vectors.count(first.name) == len(well + bad)
    assert index.vectors.count(second.name) == len(well)
    pipeline.indexer.stop()
    kit.drop(index)


@pytest.mark.parametrize(
    "raised", [RuntimeError("can't start new thread"), OSError(28, "No space left on device")], ids=["thread", "disk"]
)
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_no_photos_fault_delays_and_fails_nothing(
    make: Callable[..., Pipeline], stage: str, raised: BaseException
) -> None:
    poisoned = Poisoned(stage, [error(raised)])
    pipeline = make(poisoned)
    well, bad = fill(pipeline, 1)
    threading.Timer(0.5, setattr, (poisoned, "is_mended", True)).start()
    pipeline.look(well + bad)
    pipeline.assert_in_step(well + bad)


def test_a_store_that_refuses_everything_is_no_photos_fault(make: Callable[..., Pipeline], kit: Any) -> None:
    refusal = StoreRefused("Milvus", "unix:/x", "refuses the token")
    pipeline = make(Poisoned("commit", [error(refusal)]))

    def refuse() -> None:
        raise refusal

    pipeline.index.try_writing = refuse  # type: ignore[method-assign]
    well, bad = fill(pipeline, 1)
    pipeline.pending.put_all(bad, Hint.FOUND)

    def ends() -> bool:
        try:
            pipeline.indexer.check()
        except StoreRefused:
            return True
        return False

    kit.eventually(ends)
    assert pipeline.index.mappings.failures() == {}
    assert well


def test_stores_that_take_changes_take_one_of_nothing(library: Index) -> None:
    library.recover()
    library.try_writing()
    assert library.mappings.counts().photos == 0


def test_too_many_open_files_are_no_fault_of_the_one_that_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(good(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError) as raised:
            read_whole(str(file), 10**6, Disk([str(tmp_path)]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert blame.is_the_machines(raised.value)
    file.chmod(0)
    if os.geteuid():
        with pytest.raises(PhotoError):
            read_whole(str(file), 10**6, Disk([str(tmp_path)]))


# After a crash


def state(path: str) -> str:
    found = os.lstat(path)
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


def crash(data_dir: Path, *paths: str, stage: Any = "work") -> None:
    """Leave what a process leaves that ends with these photos in hand."""
    ended = InHand(data_dir)
    ended.begin()
    note = ended.noted(stage, [Photo(path, state(path) if stage == "work" else "") for path in paths])
    note.__enter__()
    # Never left: it is gone on with by nobody.
    KEPT.append(note)


KEPT: list[Any] = []


def test_what_was_in_hand_at_a_crash_is_tried_alone_and_nothing_is_blamed_for_one(
    make: Callable[..., Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALM_SECONDS", 0.2)
    encoder = Poisoned("none")
    first = make(encoder)
    well, others = fill(first, 4)
    first.indexer.stop()
    crash(tmp_path, *others)

    at_work = threading.Lock()
    alone: list[bool] = []
    encode = encoder.encode

    def encode_slowly(inputs: Sequence[NDArray[np.float32]]) -> Mapping[str, NDArray[np.float32]]:
        is_suspect = any(_number(one) is not None for one in inputs)
        is_alone = at_work.acquire(blocking=False)
        time.sleep(0.02)
        if is_suspect:
            alone.append(is_alone and len(inputs) == 1)
        if is_alone:
            at_work.release()
        return encode(inputs)

    encoder.encode = encode_slowly  # type: ignore[method-assign]
    in_hand = InHand(tmp_path)
    second = make(encoder, in_hand=in_hand)
    second.look(well + others)
    second.assert_in_step(well + others)
    assert alone == [True] * len(others)
    assert in_hand.suspects == {}


def test_a_photo_that_was_in_hand_at_two_crashes_is_a_failure_until_it_is_tried_again(
    make: Callable[..., Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALM_SECONDS", 0.0)
    first = make(Poisoned("none"))
    well, [bad, *innocent] = fill(first, 3)
    first.indexer.stop()
    crash(tmp_path, bad, *innocent)
    crash(tmp_path, bad)

    # The poison would raise, were it touched.
    poisoned = Poisoned("read", [error(AssertionError("it was tried")), *[lambda: None] * 2])
    second = make(poisoned, in_hand=InHand(tmp_path))
    # The walk of the start meets it, before and after it is recorded.
    second.look([*well, *innocent, bad])
    second.look([bad])
    second.assert_in_step(well + innocent, failed=[bad])
    failure = second.index.mappings.failure(bad)
    assert failure is not None
    assert (failure.reason, failure.kind, failure.attempts) == (CRASHED_TWICE, "internal", 1)

    poisoned.is_mended = True
    second.look([bad], Hint.CLOSED)
    second.assert_in_step([*well, *innocent, bad])


def test_another_file_at_the_path_of_one_that_crashed_is_not_blamed(
    make: Callable[..., Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALM_SECONDS", 0.0)
    first = make(Poisoned("none"))
    [path, *_], _ = fill(first, 0)
    first.indexer.stop()
    crash(tmp_path, path)
    crash(tmp_path, path)
    os.utime(path, ns=(1, 1))
    in_hand = InHand(tmp_path)
    second = make(Poisoned("none"), in_hand=in_hand)
    second.look([path])
    second.assert_in_step([path])
    assert in_hand.suspects == {}


def test_what_was_only_looked_at_is_looked_at_alone(
    make: Callable[..., Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALM_SECONDS", 0.0)
    first = make(Poisoned("none"))
    well, others = fill(first, 4)
    first.indexer.stop()
    crash(tmp_path, *well, *others, stage="look")
    in_hand = InHand(tmp_path)
    second = make(Poisoned("none"), in_hand=in_hand)
    second.look(well + others)
    second.assert_in_step(well + others)
    assert in_hand.suspects == {}


def test_a_suspect_that_is_gone_leaves_the_index(
    make: Callable[..., Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALM_SECONDS", 0.0)
    first = make(Poisoned("none"))
    well, others = fill(first, 2)
    first.look(well + others)
    first.indexer.stop()
    crash(tmp_path, *others)
    crash(tmp_path, others[0])
    for path in others:
        os.unlink(path)
    in_hand = InHand(tmp_path)
    second = make(Poisoned("none"), in_hand=in_hand)
    second.pending.put_all(others, Hint.GONE)
    second.look(well)
    second.assert_in_step(well)
    assert in_hand.suspects == {}
