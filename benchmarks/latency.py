"""A saved photo until it is searchable, and a deleted one until it is gone: while the daemon is idle, and during imports.

There are two kinds of import: photos copied in while the daemon runs, which raise events as the measured ones do, and photos that
were there before and are found by its first walk.

Photos are written into the watched folder one after the other. The clock starts before the file is opened for writing, or before
it is unlinked; the daemon is asked through its socket, for this path in this state, until the answer changes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import (
    Aim,
    Daemon,
    arguments,
    conclude,
    distinct,
    fill,
    percentile,
    photo_sources,
    places,
    table,
    wait_for,
)
from cli.client import Query
from cli.errors import RefusedError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from cli.client import Client

POLL_SECONDS = 0.002
GIVE_UP_SECONDS = 60.0
COPIED_PHOTOS = 400
"""How many photos of an import are copied at a time, and how few of them may be left to do when the next ones follow."""
FEW_LEFT = 50
"""When fewer than these wait, what a walk found counts as done."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of JPEG photos; without one, crops of sample images")
    parser.add_argument("--files", type=int, default=50, help="photos saved and deleted in each part")
    parser.add_argument("--library", type=int, default=200, help="photos that are there before")
    parser.add_argument("--found", type=int, default=3000, help="photos that the walk finds")
    settings = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with places() as where:
        contents = distinct(photo_sources(settings.photos))
        folder = where.folder("photos")
        fill(folder, contents, settings.library)
        with Daemon(where, "data", folder) as daemon, daemon.client() as client:
            daemon.up_to_date()
            seconds |= _measure("idle", client, folder, contents, settings.files, lambda: True)
            copying = _Copying(folder, contents, client)
            seconds |= _measure("while photos are copied in", client, folder, contents, settings.files, copying)
        found = where.folder("found")
        fill(found, contents, settings.found)
        with Daemon(where, "data-found", found) as daemon, daemon.client() as client:
            wait_for(lambda: client.status().answer["pending"] > 0, "the first walk")
            many_left = lambda: client.status().answer["pending"] >= FEW_LEFT  # noqa: E731 - only here
            seconds |= _measure("while a walk's finds are indexed", client, found, contents, settings.files, many_left)
    measured = {name: _summary(values) for name, values in seconds.items() if values}
    table("seconds", ("", "photos", "p50", "p95", "max"), [(name, *line.values()) for name, line in measured.items()])
    aims = [Aim("saved -> searchable, idle, p50 seconds", measured["saved -> searchable, idle"]["p50"], 0.5)]
    conclude("latency", settings, measured, aims)


class _Copying:
    """Keeps an import going: copies photos into a folder of their own whenever few of the last are left."""

    def __init__(self, folder: Path, contents: Iterator[bytes], client: Client) -> None:
        self._folder = folder
        self._contents = contents
        self._client = client
        self._folders = 0

    def __call__(self) -> bool:
        while self._client.status().answer["pending"] < COPIED_PHOTOS:
            copied = self._folder / f"import-{self._folders}"
            self._folders += 1
            copied.mkdir()
            fill(copied, self._contents, COPIED_PHOTOS)
            # What was written raises events, which take a moment to be read.
            time.sleep(0.2)
        return True


def _measure(
    part: str, client: Client, folder: Path, contents: Iterator[bytes], files: int, goes_on: Callable[[], bool]
) -> dict[str, list[float]]:
    """Save and delete up to `files` photos, as long as what they are measured beside goes on; return the seconds."""
    saved, gone = [], []
    for number in range(files):
        if not goes_on():
            break
        path = folder / f"new-{number}.jpg"
        data = next(contents)
        begun = time.perf_counter()
        path.write_bytes(data)
        stat = path.stat()
        saved.append(_until(client, path, stat, begun, known=True))
        if not goes_on():
            break
        begun = time.perf_counter()
        path.unlink()
        gone.append(_until(client, path, stat, begun, known=False))
    return {f"saved -> searchable, {part}": saved, f"deleted -> gone, {part}": gone}


def _until(client: Client, path: Path, stat: os.stat_result, begun: float, *, known: bool) -> float:
    """Return the seconds from `begun` until the daemon's answer for the path says `known`."""
    while _is_known(client, path, stat) is not known:
        if time.perf_counter() - begun > GIVE_UP_SECONDS:
            raise SystemExit(f"{path.name} did not become {'searchable' if known else 'unknown'}")
        time.sleep(POLL_SECONDS)
    return time.perf_counter() - begun


def _is_known(client: Client, path: Path, stat: os.stat_result) -> bool:
    try:
        results = client.search_path(str(path), stat, Query(limit=1)).answer["results"]
    except RefusedError as error:
        if error.code != "not_in_library":
            raise
        return False
    return bool(results)


def _summary(values: list[float]) -> dict[str, float]:
    return {"photos": len(values), "p50": percentile(values, 50), "p95": percentile(values, 95), "max": max(values)}


if __name__ == "__main__":
    main()
