"""Compare what lies under a folder with what the index says, at the price of a stat per file."""

from __future__ import annotations

import collections
import enum
import os
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon import beneath, canonical
from daemon.changes import signature
from daemon.long_paths import MAX_BYTES
from daemon.watch.filters import NO_MEDIA
from daemon.watch.mounts import volume_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from daemon.watch.filters import Filters
    from daemon.watch.skipped import Skipped

    Described = tuple[bytes, str]
    """A file: its path, and "size mtime_ns inode"."""


CHUNK = 500
"""Paths queued at a time."""
REST_AFTER_SECONDS = 0.05
OPEN = 32
"""How many directories a walk keeps open: the innermost ones. It opens the others again on its way back."""


@dataclass(slots=True)
class _Level:
    """A directory on the way to where a walk is."""

    prefix: bytes
    """Its path, with a slash at the end."""
    names: list[bytes]
    """The names in it that are still to come, the first one last; a directory has a slash at its end, as in the paths below it."""
    descriptor: int | None
    """None while it is closed."""

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


@dataclass(slots=True)
class Walk:
    """One walk through the photos below `top`, in byte order of their paths, so that it can be merged with the index's.

    It opens each directory in the one above it, follows no link beneath `folder`, and asks about files by the descriptor of their directory.
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
    folder: str = ""
    """The watched folder that `top` lies in; empty where that is `top` itself."""
    unreadable: list[bytes] = field(default_factory=list)
    too_deep: list[bytes] = field(default_factory=list)
    """Directories whose paths are longer than the system takes: what is recorded below them is not missing either."""
    marked: set[bytes] = field(default_factory=set)
    """Directories that a marker excludes; fills likewise."""
    directories: int = 0
    files: int = 0
    _levels: list[_Level] = field(default_factory=list)

    def __iter__(self) -> Iterator[Described]:
        """Yield each photo's path and "size mtime_ns inode"; OSError when `top` itself cannot be read."""
        try:
            yield from self._described()
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Close every directory, so that nothing keeps a disk from being unmounted while the walk waits."""
        for level in self._levels:
            level.close()

    def _described(self) -> Iterator[Described]:
        levels = self._levels
        if not self.barred:
            self._enter(os.fsencode(self.top), beneath.listing(self.folder or self.top, self.top))
        began = time.monotonic()
        while levels and not self.stopped():
            if self.rest and (worked := time.monotonic() - began) > REST_AFTER_SECONDS:
                self.let_go()
                self.rest(worked)
                began = time.monotonic()
            level = levels[-1]
            if not level.names:
                level.close()
                levels.pop()
                continue
            name = level.names.pop()
            if name.endswith(b"/"):
                self._descend(level, name[:-1])
            elif described := self._signature(level, name):
                self.files += 1
                yield level.prefix + name, described

    def covers(self, path: str) -> bool:
        """Whether `path` lies where this walk went."""
        return path.startswith(self.top.rstrip(os.sep) + os.sep) and not any(
            os.fsencode(path).startswith(directory + b"/") for directory in (*self.unreadable, *self.too_deep)
        )

    def excludes(self, path: str) -> bool:
        """Whether a file below `top` is kept out of the index: by its path, or it is there and a marker is above it.

        Under a path that no walk gives, nothing is missing. A marker says nothing about a file that does not exist: another disk may have brought the marker.
        """
        relative = path[len(self.top) :].lstrip(os.sep)
        return (
            bool(canonical.fault(path))
            or not self.filters.admits(relative)
            or (
                bool(self.marked)
                and self._is_below_mark(os.fsencode(path))
                and beneath.is_there(self.folder or self.top, path)
            )
        )

    def _is_below_mark(self, path: bytes) -> bool:
        top = os.fsencode(self.top)
        while len(path) > len(top):
            path = os.path.dirname(path)
            if path in self.marked:
                return True
        return False

    def _descend(self, level: _Level, name: bytes) -> None:
        directory = level.prefix + name
        if len(directory) > MAX_BYTES:
            self.too_deep.append(directory)
            return
        try:
            self._enter(directory, beneath.listing_in(self._open(level), name))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError:
            self.unreadable.append(directory)

    def _enter(self, directory: bytes, descriptor: int) -> None:
        level = _Level(directory.rstrip(b"/") + b"/", [], descriptor)
        try:
            level.names = self._entries(directory, descriptor)
        except BaseException:
            level.close()
            raise
        self._levels.append(level)
        if len(self._levels) > OPEN:
            self._levels[-OPEN - 1].close()

    def _open(self, level: _Level) -> int:
        """Return a descriptor of a directory, which may have been closed meanwhile; OSError where it has gone."""
        if level.descriptor is None:
            level.descriptor = beneath.listing(self.folder or self.top, level.prefix[:-1] or b"/")
        return level.descriptor

    def _signature(self, level: _Level, name: bytes) -> str:
        try:
            found = os.lstat(name, dir_fd=level.descriptor if level.descriptor is not None else self._open(level))
        except OSError:
            # Gone since the directory was read, or unreadable: its own look will tell.
            return "?"
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}" if stat.S_ISREG(found.st_mode) else ""

    def _entries(self, directory: bytes, descriptor: int) -> list[bytes]:
        """Return the names of what is to be met in a directory, the first one last."""
        self.directories += 1
        kept: list[bytes] = []
        others: list[str] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                if name == NO_MEDIA:
                    self.marked.add(directory)
                    return []
                if entry.is_dir(follow_symlinks=False):
                    if not self.filters.ignores(name):
                        # As it stands in the paths below it: "a/" sorts behind "a.jpg".
                        kept.append(os.fsencode(name) + b"/")
                elif self.filters.is_photo(name):
                    if not entry.is_symlink():
                        kept.append(os.fsencode(name))
                elif self.skipped and self.skipped.concerns(name) and entry.is_file(follow_symlinks=False):
                    others.append(name)
        if self.skipped and others:
            self.skipped.met(os.fsdecode(directory), others, descriptor)
        kept.sort(reverse=True)
        return kept


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
    recorded: Callable[[list[str]], Collection[str]]
    """Those of the paths that a file of the index has."""
    copies: Callable[[list[str]], Iterable[tuple[list[str], list[str]]]] = lambda _: ()
    """For each photo that some of the paths hold: those paths, and every path that holds it."""


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
            if _still_fails(walk, path, failures[path]):
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


def _still_fails(walk: Walk, path: str, known: str) -> bool:
    try:
        return signature(beneath.lstat(walk.folder or walk.top, path)) == known
    except OSError:
        return False
