"""A folder is renamed: until the mapping has every photo under its new path, by a daemon that watches and by one that starts.

Against a bare walk of it, os.walk with an lstat for each file. The photos are a few bytes each and no image; their vectors are made
up, and both stores are filled through daemon.index: a photo that came to be encoded would be a failure.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import (
    LIBRARY,
    Aim,
    Daemon,
    addition,
    arguments,
    conclude,
    fill,
    index_of,
    insert,
    median,
    places,
    table,
    wait_for,
)
from daemon.errors import StoreUnavailable
from daemon.index.embedded import EmbeddedValkey
from daemon.index.index import Encoded
from daemon.index.keys import Keys
from daemon.index.mappings import Mappings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.common import Places

DATA = "data"
A_FOLDER = 250
A_YEAR = 8 * A_FOLDER
COMMIT = 256
LIMIT_SECONDS = 5.0


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    seconds: dict[str, list[float]] = {"bare walk": [], "while it is watched": [], "by the next start": []}
    with places() as where:
        top = where.folder("photos")
        _insert(where, _write(top / "0", settings.files))
        numbers = iter(range(2 * settings.rounds))
        mapping = Mappings(EmbeddedValkey(where.data(DATA), where.runtime(DATA)).url, Keys(LIBRARY))
        with Daemon(where, DATA, top) as daemon:
            daemon.up_to_date()
            for _ in range(settings.rounds):
                seconds["bare walk"].append(_bare_walk(top))
                moved = _rename(top, next(numbers))
                begun = time.perf_counter()
                _wait(mapping, top, moved, settings.files)
                seconds["while it is watched"].append(time.perf_counter() - begun)
                daemon.up_to_date()
        for _ in range(settings.rounds):
            moved = _rename(top, next(numbers))
            with Daemon(where, DATA, top) as daemon:
                begun = daemon.said(" answers at ")
                _wait(mapping, top, moved, settings.files)
                seconds["by the next start"].append(time.perf_counter() - begun)
                daemon.up_to_date()
        mapping.close()
    _tell(settings, seconds)


def _tell(settings: argparse.Namespace, seconds: dict[str, list[float]]) -> None:
    bare = median(seconds["bare walk"])
    rows = [(name, median(values), max(values), median(values) / bare) for name, values in seconds.items()]
    title = f"a folder of {settings.files:,} photos, {settings.rounds} rounds"
    table(title, ("", "median s", "worst s", "bare walks"), rows)
    aims = [Aim(f"worst {name}, s", max(seconds[name]), LIMIT_SECONDS) for name in list(seconds)[1:]]
    conclude("rename", settings, {"seconds": seconds}, aims)


def _write(top: Path, count: int) -> list[Path]:
    """Write `count` files, the folders two deep."""
    files: list[Path] = []
    while len(files) < count:
        folder = top / f"{len(files) // A_YEAR:03}" / f"{len(files) // A_FOLDER:05}"
        folder.mkdir(parents=True)
        contents = (number.to_bytes(8, "big") for number in range(len(files), count))
        files += fill(folder, contents, min(A_FOLDER, count - len(files)))
    return files


def _insert(where: Places, files: Sequence[Path]) -> None:
    with index_of(where, DATA) as index:
        index.recover()
        random, collection = np.random.default_rng(0), index.collections[0]
        for start in range(0, len(files), COMMIT):
            batch = files[start : start + COMMIT]
            vectors = random.standard_normal((len(batch), collection.dim), np.float32)
            insert(
                index,
                [
                    Encoded(addition(file), {collection.version: vector})
                    for file, vector in zip(batch, vectors, strict=True)
                ],
            )
        index.vectors.flush()


def _rename(top: Path, number: int) -> Path:
    """Give the folder its next name; return the new one."""
    return (top / str(number)).rename(top / str(number + 1))


def _wait(mapping: Mappings, top: Path, moved: Path, files: int) -> None:
    """Wait until the mapping has all the files, each at its new path, and nothing else."""

    def counted() -> tuple[int, int]:
        # A daemon that starts has not started its stores yet.
        with contextlib.suppress(StoreUnavailable):
            return mapping.count_below(str(moved)), mapping.count_below(str(top))
        return 0, 0

    wait_for(lambda: counted() == (files, files), "the mapping to follow the folder")
    if mapping.counts().failures:
        raise SystemExit("a photo was to be encoded")


def _bare_walk(top: Path) -> float:
    """Take the stat of every file below a folder; return the seconds that took."""
    begun = time.perf_counter()
    for directory, _, names in os.walk(top):
        for name in names:
            os.lstat(os.path.join(directory, name))
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
