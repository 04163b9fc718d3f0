"""Comparing an unchanged folder with the index (daemon.watch.reconcile, a real embedded Valkey), against a bare walk of it.

The bare walk is a recursive os.scandir with a stat for each file. The files are small and only their mapping is written: nothing
is encoded, and none is read.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from PIL import Image

from benchmarks.common import (
    Aim,
    addition,
    arguments,
    conclude,
    distinct,
    fill,
    jpeg,
    lease_of,
    median,
    places,
    table,
)
from daemon import config
from daemon.encode.images import EXTENSIONS
from daemon.index.embedded import EmbeddedValkey
from daemon.index.keys import Keys
from daemon.index.mappings import Mappings
from daemon.watch.filters import Filters
from daemon.watch.reconcile import Recording, Walk, compare

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILES_A_FOLDER = 500
APPLY = 1000
COLLECTION = "bench"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=10)
    settings = parser.parse_args()
    with places() as where:
        top = where.folder("photos")
        files = _write(top, settings.files)
        valkey = EmbeddedValkey(where.data("data"), where.runtime("data"))
        valkey.start()
        try:
            keys = Keys("default")
            with lease_of(valkey.url, keys) as lease:
                mappings = Mappings(valkey.url, keys, lease)
                _bind(mappings, files)
                seconds = _measure(top, mappings, settings.files, settings.rounds)
                mappings.close()
        finally:
            valkey.stop()
    rows = [
        (name, 1000 * median(values), 1e6 * median(values) / settings.files, 1000 * min(values))
        for name, values in seconds.items()
    ]
    table(
        f"{settings.files} unchanged files, {settings.rounds} rounds", ("", "median ms", "us a file", "best ms"), rows
    )
    ratio = median([full / bare for full, bare in zip(seconds["reconcile"], seconds["bare walk"], strict=True)])
    print(f"\nreconcile / bare walk: {ratio:.2f}")
    conclude("reconcile", settings, {"seconds": seconds, "ratio": ratio}, [Aim("reconcile / bare walk", ratio, 5)])


def _write(top: Path, count: int) -> list[Path]:
    contents = distinct([jpeg(Image.new("RGB", (8, 8)))])
    files: list[Path] = []
    while len(files) < count:
        folder = top / f"{len(files) // FILES_A_FOLDER:05}"
        folder.mkdir()
        files += fill(folder, contents, min(FILES_A_FOLDER, count - len(files)))
    return files


def _bind(mappings: Mappings, files: Sequence[Path]) -> None:
    mappings.establish()
    for start in range(0, len(files), APPLY):
        mappings.apply([addition(file) for file in files[start : start + APPLY]], [COLLECTION])


def _measure(top: Path, mappings: Mappings, count: int, rounds: int) -> dict[str, list[float]]:
    filters = Filters(config.Watch().ignore, EXTENSIONS)
    recording = Recording(below=mappings.stream, failures=mappings.failure_signatures, recorded=list)
    seconds: dict[str, list[float]] = {"bare walk": [], "reconcile": []}
    # The first round fills caches, and is not counted.
    for counted in [False] + [True] * rounds:
        begun = time.perf_counter()
        seen = _bare_walk(str(top))
        walked = time.perf_counter()
        found = compare(Walk(str(top), filters), recording, queue=lambda _: None)
        compared = time.perf_counter()
        if (seen, found.recorded, found.added, found.changed, found.missing) != (count, count, 0, 0, []):
            raise SystemExit("the folder changed meanwhile, or the comparison is wrong")
        if counted:
            seconds["bare walk"].append(walked - begun)
            seconds["reconcile"].append(compared - walked)
    return seconds


def _bare_walk(directory: str) -> int:
    """Take the stat of every file below a directory; return how many there are."""
    files = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                files += _bare_walk(entry.path)
            else:
                entry.stat(follow_symlinks=False)
                files += 1
    return files


if __name__ == "__main__":
    main()
