"""File system events by way of watchdog: what may differ, and where events were lost.

watchdog's inotify emitter is subclassed for what it leaves to its user: directories that hold no watch because they are
ignored, watches that the kernel refuses, and a queue that overflows without a word to the handler.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)
from watchdog.observers.inotify_move_event_grouper import (
    GroupedInotifyEvent,
    InotifyMoveEventGrouper,
    PathedInotifyEvent,
)
from watchdog.utils.delayed_queue import DelayedQueue

from daemon import beneath, canonical
from daemon.changes import Hint
from daemon.watch.filters import NO_MEDIA, Filters
from daemon.watch.mounts import root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

EVENT_TYPES: list[type[FileSystemEvent]] = [
    FileCreatedEvent, FileModifiedEvent, FileClosedEvent, FileMovedEvent, FileDeletedEvent, FileAttribEvent,
    DirCreatedEvent, DirMovedEvent, DirDeletedEvent,
]  # fmt: skip
MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_EXCL_UNLINK
    | InotifyConstants.IN_ONLYDIR
)
"""What can change a photo, and not what happens to one that was deleted or replaced while it is still open. Not IN_OPEN and
IN_CLOSE_NOWRITE: our own reading would raise them. What is written through mmap raises nothing until the mapping and its
descriptor are closed. What is written through another hard link is told under that name alone: the indexer looks at the others."""
MARK = os.fsencode(NO_MEDIA)
CAME_OR_WENT = InotifyConstants.IN_CREATE | InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVE
NEW_DIRECTORY = Mask(InotifyConstants.IN_CREATE | InotifyConstants.IN_ISDIR)
READ_BYTES = 16_384 * 32
"""A whole queue of the kernel's usual length, so that a reader who had to wait for its turn catches up in one read."""


class Listener(Protocol):
    """What the observer tells. Called on its threads: every method must return at once, or events are lost."""

    def changed(self, path: str, hint: Hint) -> None:
        """The file at `path` may differ."""

    def rescan(self, directory: str, reason: str) -> None:
        """Anything below `directory` may differ."""


class _LatestFirst(DelayedQueue[GroupedInotifyEvent]):
    """A queue that is looked through from its new end: the two halves of a move come one after the other."""

    def _index_and_item(
        self, predicate: Callable[[GroupedInotifyEvent], bool]
    ) -> tuple[int, GroupedInotifyEvent] | None:
        for index, (item, *_) in zip(range(len(self._queue) - 1, -1, -1), reversed(self._queue), strict=True):
            if predicate(item):
                return index, item
        return None


class _MoveEvents(InotifyMoveEventGrouper):
    """Pairs the two halves of a move; what comes from outside the folder is known at once to have no other half.

    watchdog's looks through all that waits, twice for each file that is moved: 20,000 photos moved in overflowed the queue.
    """

    def __init__(self) -> None:
        super().__init__()
        self._queue = _LatestFirst(self.delay)
        self._departed: dict[int, PathedInotifyEvent] = {}
        """By cookie, those that wait for their other half."""

    def put_event(self, event: PathedInotifyEvent) -> None:
        if event.ev.is_moved_from:
            self._departed[event.ev.cookie] = event
        super().put_event(event)

    def read_event(self) -> GroupedInotifyEvent | None:
        event = super().read_event()
        if isinstance(event, PathedInotifyEvent) and event.ev.is_moved_from:
            self._departed.pop(event.ev.cookie, None)
        return event

    def get_queued_moved_from_event(self, cookie: int) -> PathedInotifyEvent | None:
        return self._departed.get(cookie)

    def _group_moved_to_event(self, to_event: PathedInotifyEvent) -> GroupedInotifyEvent:
        if self._departed.pop(to_event.ev.cookie, None) is None:
            return to_event
        return super()._group_moved_to_event(to_event)


@dataclass
class _WatchGroup(InotifyWatchGroup):
    """The inotify watches of one folder, without those of what is not looked into.

    That is what is ignored by its name, and all below a directory that is marked; that one itself is watched for its mark to go.
    """

    admits: Any = None
    lost: Any = None
    refused: dict[bytes, int] = field(default_factory=dict)
    """Directories the kernel gave no watch for, with the errno."""
    also: dict[WatchDescriptor, frozenset[bytes]] = field(default_factory=dict)
    """The other paths of a directory that is mounted at several places: the kernel gives it one watch."""
    _move_event_grouper: InotifyMoveEventGrouper = field(default_factory=_MoveEvents, init=False)

    def on_event(self, event: InotifyEvent) -> None:
        if event.name == MARK and event.mask & CAME_OR_WENT:
            self._follow_mark(event.wd)
        elif event.is_attrib and event.is_directory and event.name and self._is_refused(event):
            # It may be readable now: as good as new.
            event = InotifyEvent(event.wd, NEW_DIRECTORY, 0, event.name)
        super().on_event(event)
        if self.also and event.is_directory and event.name:
            self._follow_directory(event)

    def on_queue_overflow(self) -> None:
        """Watch what is there now, and have it walked.

        watchdog takes all watches back first, and the kernel says so of each: above 16,384 directories that is the next overflow. It
        also drops what was read and not yet told, which is as true as before.
        """
        path = os.fsdecode(self.path)
        log.warning("%s: the kernel dropped events, so it is walked", path, extra={"path": path})
        with self._lock:
            if not self.is_active:
                return
            stale = set(self._active_callbacks_by_watch)
            # Without its root it is armed no longer, and that is noticed.
            with contextlib.suppress(OSError):
                stale -= self._watch_all(self.path)
            self._remove_callbacks(list(stale))
        self.lost()

    def others(self, path: bytes) -> Iterator[bytes]:
        """Yield the other paths of a file or directory that lies in a directory with several paths, or is one."""
        for directory, name in ((path, b""), os.path.split(path)) if self.also else ():
            wd = self._active_callbacks_by_path.get(directory)
            for place in self.also.get(wd, ()) if wd is not None else ():
                if place != directory:
                    yield os.path.join(place, name) if name else place

    def forget(self, path: bytes) -> None:
        """Watch a directory no longer that was moved out; what lies at its path by now is watched anew."""
        with self._lock:
            if not self.is_active:
                return
            self._unwatch(path)
            if beneath.is_directory(self.path, path):
                self._watch_all(path)

    def watch_refused(self) -> None:
        """Try again what the kernel gave no watch for."""
        with self._lock:
            for path in list(self.refused) if self.is_active else ():
                # What lies below may have appeared unseen; it is looked through only where it can be watched now.
                if path in self.refused and self._watch(path) is not None:
                    self._watch_all(path)

    @property
    def watches_root(self) -> bool:
        with self._lock:
            return self.path in self._active_callbacks_by_path

    @property
    def watches(self) -> int:
        return len(self._active_callbacks_by_watch)

    # With the lock held

    def _add_all_callbacks(self, path: bytes) -> None:
        self._watch_all(path)

    def _watch_all(self, path: bytes) -> set[WatchDescriptor]:
        """Watch a directory and what is looked into below it; return the watches. OSError when it is the root and cannot be."""
        if not self._is_looked_into(path):
            return set()
        watches = {self._watch(path)}
        # Each is watched before it is read: what appears meanwhile is in the one or the other.
        for root, names, others in beneath.walk(os.fsdecode(self.path), os.fsdecode(path)):
            if NO_MEDIA in others or NO_MEDIA in names:
                names.clear()
            names[:] = [name for name in names if self.admits(os.path.join(root, name))]
            watches |= {self._watch(os.fsencode(os.path.join(root, name))) for name in names}
        return {watch for watch in watches if watch is not None}

    def _watch(self, path: bytes) -> WatchDescriptor | None:
        self.refused.pop(path, None)
        try:
            wd = self._added(path)
        except OSError as error:
            if path == self.path:
                raise
            if error.errno in (errno.ENOSPC, errno.EACCES, errno.ENOMEM):
                self.refused[path] = error.errno
            return None
        before = self._active_callbacks_by_watch.get(wd)
        if before not in (None, path) and root_of(before, self.path) == root_of(path, self.path):
            # It is mounted at both places.
            self.also[wd] = self.also.get(wd, frozenset()) | {before, path}
            self._active_callbacks_by_path[path] = wd
            return wd
        if before is not None and self._active_callbacks_by_path.get(before) == wd:
            # The same directory, come back under another name.
            del self._active_callbacks_by_path[before]
        self._active_callbacks_by_path[path] = wd
        self._active_callbacks_by_watch[wd] = path
        return wd

    def _added(self, path: bytes) -> WatchDescriptor:
        """Have the kernel watch a directory, and nothing that a link leads to; OSError when it does not."""
        # By the link of /proc, which is followed, the kernel comes to exactly what was opened.
        mask = Mask(self.event_mask & ~InotifyConstants.IN_DONT_FOLLOW)
        if path == self.path:
            # The folder itself may be named by a symbolic link.
            return self._inotify_fd.add_callback(path, mask, self._callback, self._id)
        descriptor = beneath.opened(self.path, path, os.O_PATH | os.O_DIRECTORY)
        try:
            place = b"/proc/self/fd/%d" % descriptor
            return self._inotify_fd.add_callback(place, mask, self._callback, self._id)
        finally:
            os.close(descriptor)

    def _recursive_simulate(self, src_path: bytes) -> list[InotifyEvent]:
        """Return events for the files that are in a new directory already, however deep it is; its own event has it walked."""
        events: list[InotifyEvent] = []
        for root, _, others in beneath.walk(os.fsdecode(self.path), os.fsdecode(src_path)):
            wd = self._active_callbacks_by_path.get(os.fsencode(root))
            if wd is not None:
                events += [InotifyEvent(wd, InotifyConstants.IN_CREATE, 0, os.fsencode(name)) for name in others]
        return events

    def _unwatch(self, path: bytes, *, itself: bool = True) -> None:
        """Hold no watch below a directory any more."""
        below = path + os.fsencode(os.sep)
        gone = [
            wd for wd, at in self._active_callbacks_by_watch.items() if at.startswith(below) or (itself and at == path)
        ]
        self._remove_callbacks(gone)
        for refused in [at for at in self.refused if at.startswith(below) or (itself and at == path)]:
            del self.refused[refused]

    def _remove_watch_internally(self, wd: WatchDescriptor) -> None:
        for place in self.also.pop(wd, ()):
            if self._active_callbacks_by_path.get(place) == wd:
                del self._active_callbacks_by_path[place]
        path = self._active_callbacks_by_watch.pop(wd, None)
        # Another directory may have taken its path, and be gone from there as well: the original ends its thread on that.
        if path is not None and self._active_callbacks_by_path.get(path) == wd:
            del self._active_callbacks_by_path[path]

    def _move_watches(self, move_src_path: bytes, move_dst_path: bytes) -> bool:
        was_watched = super()._move_watches(move_src_path, move_dst_path)
        if was_watched and not self._is_looked_into(move_dst_path):
            self._unwatch(move_dst_path)
        elif was_watched and self.refused:
            # Some of those may have come along, and have another path now.
            self._unwatch(move_src_path)
            self._watch_all(move_dst_path)
        return was_watched

    def _is_looked_into(self, path: bytes) -> bool:
        """Whether a directory belongs to what is watched, given that the one above it is watched."""
        return path == self.path or (self.admits(os.fsdecode(path)) and not self._is_marked(os.path.dirname(path)))

    # From the reader

    def _follow_mark(self, wd: WatchDescriptor) -> None:
        with self._lock:
            directory = self._active_callbacks_by_watch.get(wd)
            if directory is None or not self.is_active:
                return
            if self._is_marked(directory):
                self._unwatch(directory, itself=False)
            else:
                # Before anybody is told, and walks it.
                self._watch_all(directory)

    def _follow_directory(self, event: InotifyEvent) -> None:
        """Follow a directory that appeared in one with several paths, or was moved, at each of them."""
        with self._lock:
            if event.is_create:
                for place in self.also.get(event.wd, ()):
                    self._watch_all(os.path.join(place, event.name))
            elif event.is_move and self.is_active:
                self._find_paths_again()

    def _find_paths_again(self) -> None:
        """Find the paths of the directories that have several, after some of them were moved. No watch is given up for it."""
        before, self.also = self.also, {}
        for wd, places in before.items():
            known = self._active_callbacks_by_watch.get(wd)
            for place in places:
                if place != known and self._active_callbacks_by_path.get(place) == wd:
                    del self._active_callbacks_by_path[place]
        self._watch_all(self.path)

    def _is_refused(self, event: InotifyEvent) -> bool:
        with self._lock:
            return self._build_event_source_path(event) in self.refused

    def _is_marked(self, directory: bytes) -> bool:
        return beneath.is_there(self.path, os.path.join(directory, MARK))


class _Inotify(InotifyFD):
    """An inotify instance that says once that a file is being written, however many pieces it is written in.

    A directory may be met twice in it: by its own event, and by that of the one above it.
    """

    def __init__(self) -> None:
        super().__init__()
        # Else an instance that is closed before its thread has begun to read leaks its file descriptors.
        self._is_reading = False

    def read_events(self, *, event_buffer_size: int = READ_BYTES) -> list[InotifyEvent]:
        """Read what the kernel has, without the writes to a file that the event before has already told of.

        The kernel merges neighbours alone. Four writers of 64 KiB pieces, at the speed of memory, raise events faster than Python
        can hand them on one by one: the queue overflowed every time, and does not when they are merged here.
        """
        events: list[InotifyEvent] = []
        being_written: dict[tuple[int, bytes], bool] = {}
        for wd, mask, cookie, name in self._parse_event_buffer(self._read_event_buffer(event_buffer_size)):
            if mask == InotifyConstants.IN_MODIFY:
                if being_written.get((wd, name)):
                    continue
                being_written[wd, name] = True
            elif name:
                being_written[wd, name] = mask == InotifyConstants.IN_CREATE
            if wd != -1 or mask & InotifyConstants.IN_Q_OVERFLOW:
                events.append(InotifyEvent(wd, mask, cookie, name))
        return events

    def _add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        watch = self._get_or_create_watch(path, mask)
        if watch.wd == -1:
            # watchdog takes a directory that may not be read for one that is watched.
            del self._watch_for_wd[watch.wd]
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(path))
        watch.callbacks[id_] = callback
        return watch.wd


class _Emitter(InotifyFullEmitter):
    """Emits the events of one folder; full: a file moved in or out whole is told from one created or deleted."""

    def __init__(self, *args: Any, admits: Any, lost: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._admits = admits
        self._lost = lost

    @property
    def group(self) -> _WatchGroup | None:
        return self._inotify if isinstance(self._inotify, _WatchGroup) else None

    def on_thread_start(self) -> None:
        self._inotify = _WatchGroup(
            self._inotify_fd,
            os.fsencode(self.watch.path),
            event_mask=MASK,
            is_recursive=True,
            admits=self._admits,
            lost=self._lost,
        )

    def build_and_queue_event(self, event: GroupedInotifyEvent, *, full_events: bool = True) -> None:
        if not isinstance(event, PathedInotifyEvent):
            departed, arrived = event
            if arrived.ev.is_directory:
                self._tell_of_tree(os.fsdecode(departed.path), os.fsdecode(arrived.path))
                return
        elif event.ev.is_directory and event.ev.is_moved_to:
            self._tell_of_tree("", os.fsdecode(event.path))
            return
        elif event.ev.is_directory and event.ev.is_moved_from and self.group:
            # Its watches would go on to tell of what happens elsewhere, under the path it had here.
            self.group.forget(event.path)
        super().build_and_queue_event(event, full_events=full_events)

    def _tell_of_tree(self, source: str, target: str) -> None:
        """Tell of a directory that was moved, and of the files in it; `source` is empty for one from outside."""
        self.queue_event(DirMovedEvent(source, target))
        # That event asks for a walk of the tree. The files' own events only spare them the wait for the walk.
        for directory, _, others in beneath.walk(self.watch.path, target):
            for name in others:
                path = os.path.join(directory, name)
                if source:
                    self.queue_event(FileMovedEvent(source + path[len(target) :], path, is_synthetic=True))
                else:
                    self.queue_event(FileCreatedEvent(path, is_synthetic=True))


class _Handler(FileSystemEventHandler):
    """Turns watchdog's events of one folder into the listener's words."""

    def __init__(self, watch: FolderWatch) -> None:
        self._watch = watch

    def dispatch(self, event: FileSystemEvent) -> None:
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path)
        if event.event_type in ("created", "moved", "deleted"):
            for path in (source, target):
                if os.path.basename(path) == NO_MEDIA:
                    self._watch.rescan(os.path.dirname(path), f"{NO_MEDIA} came or went")
        if event.is_directory:
            self._directory(event, source, target)
            return
        if target:
            self._watch.changed(target, Hint.CLOSED)
        if not source:
            return
        if event.event_type in ("deleted", "moved"):
            self._watch.changed(source, Hint.GONE)
        elif isinstance(event, FileClosedEvent):
            self._watch.changed(source, Hint.CLOSED)
        elif isinstance(event, FileModifiedEvent):
            self._watch.changed(source, Hint.WRITTEN)
        else:
            self._watch.changed(source, Hint.CREATED)

    def _directory(self, event: FileSystemEvent, source: str, target: str) -> None:
        # The new place before the old one: what moved is then bound to its new paths before the old ones are missed.
        if target:
            self._watch.rescan(target, "a folder was moved in")
        if source and event.event_type == "created":
            self._watch.rescan(source, "a folder appeared")
        elif source and event.event_type in ("deleted", "moved"):
            self._watch.rescan(source, "a folder went away")


class FolderWatch:
    """The events of one folder. `arm` may be called again whenever the folder, or the thread that read it, is gone."""

    def __init__(self, folder: str, filters: Filters, listener: Listener) -> None:
        self.folder = folder
        self.overflows = 0
        self._filters = filters
        self._listener = listener
        self._observer: _Observer | None = None
        self._emitter: _Emitter | None = None
        self._root: tuple[int, int] | None = None

    def remember_root(self) -> None:
        """Note which directory is at the folder's path: what is missing from another one is not deleted."""
        self._root = root_of(self.folder)

    def folder_is_same(self) -> bool:
        """Whether the directory at the folder's path is the one that was noted."""
        root = root_of(self.folder)
        return root is not None and root == self._root

    def arm(self) -> None:
        """Watch the folder and everything in it that is not ignored; OSError when it cannot be."""
        self.disarm()
        self.remember_root()
        inotify = _Inotify()
        inotify.start()
        observer = _Observer(inotify, admits=self._admits, lost=self._overflowed)
        try:
            observer.start()
            observer.schedule(_Handler(self), self.folder, recursive=True, event_filter=EVENT_TYPES)
        except OSError:
            observer.stop()
            observer.join()
            raise
        self._observer = observer
        self._emitter = next(emitter for emitter in observer.emitters if isinstance(emitter, _Emitter))

    def disarm(self) -> None:
        observer, self._observer, self._emitter = self._observer, None, None
        if observer is not None:
            observer.stop()
            observer.join()

    @property
    def armed(self) -> bool:
        """Whether events still come from what is at the folder's path now."""
        observer, group = self._observer, self._emitter.group if self._emitter else None
        return (
            observer is not None
            and observer.whole
            and group is not None
            # The kernel takes the watch back when the file system is unmounted.
            and group.watches_root
            and self.folder_is_same()
        )

    def watch_refused(self) -> None:
        """Try again to watch the directories that could not be watched."""
        group = self._emitter.group if self._emitter else None
        if group:
            group.watch_refused()

    @property
    def watches(self) -> int:
        """How many directories are watched."""
        group = self._emitter.group if self._emitter else None
        return group.watches if group else 0

    @property
    def refused(self) -> dict[str, int]:
        """Directories that could not be watched, with the errno."""
        group = self._emitter.group if self._emitter else None
        return {os.fsdecode(path): code for path, code in group.refused.copy().items()} if group else {}

    def changed(self, path: str, hint: Hint) -> None:
        for place in self._places(path):
            if not canonical.fault(place) and self._filters.admits(self._relative(place)):
                self._listener.changed(place, hint)

    def rescan(self, directory: str, reason: str) -> None:
        for place in self._places(directory):
            if not canonical.fault(place) and self._filters.admits_directory(self._relative(place)):
                self._listener.rescan(place, reason)

    def _places(self, path: str) -> list[str]:
        """Return a path, and the others at which the same file or directory is mounted in the folder."""
        group = self._emitter.group if self._emitter else None
        others = group.others(os.fsencode(path)) if group is not None and group.also else ()
        return [path, *map(os.fsdecode, others)]

    def _admits(self, directory: str) -> bool:
        # A walk gives the children of admitted directories alone: the last name decides.
        return not self._filters.ignores(os.path.basename(directory))

    def _overflowed(self) -> None:
        self.overflows += 1
        self._listener.rescan(self.folder, "the kernel dropped events")

    def _relative(self, path: str) -> str:
        return path[len(self.folder) :].lstrip(os.sep)


class _Observer(BaseObserver):
    """watchdog's observer with our emitter and an inotify instance of its own, so that one folder's flood is its own."""

    def __init__(self, inotify: InotifyFD, **emitter: Any) -> None:
        self._inotify_fd = inotify
        super().__init__(_Emitter, inotify_fd=inotify, **emitter)

    @property
    def whole(self) -> bool:
        """Whether all its threads still run: the one that reads, those that emit and the one that tells."""
        threads = (self, self._inotify_fd, *self.emitters)
        return len(threads) > 2 and all(thread.is_alive() for thread in threads)  # noqa: PLR2004 - and an emitter

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._inotify_fd.stop()
        self._inotify_fd.join()
