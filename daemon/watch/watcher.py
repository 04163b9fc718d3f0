"""The watched folders: events where they can be had, walks where they cannot, and never a deletion because a disk went away."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.changes import Hint
from daemon.errors import StoreUnavailable
from daemon.lifecycle import Worker
from daemon.watch.filters import NO_MEDIA
from daemon.watch.mounts import mount_of
from daemon.watch.observer import FolderWatch
from daemon.watch.reconcile import Walk, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.watch.filters import Filters
    from daemon.watch.pending import Pending
    from daemon.watch.reconcile import Comparison, Recording

log = logging.getLogger(__name__)

TEND_SECONDS = 0.5
"""How often the watches themselves are looked after."""
OUTAGE_SECONDS = 1.0
ABSENT = ("missing", "unreadable")
"""States of a folder of which nothing can be told."""


@dataclass(frozen=True, slots=True)
class Brake:
    """When a reconcile's deletions are held: more than `count` files and more than `ratio` of the folder's."""

    ratio: float
    count: int

    def holds(self, missing: int, recorded: int) -> bool:
        return missing > self.count and missing > self.ratio * recorded


@dataclass(frozen=True, slots=True)
class Pass:
    """What one reconcile of a folder found."""

    finished_at: float
    """Unix time."""
    seconds: float
    files: int
    added: int
    changed: int
    removed: int


@dataclass(slots=True)
class WatchedFolder:
    """One folder, and how it is being watched."""

    path: str
    wanted: str
    """auto, events or poll, as configured."""
    watch: FolderWatch
    mode: str = "events"
    state: str = "starting"
    note: str = ""
    polled_because: str = ""
    """Why there are no events, a sentence; empty when polling was asked for."""
    held: int = 0
    """Deletions that wait for a decision."""
    next_walk: float = 0.0
    """Monotonic time of the next walk that nothing but the clock asks for."""
    last: Pass | None = None

    def contains(self, path: str) -> bool:
        return path == self.path or path.startswith(self.path.rstrip(os.sep) + os.sep)


@dataclass(slots=True)
class _Requests:
    """Directories to be reconciled, each once, in the order they were asked for; and the one in hand."""

    in_hand: str = ""
    reasons: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, directory: str, reason: str) -> None:
        with self.lock:
            self.reasons.setdefault(directory, reason)

    def take(self) -> tuple[str, str] | None:
        with self.lock:
            directory = next(iter(self.reasons), None)
            if directory is None:
                return None
            self.in_hand = directory
            return directory, self.reasons.pop(directory)

    def any(self) -> bool:
        with self.lock:
            return bool(self.in_hand or self.reasons)


class Watcher:
    """Puts every path that may differ from the index into `pending`.

    One thread reconciles: at start (watch first, then walk), every `rescan_seconds`, every `poll_seconds` where there are no
    events, after lost events, and below a directory that appears, moves or goes. Two walks never run at once.
    """

    name = "watcher"

    def __init__(
        self,
        folders: Sequence[tuple[str, str]],
        filters: Filters,
        pending: Pending,
        recording: Recording,
        *,
        brake: Brake,
        rescan_seconds: float,
        poll_seconds: float,
        max_pending: int,
    ) -> None:
        self._filters = filters
        self._pending = pending
        self._recording = recording
        self._brake = brake
        self._rescan_seconds = rescan_seconds
        self._poll_seconds = poll_seconds
        self._max_pending = max_pending
        self._requests = _Requests()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._worker = Worker("reconcile", self._run)
        self.folders = [WatchedFolder(path, wanted, FolderWatch(path, filters, self)) for path, wanted in folders]

    # Service

    def start(self) -> None:
        for folder in self.folders:
            self._arm(folder)
        self.rescan_all("lookaliked started")
        self._worker.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._worker.join()
        for folder in self.folders:
            folder.watch.disarm()

    def check(self) -> None:
        self._worker.check()

    # Listener: called on watchdog's threads

    def changed(self, path: str, hint: Hint) -> None:
        if len(self._pending) < self._max_pending:
            self._pending.put(path, hint)
        else:
            # Too many to list one by one: look at all of the folder once they are done.
            folder = self.folder_of(path)
            if folder is not None:
                self.rescan(folder.path, "more changed than can be listed")

    def rescan(self, directory: str, reason: str) -> None:
        self._requests.put(directory, reason)
        self._wake.set()

    # Asking

    @property
    def busy(self) -> bool:
        """Whether a walk is under way or asked for."""
        return self._requests.any()

    @property
    def walked(self) -> bool:
        """Whether every folder that is there has been compared with the index since the start."""
        return all(folder.last is not None or folder.state in ABSENT for folder in self.folders)

    @property
    def walking(self) -> str:
        """The directory being walked now, or an empty string."""
        return self._requests.in_hand

    def folder_of(self, path: str) -> WatchedFolder | None:
        """Return the watched folder that `path` lies in."""
        return next((folder for folder in self.folders if folder.contains(path)), None)

    def admits(self, path: str) -> bool:
        """Whether a file of this path belongs in the index."""
        folder = self.folder_of(path)
        if folder is None:
            return False
        relative = path[len(folder.path) :].lstrip(os.sep)
        return self._filters.admits(relative) and not self._is_marked(folder.path, relative)

    def _is_marked(self, folder: str, relative: str) -> bool:
        """Whether a directory on the way to a file asks to be left alone."""
        directory = folder
        for part in ("", *relative.split(os.sep)[:-1]):
            directory = os.path.join(directory, part)
            if os.path.lexists(os.path.join(directory, NO_MEDIA)):
                return True
        return False

    def is_reachable(self, path: str) -> bool:
        """Whether the folder of `path` is there, so that a missing file is a deleted file."""
        folder = self.folder_of(path)
        return folder is not None and folder.watch.folder_is_same()

    def rescan_all(self, reason: str) -> None:
        for folder in self.folders:
            self.rescan(folder.path, reason)

    # The reconcile thread

    def _run(self) -> None:
        tended = time.monotonic()
        while not self._stop.is_set():
            if request := self._requests.take():
                self._serve(*request)
            else:
                self._wake.wait(TEND_SECONDS)
                self._wake.clear()
            # By the clock, not when there is nothing else to do: requests may never cease.
            if time.monotonic() - tended >= TEND_SECONDS:
                self._tend()
                tended = time.monotonic()

    def _serve(self, directory: str, reason: str) -> None:
        try:
            self._reconcile(directory, reason)
        except StoreUnavailable as error:
            log.debug("reconciling %s waits: %s", directory, error)
            self._requests.put(directory, reason)
            self._stop.wait(OUTAGE_SECONDS)
        finally:
            self._requests.in_hand = ""

    def _tend(self) -> None:
        """Ask for the walks that are due: what lost its watch is watched again before it is walked."""
        now = time.monotonic()
        for folder in self.folders:
            if folder.state in ABSENT:
                if not _unusable(folder.path):
                    self.rescan(folder.path, "the folder is back")
            elif folder.mode == "events" and not folder.watch.armed:
                self.rescan(folder.path, "its watch was lost")
            elif now >= folder.next_walk:
                self.rescan(folder.path, "it was time")

    def _arm(self, folder: WatchedFolder) -> bool:
        """Choose how to watch a folder and begin; returns whether it is there."""
        problem = _unusable(folder.path)
        if problem:
            self._say(folder, *problem)
            return False
        mount = mount_of(folder.path)
        mode = "poll" if folder.wanted == "poll" or (folder.wanted == "auto" and mount.remote) else "events"
        because = ""
        if mode == "poll" and mount.remote:
            because = f"{mount.type} raises no events for changes made elsewhere, so the folder is polled"
        folder.watch.disarm()
        folder.watch.remember_root()
        if mode == "events":
            try:
                folder.watch.arm()
            except OSError as error:
                problem = _unusable(folder.path)
                if problem:
                    self._say(folder, *problem)
                    return False
                mode, because = "poll", _refusal(error)
        folder.mode, folder.polled_because = mode, because
        if folder.state in ("starting", *ABSENT):
            self._say(folder, "watching", folder.polled_because)
        return True

    def _prepare(self, folder: WatchedFolder) -> bool:
        """See to the watches before a walk of all of a folder; returns whether it is there.

        What is polled for want of a watch may have one by now.
        """
        problem = _unusable(folder.path)
        if problem:
            self._say(folder, *problem)
            return False
        if folder.mode == "events" and folder.watch.armed:
            folder.watch.watch_refused()
            return True
        return self._arm(folder)

    def _say(self, folder: WatchedFolder, state: str, note: str) -> None:
        if (folder.state, folder.note) != (state, note) and note:
            log.warning("%s: %s", folder.path, note)
        folder.state, folder.note = state, note

    def _reconcile(self, directory: str, reason: str) -> None:
        folder = self.folder_of(directory)
        if folder is None:
            return
        whole = directory == folder.path
        if whole:
            if not self._prepare(folder):
                return
        elif not folder.watch.folder_is_same():
            # Not what the event told of; all of it is compared when it is back.
            return
        log.debug("reconciling %s: %s", directory, reason)
        started = time.monotonic()
        walk = Walk(directory, self._filters, self._stop.is_set)
        found = compare(walk, self._recording, queue=self._queue)
        if self._stop.is_set():
            return
        self._release(folder, found, whole=whole, empty=not walk.files)
        if whole:
            seconds = time.monotonic() - started
            folder.last = Pass(time.time(), seconds, walk.files, found.added, found.changed, len(found.missing))
            self._schedule(folder)
            self._judge(folder, walk)

    def _queue(self, paths: list[str]) -> None:
        # A walk is faster than what follows it: it waits, so that a library of any size is listed in bounded memory.
        # Half of the room, so that what happens meanwhile is still listed path by path.
        self._pending.wait_below(max(1, self._max_pending // 2), self._stop)
        self._pending.put_all(paths, Hint.FOUND)

    def _release(self, folder: WatchedFolder, found: Comparison, *, whole: bool, empty: bool) -> None:
        """Queue the deletions, or hold them when there are so many that a disk is likelier than a decision.

        What goes below a folder by an event was somebody's doing, however much it is.
        """
        missing, recorded = len(found.missing), found.recorded
        if whole and ((empty and missing) or self._brake.holds(missing, recorded)):
            folder.held = missing
            self._say(
                folder,
                "held",
                f"{missing} of {recorded} photos are missing from it; they are kept in the index until they are back",
            )
            return
        if whole:
            folder.held = 0
        self._pending.put_all(found.missing + found.mended, Hint.GONE)

    def _schedule(self, folder: WatchedFolder) -> None:
        # A hold is looked at again soon: the disk may be back.
        polled = folder.mode == "poll" or bool(folder.watch.refused) or bool(folder.held)
        folder.next_walk = time.monotonic() + (self._poll_seconds if polled else self._rescan_seconds)

    def _judge(self, folder: WatchedFolder, walk: Walk) -> None:
        """Say how the folder is watched after a walk that went through."""
        if folder.held:
            return
        notes = [folder.polled_because] if folder.polled_because else []
        refused = sum(code != errno.EACCES for code in folder.watch.refused.values())
        if refused:
            few = f"no inotify watch was left for {refused} of the folders in it, so they are polled"
            notes.append(f"{few}; {_more_watches(walk.directories)}")
        if walk.unreadable:
            example = os.fsdecode(walk.unreadable[0])
            notes.append(
                f"{len(walk.unreadable)} of the folders in it cannot be read, {example} among them; "
                "what was indexed there is kept"
            )
        self._say(folder, "watching", "; ".join(notes))


def _unusable(path: str) -> tuple[str, str] | None:
    """Return state and sentence for a folder that cannot be read now."""
    try:
        with os.scandir(path):
            return None
    except FileNotFoundError:
        return "missing", "the folder does not exist; its photos are kept in the index until it is back"
    except NotADirectoryError:
        return "missing", "this is not a folder; its photos are kept in the index until the folder is back"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return "unreadable", f"the folder cannot be read ({reason}); its photos are kept in the index"


def _refusal(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        return (
            "no inotify instance is left, so the folder is polled; raise it: "
            "sudo sysctl fs.inotify.max_user_instances=512"
        )
    if error.errno == errno.ENOSPC:
        return f"no inotify watch is left, so the folder is polled; {_more_watches(1)}"
    return f"its events cannot be had ({(error.strerror or str(error)).lower()}), so the folder is polled"


def _more_watches(directories: int) -> str:
    return f"raise the limit: sudo sysctl fs.inotify.max_user_watches={max(524_288, 2 * directories)}"
