"""A library over a folder of photos: real stores, the real watcher and the real pipeline, and a model that says when it is asked."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import pytest
from PIL import Image

from daemon.encode.images import decode
from daemon.indexer import Indexer
from daemon.transfer.exporter import Exporter
from daemon.transfer.frames import MAGIC, FrameReader, FrameWriter
from daemon.transfer.importer import Importer
from daemon.transfer.relocation import Relocation
from daemon.watch.brake import Brake
from daemon.watch.filters import Filters
from daemon.watch.pending import Pending
from daemon.watch.reconcile import Recording
from daemon.watch.settle import Settle
from daemon.watch.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from daemon.index.index import Index
    from daemon.transfer.frames import Frame
    from daemon.transfer.importer import Imported

FILTERS = Filters([".*"], [".png"])
DIM = 64


class Coarse:
    """A model: the picture in 64 numbers. `asked` counts the photos."""

    min_side = 8

    def __init__(self, version: str) -> None:
        self.versions = (version,)
        self.asked = 0

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        return np.asarray(image.convert("L").resize((8, 8)), np.float32)

    def encode(self, inputs: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        self.asked += len(inputs)
        return {self.versions[0]: np.stack([vector(one) for one in inputs])}


def vector(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = pixels.ravel() - pixels.mean()
    return np.asarray(flat / np.linalg.norm(flat), np.float32)


def png(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((32, 24)).save(buffer, "PNG")
    return buffer.getvalue()


class Library:
    """One index, and what goes on around it while `running()`."""

    def __init__(self, index: Index, folders: Sequence[Path], kit: Any) -> None:
        self.index, self.folders, self.kit = index, list(folders), kit
        self.models = [Coarse(one.version) for one in index.current]
        self._build()

    def _build(self) -> None:
        settle = Settle(settle_seconds=0.2, pause_seconds=0.05)
        self.pending = Pending(settle)
        self.watcher = Watcher(
            [(str(folder), "events") for folder in self.folders],
            FILTERS,
            self.pending,
            Recording(
                below=self.index.mappings.stream,
                failures=self.index.mappings.failure_signatures,
                recorded=self.index.recorded,
            ),
            self.index.mappings,
            brake=Brake(ratio=0.2, count=3),
            rescan_seconds=3600.0,
            poll_seconds=0.3,
            max_pending=50_000,
        )
        self.indexer = Indexer(
            self.index,
            self.kit.loaded(self.models),
            self.pending,
            settle,
            self.watcher,
            threads=2,
            batch_photos=8,
            queue_bytes=10**7,
            max_file_bytes=10**6,
            decode=functools.partial(decode, max_pixels=10**6),
        )

    @property
    def asked(self) -> int:
        """How many photos the models were asked for."""
        return sum(model.asked for model in self.models)

    def watch(self, *folders: Path) -> None:
        """Have the next life of the daemon watch these."""
        self.folders = list(folders)
        self._build()

    @contextmanager
    def running(self, *, importing: bool = False) -> Iterator[None]:
        """One life of a daemon; when it is `importing`, from before it sees a file until the end, then all that follows is done too."""
        self._build()
        try:
            self.indexer.start()
            with self.indexer.importing() if importing else nullcontext():
                self.watcher.start()
                yield
            if importing:
                self.settle()
        finally:
            self.watcher.stop()
            self.indexer.stop()

    def idle(self) -> bool:
        self.indexer.check()
        self.watcher.check()
        watcher = self.watcher
        return watcher.walked and not watcher.busy and not len(self.pending) and not self.indexer.backfill.active

    def settle(self) -> None:
        """Wait until everything has been compared with the disk, and what is of no use has been collected."""
        self.kit.eventually(lambda: self.idle() and not self.indexer.collects)

    def export(self, library: str = "test") -> bytes:
        return b"".join(Exporter(self.index, library).chunks(lambda: ""))

    def take(self, data: bytes | Iterable[bytes], moved: Sequence[tuple[Path, Path]] = ()) -> Imported:
        chunks = iter([data] if isinstance(data, bytes) else data)
        pairs = [(str(old), str(new)) for old, new in moved]
        return Importer(self.index, self.watcher, FILTERS, self.indexer).run(chunks, pairs)

    @property
    def relocation(self) -> Relocation:
        return Relocation(self.index, self.watcher, self.indexer)

    @property
    def paths(self) -> list[str]:
        """Every path of the index, in byte order."""
        return [os.fsdecode(path) for path, _ in self.index.mappings.stream("/")]

    def assert_equals_disk(self, *, failed: Iterable[Path] = ()) -> None:
        failures = {str(path) for path in failed}
        files = [path for folder in self.folders for path in folder.rglob("*.png") if str(path) not in failures]
        expected = {str(path): blake3.blake3(path.read_bytes()).hexdigest() for path in files}
        self.kit.assert_in_step(self.index, expected, failed=failures)


def a_library(stores: Any, kit: Any, here: Path) -> Iterator[Library]:
    write(here, range(12))
    (here / os.fsdecode(b"caf\xe9.png")).write_bytes(png(1))
    (here / "copy.png").write_bytes(png(2))
    index = stores.library(dim=DIM, models=("one", "two"))
    index.recover()
    one = Library(index, [here], kit)
    with one.running():
        kit.eventually(one.idle)
    one.assert_equals_disk()
    yield one
    kit.drop(index)


def a_fresh_one(stores: Any, kit: Any, there: Path) -> Iterator[Library]:
    index = stores.library(dim=DIM, models=("one", "two"))
    index.recover()
    yield Library(index, [there], kit)
    kit.drop(index)


@pytest.fixture
def library(stores: Any, kit: Any, tmp_path: Path) -> Iterator[Library]:
    """A library of twelve photos in fourteen files below `here`, and nothing under way."""
    yield from a_library(stores, kit, tmp_path / "here")


@pytest.fixture
def fresh(stores: Any, kit: Any, tmp_path: Path) -> Iterator[Library]:
    """Another machine's index, which knows nothing and watches `there`, where nothing is."""
    yield from a_fresh_one(stores, kit, tmp_path / "there")


@pytest.fixture(scope="module")
def standing(stores: Any, kit: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Such a library for all tests of a module, which leave it as it is."""
    yield from a_library(stores, kit, tmp_path_factory.mktemp("standing") / "here")


@pytest.fixture(scope="module")
def exported(standing: Library) -> bytes:
    """Its export."""
    return standing.export()


@pytest.fixture(scope="module")
def untouched(stores: Any, kit: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """An index which still knows no file when all tests of a module are done."""
    for one in a_fresh_one(stores, kit, tmp_path_factory.mktemp("untouched") / "there"):
        yield one
        assert one.paths == []
        assert one.index.mappings.counts().photos == 0


def write(folder: Path, seeds: Iterable[int]) -> list[Path]:
    (folder / "trip").mkdir(parents=True, exist_ok=True)
    files = [folder / "trip" / f"{seed:02}.png" for seed in seeds]
    for seed, file in zip(seeds, files, strict=True):
        file.write_bytes(png(seed))
    return files


def copied(source: Path, target: Path) -> Path:
    """Copy as another machine would have it: the same sizes and times, other inodes."""
    return shutil.copytree(source, target)


def frames_of(data: bytes) -> list[Frame]:
    return list(FrameReader(iter([data])))


def sealed(frames: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return an export of these frames, whose checksums are right whatever is in them."""
    writer = FrameWriter()
    return MAGIC + b"".join(writer.frame(kind, payload) for kind, payload in frames)


def altered(data: bytes, kind: bytes, change: Callable[[Any], Any]) -> bytes:
    """Return an export with the JSON of each frame of a kind changed."""
    return sealed(
        (one.kind, json.dumps(change(json.loads(one.payload))).encode() if one.kind == kind else one.payload)
        for one in frames_of(data)
    )
