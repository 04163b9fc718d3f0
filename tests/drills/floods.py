"""Floods: more changes at once than a kernel queue holds, a large folder renamed, a large import."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from tests.drills.installation import DAEMON, DrillError, Installation, wait_for
from tests.drills.oracle import listed_paths
from tests.drills.photos import photo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OVERFLOW_FILES = 30_000
"""Two events each: the kernel keeps 16,384 (fs.inotify.max_queued_events)."""
MOST_ENCODED = 100
RENAME_FILES = 10_000
RENAME_SECONDS = 5.0
IMPORT_FILES = 5_000
FILES_A_DIRECTORY = 100
LONG_SECONDS = 900.0


@dataclass(frozen=True)
class Flood:
    """A drill on a library of its own: what happens, and a sentence about it."""

    happens: Callable[[Installation, Random], str]

    def run(self, rounds: int, seed: int, cache: Path) -> bool:
        """Do the rounds, tell of each, and return whether nothing was lost and no ghost was seen."""
        lost = ghosts = 0
        for number in range(1, rounds + 1):
            installation = Installation(cache=cache)
            try:
                told = self.happens(installation, Random(f"{seed}/{number}"))
                found = installation.differences()
            except DrillError as error:
                installation.close()
                print(f"{error}\nkept: {installation.root}")
                return False
            print(f"round {number:4}  {told}  lost {len(found.lost)}, ghosts {len(found.ghosts) + len(found.strays)}")
            lost, ghosts = lost + len(found.lost), ghosts + len(found.ghosts) + len(found.strays)
            installation.remove()
        print(f"rounds {rounds}, lost {lost}, ghosts {ghosts} (--seed {seed})")
        return not lost and not ghosts


def overflow(installation: Installation, random: Random) -> str:
    """Freeze the daemon while more files are created than the kernel keeps events for."""
    installation.start()
    installation.await_in_step()
    daemon = installation.find(DAEMON)
    if daemon is None:
        raise DrillError("the daemon does not run")
    daemon.suspend()
    try:
        data = photo(random)
        for number in range(OVERFLOW_FILES):
            (installation.folder / f"{number}.jpg").write_bytes(data)
    finally:
        daemon.resume()
    started = time.monotonic()
    wait_for(lambda: _status(installation)["overflows"], "the overflow is noticed")
    installation.await_in_step(LONG_SECONDS)
    status = _status(installation)
    # Copies that arrive together are encoded together: by the time the first is known, a few batches are on their way.
    if status["files"] != OVERFLOW_FILES or status["encoded"] > MOST_ENCODED:
        raise DrillError(f"{status['files']} files and {status['encoded']} encoded")
    seconds = time.monotonic() - started
    return f"{OVERFLOW_FILES} files while it was frozen, {status['overflows']} overflows, in step after {seconds:.1f} s"


def rename(installation: Installation, random: Random) -> str:
    """Rename a folder of many photos in nested folders: nothing is encoded, and soon it is found under its new name."""
    data = photo(random)
    for path in _nested(installation.folder / "before", RENAME_FILES):
        path.write_bytes(data)
    installation.start()
    installation.await_in_step(LONG_SECONDS)
    encoded = _status(installation)["encoded"]
    started = time.monotonic()
    after = (installation.folder / "before").rename(installation.folder / "after")
    wait_for(lambda: _all_below(installation, after), "every photo is known under its new path alone", LONG_SECONDS)
    seconds = time.monotonic() - started
    installation.await_in_step()
    if seconds > RENAME_SECONDS:
        raise DrillError(f"a renamed folder of {RENAME_FILES} files took {seconds:.1f} s, not {RENAME_SECONDS:g}")
    if _status(installation)["encoded"] != encoded:
        raise DrillError("photos that moved were encoded")
    return f"a folder of {RENAME_FILES} files renamed, there after {seconds:.1f} s"


def copy_in(installation: Installation, random: Random) -> str:
    """Copy many photos, all of them different, into a library that is being watched."""
    contents = [photo(random) for _ in range(IMPORT_FILES)]
    installation.start()
    installation.await_in_step()
    started = time.monotonic()
    for path, data in zip(_nested(installation.folder / "import", IMPORT_FILES), contents, strict=True):
        path.write_bytes(data)
    copied = time.monotonic() - started
    installation.await_in_step(LONG_SECONDS)
    return f"{IMPORT_FILES} files copied in {copied:.1f} s, in step after {time.monotonic() - started:.1f} s"


def _nested(top: Path, count: int) -> Iterator[Path]:
    """Yield paths of files, a hundred in a directory that is there, ten of those in another."""
    for number in range(count):
        part = number // FILES_A_DIRECTORY
        path = top / f"{part // 10}" / f"{part % 10}" / f"{number}.jpg"
        if number % FILES_A_DIRECTORY == 0:
            path.parent.mkdir(parents=True)
        yield path


def _all_below(installation: Installation, directory: Path) -> bool:
    paths = listed_paths(installation.sockets)
    return len(paths) == RENAME_FILES and all(path.startswith(f"{directory}/") for path in paths)


def _status(installation: Installation) -> dict[str, Any]:
    status: dict[str, Any] = wait_for(installation.status, "the daemon answers")
    return status
