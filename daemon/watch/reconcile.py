"""Compare what lies under a folder with what the index says, at the price of a stat per file."""

from __future__ import annotations

import collections
import enum
import os
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon import canonical, long_paths
from daemon.changes import signature
from daemon.watch.filters import NO_MEDIA
from daemon.watch.mounts import volume_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from daemon.watch.filters import Filters
    from daemon.watch.skipped import Skipped

    Described = tuple[bytes, str]
    """A file: its path, and "size mtime_ns inode"."""


CHUNK = 500
"""Paths queued at a time."""
REST_AFTER_SECONDS = 0.05


@dataclass(slots=True)
class Walk:
    """One walk through the photos below `top`, in byte order of their paths, so that it can be merged with the index's.

    `unreadable` fills with the directories whose content cannot be told: what is recorded below them is not missing.
    """

    top: str
    filters: Filters
    stopped: Callable[[], bool] = lambda: False
    """Asked at every entry; the walk ends early once it says so."""
    rest: Callable[[float], object] | None = None
    """Called now and then with the seconds that the walk has worked since."""
    barred: bool = False
    """No walk from further up would come to `top`: nothing is found."""
    skipped: Skipped | None = None
    """Takes the files that are no photos."""
    unreadable: list[bytes] = field(default_factory=list)
    marked: set[bytes] = field(default_factory=set)
    """Directories that a marker excludes; fills likewise."""
    directories: int = 0
    files: int = 0

    def __iter__(self) -> Iterator[Described]:
        """Yield each photo's path and "size mtime_ns inode"; OSError when `top` itself cannot be read."""
        pending = [] if self.barred else [self._entries(os.fsencode(self.top))]
        began = time.monotonic()
        while pending and not self.stopped():
            if self.rest and (worked := time.monotonic() - began) > REST_AFTER_SECONDS:
                self.rest(worked)
                began = time.monotonic()
            entry = next(pending[-1], None)
            if entry is None:
                pending.pop()
            elif entry.is_dir(follow_symlinks=False):
                try:
                    pending.append(self._entries(entry.path))
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError:
                    self.unreadable.append(entry.path)
            else:
                described = _signature(entry)
                if described:
                    self.files += 1
                    yield entry.path, described

    def covers(self, path: str) -> bool:
        """Whether `path` lies where this walk went."""
        return path.startswith(self.top.rstrip(os.sep) + os.sep) and not any(
            os.fsencode(path).startswith(directory + b"/") for directory in self.unreadable
        )

    def excludes(self, path: str) -> bool:
        """Whether a file below `top` is kept out of the index: by its path, or it is there and a marker is above it.

        Under a path that no walk gives, nothing is missing. A marker says nothing about a file that does not exist: another disk may have brought the marker.
        """
        relative = path[len(self.top) :].lstrip(os.sep)
        return (
            bool(canonical.fault(path))
            or not self.filters.admits(relative)
            or (bool(self.marked) and self._is_below_mark(os.fsencode(path)) and os.path.lexists(path))
        )

    def _is_below_mark(self, path: bytes) -> bool:
        top = os.fsencode(self.top)
        while len(path) > len(top):
            path = os.path.dirname(path)
            if path in self.marked:
                return True
        return False

    def _entries(self, directory: bytes) -> Iterator[os.DirEntry[bytes]]:
        self.directories += 1
        kept: list[tuple[bytes, os.DirEntry[bytes]]] = []
        others: list[os.DirEntry[bytes]] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                name = os.fsdecode(entry.name)
                if name == NO_MEDIA:
                    self.marked.add(directory)
                    return iter(())
                if entry.is_dir(follow_symlinks=False):
                    if not self.filters.ignores(name):
                        # As it stands in the paths below it: "a/" sorts behind "a.jpg".
                        kept.append((entry.name + b"/", entry))
                elif self.filters.is_photo(name) and not entry.is_symlink():
                    kept.append((entry.name, entry))
                elif self.skipped and entry.is_file(follow_symlinks=False) and not self.filters.ignores(name):
                    others.append(entry)
        if self.skipped and others:
            self.skipped.met(os.fsdecode(directory), others)
        kept.sort(key=_by_name)
        return iter([entry for _, entry in kept])


def _by_name(item: tuple[bytes, os.DirEntry[bytes]]) -> bytes:
    return item[0]


def _signature(entry: os.DirEntry[bytes]) -> str:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        # Gone since the directory was read, or unreadable: its own look will tell.
        return "?"
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}" if stat.S_ISREG(found.st_mode) else ""


class Difference(enum.Enum):
    """How a path differs from the index."""

    ADDED = enum.auto()
    CHANGED = enum.auto()
    MISSING = enum.auto()


def differences(walked: Iterable[Described], recorded: Iterable[Described]) -> Iterator[tuple[bytes, Difference]]:
    """Merge two streams in byte order; yield each path that differs, and how."""
    end: tuple[bytes | None, str] = (None, "")
    disk, index = iter(walked), iter(recorded)
    on_disk, in_index = next(disk, end), next(index, end)
    while on_disk[0] is not None or in_index[0] is not None:
        if in_index[0] is None or (on_disk[0] is not None and on_disk[0] < in_index[0]):
            yield on_disk[0], Difference.ADDED  # type: ignore[misc]  # one of the two is not None
            on_disk = next(disk, end)
        elif on_disk[0] is None or in_index[0] < on_disk[0]:
            yield in_index[0], Difference.MISSING
            in_index = next(index, end)
        else:
            if on_disk[1] != in_index[1]:
                yield on_disk[0], Difference.CHANGED
            on_disk, in_index = next(disk, end), next(index, end)


@dataclass(frozen=True, slots=True)
class Recording:
    """What a comparison asks of the index."""

    below: Callable[[str], Iterator[Described]]
    """The files below a folder, in byte order."""
    failures: Callable[[], dict[str, str]]
    """Every path that failed -> the state of its file then, as daemon.changes.signature() describes it."""
    copies: Callable[[list[str]], Mapping[str, Collection[str]]] = lambda _: {}
    """Files of the index -> the other files that hold the same photo."""


@dataclass(slots=True)
class Comparison:
    """What differs between a walk and the index; what is new or changed has been queued meanwhile."""

    added: int = 0
    changed: int = 0
    recorded: int = 0
    recorded_on: collections.Counter[str | None] = field(default_factory=collections.Counter)
    """How many of the recorded files lie on each of the mount points that the comparison was told of."""
    changed_on: collections.Counter[str | None] = field(default_factory=collections.Counter)
    """How many of those are there, and differ."""
    missing: list[str] = field(default_factory=list)
    """Files of the index that are not there, where that can be told."""
    excluded: list[str] = field(default_factory=list)
    """Files of the index that do not belong in it any more, whether they are there or not: none of them is missing."""
    mended: list[str] = field(default_factory=list)
    """Failures whose file is gone, or is no longer to be indexed."""

    def exclude(self, path: str, mounts: Collection[str]) -> None:
        """Note that a file is excluded, and count it no longer among those that are recorded: a disk is not judged by it."""
        self.excluded.append(path)
        self.recorded -= 1
        if mounts:
            self.recorded_on[_top(path, mounts)] -= 1

    def unchanged_on(self, tops: Collection[str]) -> dict[str, int]:
        """Return how many files are there as they were recorded, by the mount points that were given to `compare`."""
        missing = collections.Counter(_top(path, tops) for path in self.missing)
        return {top: self.recorded_on[top] - self.changed_on[top] - missing[top] for top in tops}


def compare(
    walk: Walk, recording: Recording, *, queue: Callable[[list[str]], None], mounts: Collection[str] = ()
) -> Comparison:
    """Compare a walk with what is recorded below its top; hand each new or changed path to `queue`, a chunk at a time.

    What is recorded is counted by the innermost of the directories `mounts` that it lies in.

    When the walk was stopped, nothing is missing: what it did not come to cannot be told.
    """
    found = Comparison()
    failures = recording.failures()
    failures_met: set[str] = set()
    missing: list[bytes] = []
    chunk: list[str] = []
    for raw, difference in differences(_readable(walk), _counted(recording.below(walk.top), found, mounts)):
        if walk.stopped():
            return found
        if difference is Difference.MISSING:
            missing.append(raw)
            continue
        path = os.fsdecode(raw)
        if difference is Difference.CHANGED:
            found.changed_on[_top(path, mounts)] += 1
        if path in failures:
            # Nothing is recorded of a file that failed, so each one that the walk meets comes by here.
            failures_met.add(path)
            if _still_fails(path, failures[path]):
                continue
        found.added += difference is Difference.ADDED
        found.changed += difference is Difference.CHANGED
        chunk.append(path)
        if len(chunk) >= CHUNK:
            queue(chunk)
            chunk = []
    if chunk:
        queue(chunk)
    if walk.stopped():
        return found
    _tell_apart(found, walk, map(os.fsdecode, missing), mounts)
    found.mended = [path for path in failures if path not in failures_met and walk.covers(path)]
    return found


def _tell_apart(found: Comparison, walk: Walk, missing: Iterable[str], mounts: Collection[str]) -> None:
    """Sort the files that the walk did not meet into excluded ones and missing ones, where the walk can know."""
    for path in missing:
        if walk.excludes(path):
            found.exclude(path, mounts)
        elif walk.covers(path):
            found.missing.append(path)


def _readable(walk: Walk) -> Iterator[Described]:
    """Yield what the walk does; a top that is gone holds nothing, and of one that cannot be read nothing can be told."""
    try:
        yield from walk
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        walk.unreadable.append(os.fsencode(walk.top))


def _top(path: str, mounts: Collection[str]) -> str | None:
    return volume_of(path, mounts) if len(mounts) > 1 else next(iter(mounts), None)


def _counted(recorded: Iterator[Described], found: Comparison, mounts: Collection[str]) -> Iterator[Described]:
    for item in recorded:
        found.recorded += 1
        if len(mounts) > 1:
            found.recorded_on[_top(os.fsdecode(item[0]), mounts)] += 1
        yield item
    if len(mounts) == 1:
        found.recorded_on[next(iter(mounts))] = found.recorded


def _still_fails(path: str, known: str) -> bool:
    try:
        return signature(long_paths.lstat(path)) == known
    except OSError:
        return False
