"""Whole folders that are renamed, moved in and out, under the real watcher: thousands of photos, and no model asked."""

from __future__ import annotations

import functools
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import pytest

from daemon.changes import FileStat, PhotoInfo
from daemon.encode.images import decode
from daemon.index.index import Encoded, Index
from daemon.index.mappings import Add
from daemon.indexer import Indexer
from daemon.watch.brake import Brake
from daemon.watch.filters import Filters
from daemon.watch.pending import Pending
from daemon.watch.reconcile import Recording, Walk
from daemon.watch.settle import Settle
from daemon.watch.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PHOTOS = 10_000
A_FOLDER = 250
COMMIT = 1000
MODEL = "one"
FEW = 60
WITHIN_SECONDS = 15.0
"""How much processor time a renamed folder may take: whatever else the machine does, that is what the work costs.

It is up to date within 5 s on a machine of its own (benchmarks/rename.py)."""
FILTERS = Filters([".*"], [".jpg"])


class Unasked:
    """A model that nobody may ask: every vector is there."""

    versions = (MODEL,)
    min_side = 8

    def preprocess(self, _: Any) -> NDArray[np.float32]:
        raise AssertionError("a photo was to be encoded")

    def encode(self, _: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        raise AssertionError("a photo was to be encoded")


class Life:
    """One life of a daemon over a folder, its stores apart."""

    def __init__(self, folder: Path, index: Index, kit: Any) -> None:
        self.calls: list[str] = []
        watched = Index(index.mappings, kit.recorded(index.vectors, self.calls.append), index.collections)
        settle = Settle(settle_seconds=2.0, pause_seconds=0.1)
        self.pending = Pending(settle)
        self.watcher = Watcher(
            [(str(folder), "events")],
            FILTERS,
            self.pending,
            Recording(below=index.mappings.stream, failures=index.mappings.failure_signatures, recorded=index.recorded),
            index.mappings,
            brake=Brake(ratio=0.2, count=20),
            rescan_seconds=3600.0,
            poll_seconds=5.0,
            max_pending=50_000,
        )
        self.indexer = Indexer(
            watched,
            kit.loaded([Unasked()]),
            self.pending,
            settle,
            self.watcher,
            threads=2,
            batch_photos=8,
            queue_bytes=10**7,
            max_file_bytes=10**6,
            decode=functools.partial(decode, max_pixels=10**6),
        )

    def start(self) -> None:
        self.indexer.start()
        self.watcher.start()

    def stop(self) -> None:
        self.watcher.stop()
        self.indexer.stop()

    @property
    def idle(self) -> bool:
        self.indexer.check()
        self.watcher.check()
        return self.watcher.walked and not self.watcher.busy and not len(self.pending)


def write(top: Path, count: int) -> list[Path]:
    """Write `count` photos of different content, some hundred to a folder, the folders two deep."""
    files: list[Path] = []
    while len(files) < count:
        folder = top / f"year {len(files) // (8 * A_FOLDER)}" / f"day {len(files) // A_FOLDER}"
        folder.mkdir(parents=True)
        for _ in range(min(A_FOLDER, count - len(files))):
            files.append(folder / f"{len(files):06}.jpg")
            files[-1].write_bytes(b"photo %d" % len(files))
    return files


def known(index: Index, files: Sequence[Path]) -> None:
    """Have the files in both stores as if they had been encoded."""
    for start in range(0, len(files), COMMIT):
        index.commit([addition(file, start + n) for n, file in enumerate(files[start : start + COMMIT])])


def addition(file: Path, number: int) -> Encoded:
    digest = blake3.blake3(file.read_bytes()).hexdigest()
    info = PhotoInfo(digest, 8, 8, "JPEG", "", file.stat().st_size)
    vector = np.random.default_rng(number).normal(size=8).astype(np.float32)
    return Encoded(Add(str(file), FileStat.of(file.stat()), info), {MODEL: vector / np.linalg.norm(vector)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def library(stores: Any, kit: Any) -> Iterator[Index]:
    index: Index = stores.library(models=(MODEL,))
    index.recover()
    yield index
    kit.drop(index)


@pytest.fixture
def begin(folder: Path, library: Index, kit: Any) -> Iterator[Callable[[], Life]]:
    lives: list[Life] = []

    def start() -> Life:
        lives.append(Life(folder, library, kit))
        lives[-1].start()
        return lives[-1]

    yield start
    for life in lives:
        life.stop()
    assert [one.name for one in threading.enumerate() if one.name in ("look", "commit", "reconcile")] == []


def in_step(index: Index, folder: Path) -> bool:
    """Whether the mapping holds exactly the photos of the folder, each as a stat describes it."""
    return dict(index.mappings.stream(str(folder))) == dict(Walk(str(folder), FILTERS))


def follow(life: Life, index: Index, folder: Path, kit: Any) -> float:
    """Wait until the mapping equals the disk and nothing is left to be done; return the seconds of processor time the former took."""
    begun = time.process_time()
    kit.eventually(lambda: in_step(index, folder), 60.0)
    seconds = time.process_time() - begun
    kit.eventually(lambda: life.idle, 60.0)
    assert in_step(index, folder)
    return seconds


def writes(calls: Sequence[str]) -> list[str]:
    return [call for call in calls if call in ("upsert", "delete")]


def test_a_renamed_folder_of_ten_thousand_photos_is_followed_while_it_is_watched(
    folder: Path, library: Index, begin: Callable[[], Life], kit: Any
) -> None:
    known(library, write(folder / "old", PHOTOS))
    life = begin()
    kit.eventually(lambda: life.idle)
    os.rename(folder / "old", folder / "new")
    assert follow(life, library, folder, kit) < WITHIN_SECONDS
    assert writes(life.calls) == []


def test_a_folder_renamed_while_nobody_looked_is_followed_by_the_next_start(
    folder: Path, library: Index, begin: Callable[[], Life], kit: Any
) -> None:
    known(library, write(folder / "old", PHOTOS))
    os.rename(folder / "old", folder / "new")
    life = begin()
    assert follow(life, library, folder, kit) < WITHIN_SECONDS
    assert writes(life.calls) == []


def rename_each(files: Sequence[Path]) -> None:
    for file in files:
        file.rename(file.with_name(f"renamed {file.name}"))


def move_into_another(files: Sequence[Path]) -> None:
    other = files[0].parents[2] / "other"
    other.mkdir()
    for file in files:
        file.rename(other / file.name)


def copy(files: Sequence[Path]) -> None:
    shutil.copytree(files[0].parents[2], files[0].parents[3] / "copy")


def link(files: Sequence[Path]) -> None:
    for file in files:
        os.link(file, file.with_name(f"link to {file.name}"))


def touch(files: Sequence[Path]) -> None:
    for file in files:
        os.utime(file)


def change_mode(files: Sequence[Path]) -> None:
    for file in files:
        file.chmod(0o600)


def save_anew(files: Sequence[Path]) -> None:
    for file in files:
        fresh = file.with_suffix(".fresh")
        fresh.write_bytes(file.read_bytes())
        fresh.replace(file)


@pytest.mark.parametrize("running", [True, False], ids=["while it is watched", "while nobody looked"])
@pytest.mark.parametrize("act", [rename_each, move_into_another, copy, link, touch, change_mode, save_anew])
def test_what_leaves_the_content_alone_encodes_nothing_and_leaves_milvus_alone(
    folder: Path,
    library: Index,
    begin: Callable[[], Life],
    kit: Any,
    act: Callable[[Sequence[Path]], None],
    *,
    running: bool,
) -> None:
    files = write(folder / "some", FEW)
    known(library, files)
    if running:
        life = begin()
        kit.eventually(lambda: life.idle)
        act(files)
    else:
        act(files)
        life = begin()
    follow(life, library, folder, kit)
    assert writes(life.calls) == []
    assert library.mappings.counts().photos == FEW
