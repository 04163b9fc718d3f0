"""The watched folders: events where they can be had, walks where they cannot, and never a deletion because a disk went away."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import random
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from daemon.changes import Hint, Remembered
from daemon.errors import StoreUnavailable
from daemon.instruments import RECONCILE_SECONDS
from daemon.lifecycle import Worker
from daemon.watch.brake import Hold, judge
from daemon.watch.filters import NO_MEDIA
from daemon.watch.folder import ABSENT, Pass, WatchedFolder, more_watches, refusal, unusable
from daemon.watch.mounts import MountTable, mount_of
from daemon.watch.observer import FolderWatch
from daemon.watch.reconcile import CHUNK, Walk, compare
from daemon.watch.requests import Request, Requests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.watch.brake import Brake, Judgement
    from daemon.watch.filters import Filters
    from daemon.watch.pending import Pending
    from daemon.watch.reconcile import Comparison, Recording

log = logging.getLogger(__name__)

TEND_SECONDS = 0.5
"""How often the watches themselves are looked after."""
OUTAGE_SECONDS = 1.0
RENAMED_SECONDS = 5.0
JITTER = 0.1
"""The share by which the time between two walks varies: many daemons on one server are not to walk it at once."""


class Memory(Protocol):
    """Where the past of the folders is kept. Both raise StoreUnavailable."""

    def recall(self, folder: str) -> Remembered: ...
    def remember(self, folder: str, remembered: Remembered) -> None: ...


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
        memory: Memory,
        *,
        brake: Brake,
        rescan_seconds: float,
        poll_seconds: float,
        max_pending: int,
    ) -> None:
        self._filters = filters
        self._pending = pending
        self._recording = recording
        self._memory = memory
        self._brake = brake
        self._rescan_seconds = rescan_seconds
        self._poll_seconds = poll_seconds
        self._max_pending = max_pending
        self._requests = Requests()
        self._mount_table = MountTable()
        self._walk: Walk | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._deciding = threading.Lock()
        self._worker = Worker("reconcile", self._run)
        self.folders = [WatchedFolder(path, wanted, FolderWatch(path, filters, self)) for path, wanted in folders]
        self.reconciles = 0
        """Walks that went through since the start."""

    # Service

    def start(self) -> None:
        self._mount_table.open()
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
        self._mount_table.close()

    def check(self) -> None:
        self._worker.check()

    # Listener: called on watchdog's threads

    def changed(self, path: str, hint: Hint) -> None:
        if len(self._pending) < self._max_pending:
            self._pending.put(path, hint)
        else:
            # Too many to list one by one: look at all of its directory once they are done.
            self.rescan(os.path.dirname(path), "more changed in it than can be listed")

    def rescan(self, directory: str, reason: str) -> None:
        self._ask(Request(directory, reason, deliberate=True))

    # Asking

    def compare_again(self, path: str) -> threading.Event:
        """Compare a file or a directory as it is from now on; returns what is set when its differences are pending."""
        if not os.path.isdir(path):
            self._pending.put(path, Hint.FOUND)
        # What is no file any more may have been a directory.
        return self._ask(Request(path, "somebody asked")) if not os.path.isfile(path) else _already()

    @property
    def busy(self) -> bool:
        """Whether a walk is under way or asked for."""
        return self._requests.any()

    @property
    def walked(self) -> bool:
        """Whether every folder that is there has been compared with the index since the start."""
        return all(folder.last is not None or folder.absent for folder in self.folders)

    @property
    def walking(self) -> str:
        """The directory being walked now, or an empty string."""
        return self._requests.in_hand

    @property
    def files_walked(self) -> int:
        """How many files the walk under way has met."""
        walk = self._walk
        return walk.files if walk else 0

    def folder_of(self, path: str) -> WatchedFolder | None:
        """Return the watched folder that `path` lies in."""
        return next((folder for folder in self.folders if folder.contains(path)), None)

    def is_watched(self, path: str) -> bool:
        """Whether `path` lies in a watched folder."""
        return self.folder_of(path) is not None

    def admits(self, path: str) -> bool:
        """Whether a file of this path belongs in the index."""
        folder = self.folder_of(path)
        if folder is None:
            return False
        relative = path[len(folder.path) :].lstrip(os.sep)
        return self._filters.admits(relative) and self._is_passed(folder.path, os.path.dirname(relative))

    def _is_passed(self, folder: str, relative: str) -> bool:
        """Whether a walk comes through a directory and all above it: none asks to be left alone, none is a symbolic link."""
        directory = folder
        for part in ("", *relative.split(os.sep)) if relative else ("",):
            directory = os.path.join(directory, part)
            if os.path.lexists(os.path.join(directory, NO_MEDIA)) or (part and os.path.islink(directory)):
                return False
        return True

    def is_reachable(self, path: str, hint: Hint) -> bool:
        """Whether what `path` lies on is there, so that a missing file is a deleted file; `hint` says what raised the question."""
        folder = self.folder_of(path)
        return folder is not None and folder.is_reachable(path, hint)

    def is_unverified(self, path: str) -> bool:
        """Whether a file of the index cannot be told to be there: it is held as missing, or its folder is away."""
        folder = self.folder_of(path)
        return folder is not None and folder.is_unverified(path)

    def rescan_all(self, reason: str) -> None:
        for folder in self.folders:
            self._ask(Request(folder.path, reason))

    def _ask(self, request: Request) -> threading.Event:
        done = self._requests.put(request)
        self._wake.set()
        return done

    # Deciding: called on any thread

    def approve(self, folder: WatchedFolder) -> threading.Event:
        """Have what is missing from a folder deleted from the index; returns what is set once the deletions are pending."""
        with self._deciding:
            if folder.absent:
                folder.given_up = True
            elif folder.hold:
                folder.approved |= folder.hold.paths
        return self._ask(Request(folder.path, "its deletions were approved"))

    def reject(self, folder: WatchedFolder) -> None:
        """Keep what is missing from a folder in the index until it is back, and ask no more. Raises StoreUnavailable."""
        with self._deciding:
            missing = sum(1 for _ in self._recording.below(folder.path)) if folder.absent else folder.held
            remembered = replace(folder.remembered or self._memory.recall(folder.path), kept=missing)
            self._memory.remember(folder.path, remembered)
            folder.remembered = remembered
            if folder.hold:
                folder.hold = replace(folder.hold, kept=True)
                self._say_hold(folder, folder.hold)

    def keep(self, path: str, files: int) -> None:
        """Let so many files of the folder at `path` be missing, as was decided of them in another place. Raises StoreUnavailable.

        It is used up by the walks that meet those files, which are not all known yet.
        """
        with self._deciding:
            for folder in self.folders:
                if folder.path == path:
                    folder.granted += files
            known = self._memory.recall(path)
            self._memory.remember(path, replace(known, kept=known.kept + files))

    # The reconcile thread

    def _run(self) -> None:
        tended = time.monotonic()
        while not self._stop.is_set():
            if request := self._requests.take():
                self._serve(request)
            else:
                self._wake.wait(TEND_SECONDS)
                self._wake.clear()
            # By the clock, not when there is nothing else to do: requests may never cease.
            if time.monotonic() - tended >= TEND_SECONDS:
                self._tend()
                tended = time.monotonic()

    def _serve(self, request: Request) -> None:
        try:
            follow_up = self._reconcile(request)
        except StoreUnavailable as error:
            log.debug("reconciling %s waits: %s", request.directory, error)
            self._requests.defer(request)
            self._stop.wait(OUTAGE_SECONDS)
            return
        finally:
            self._walk = None
        if follow_up is not None:
            self._requests.defer(follow_up)
        else:
            self._requests.finish(request)

    def _tend(self) -> None:
        """Ask for the walks that are due: what lost its watch is watched again before it is walked."""
        now = time.monotonic()
        remounted = self._mount_table.changed()
        for folder in self.folders:
            if folder.absent:
                if not unusable(folder.path):
                    self._ask(Request(folder.path, "the folder is back"))
            elif not (folder.watch.armed if folder.mode == "events" else folder.watch.folder_is_same()):
                self._ask(Request(folder.path, "it is no longer what was watched"))
            elif remounted and folder.remounted():
                self._ask(Request(folder.path, "a file system was mounted or unmounted in it"))
            elif now >= folder.next_walk:
                self._ask(Request(folder.path, "it was time", unhurried=True))

    def _arm(self, folder: WatchedFolder) -> bool:
        """Choose how to watch a folder and begin; returns whether it is there."""
        problem = unusable(folder.path)
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
        folder.note_mounts()
        if mode == "events":
            try:
                folder.watch.arm()
            except OSError as error:
                problem = unusable(folder.path)
                if problem:
                    self._say(folder, *problem)
                    return False
                mode, because = "poll", refusal(error)
        folder.mode, folder.polled_because, folder.given_up = mode, because, False
        if folder.state == "starting" or folder.absent:
            self._say(folder, "watching", folder.polled_because)
        return True

    def _prepare(self, folder: WatchedFolder) -> bool:
        """See to the watches before a walk of all of a folder; returns whether it is there.

        What is polled for want of a watch may have one by now; a file system that was mounted has none yet.
        """
        problem = unusable(folder.path)
        if problem:
            self._say(folder, *problem)
            return False
        if folder.mode == "events" and folder.watch.armed and not folder.remounted():
            folder.watch.watch_refused()
            return True
        return self._arm(folder)

    def _say(self, folder: WatchedFolder, state: str, note: str) -> None:
        if (folder.state, folder.note) != (state, note) and note:
            log.warning("%s: %s", folder.path, note, extra={"path": folder.path})
        elif state == "watching" and folder.state in ("held", "kept", *ABSENT):
            log.info("%s: it is as it was, nothing is held any more", folder.path, extra={"path": folder.path})
        if folder.state != state:
            folder.since = time.time()
        folder.state, folder.note = state, note

    def _say_hold(self, folder: WatchedFolder, hold: Hold) -> None:
        decide = "" if hold.kept else ", or until you decide: lookalike deletions list"
        state = "kept" if hold.kept else "held"
        self._say(folder, state, f"{hold.reason}; they are kept in the index until they are back{decide}")

    def _reconcile(self, request: Request) -> Request | None:
        """Compare a directory with the index; returns the request that has to be served in its place, if one has."""
        folder = self.folder_of(request.directory)
        if folder is None:
            return None
        whole = request.directory == folder.path
        if whole:
            if not self._prepare(folder):
                self._give_up(folder)
                return None
        elif not folder.watch.folder_is_same():
            # Not what the event told of; all of it is compared when it is back.
            return None
        with self._deciding:
            if folder.remembered is None:
                recalled = self._memory.recall(folder.path)
                # What was granted since the start is in it already.
                folder.remembered = replace(recalled, kept=recalled.kept - folder.granted)
        log.debug("reconciling %s: %s", request.directory, request.reason, extra={"path": request.directory})
        started = time.monotonic()
        self._walk = walk = Walk(
            request.directory,
            self._filters,
            self._stop.is_set,
            rest=self._breathe if request.unhurried else None,
            barred=not self._is_passed(folder.path, request.directory[len(folder.path) :].strip(os.sep)),
        )
        now = folder.note_mounts()
        found = compare(walk, self._recording, queue=self._queue, mounts={*folder.remembered.volumes, *now})
        if self._stop.is_set():
            return None
        self.reconciles += 1
        RECONCILE_SECONDS.observe(time.monotonic() - started)
        if not whole:
            return self._release_part(folder, found, walk, now, request)
        self._release(folder, found, walk, now)
        seconds = time.monotonic() - started
        folder.last = Pass(time.time(), seconds, walk.files, found.added, found.changed, len(found.missing))
        about = {"path": folder.path, "duration_seconds": seconds}
        log.debug("%s is compared: %d files in %.1f s", folder.path, walk.files, seconds, extra=about)
        self._schedule(folder)
        self._judge(folder, walk)
        return None

    def _breathe(self, worked_seconds: float) -> None:
        """Leave the disk to others for as long as it was used: half of the time at most goes into a walk that nobody waits for."""
        self._stop.wait(min(worked_seconds, 1.0))

    def _queue(self, paths: list[str], hint: Hint = Hint.FOUND) -> None:
        # A walk is faster than what follows it: it waits, so that a library of any size is listed in bounded memory.
        # Half of the room, so that what happens meanwhile is still listed path by path.
        self._pending.wait_below(max(1, self._max_pending // 2), self._stop)
        self._pending.put_all(paths, hint)

    def _give_up(self, folder: WatchedFolder) -> None:
        """Queue the deletion of everything in a folder that is away, where somebody has decided so."""
        if not folder.given_up:
            return
        recorded = self._recording.below(folder.path)
        while paths := [os.fsdecode(path) for path, _ in itertools.islice(recorded, CHUNK)]:
            self._queue(paths, Hint.GONE)

    def _release_part(
        self, folder: WatchedFolder, found: Comparison, walk: Walk, now: dict[str, str], request: Request
    ) -> Request | None:
        """Queue what a part of a folder misses; returns a request for all of it where that is not for a part to decide."""
        found.missing = [path for path in found.missing if not folder.is_unverified(path)]
        judgement = self._judged(folder, found, now, empty=not walk.files, deliberate=request.deliberate)
        self._delete(found, judgement.held)
        if not judgement.held:
            return None
        return Request(folder.path, request.reason, waiters=request.waiters)

    def _release(self, folder: WatchedFolder, found: Comparison, walk: Walk, now: dict[str, str]) -> None:
        """Queue the deletions, or hold them when a disk that went away is likelier than a decision."""
        assert folder.remembered is not None  # noqa: S101 - for the type checker
        approved = folder.approved.intersection(found.missing)
        missing = found.missing
        found.missing = [path for path in missing if path not in approved]
        judgement = self._judged(folder, found, now, empty=not walk.files, deliberate=False)
        with self._deciding:
            folder.hold = self._hold(folder, found, judgement)
            folder.approved = approved
            self._remember(folder, now)
        found.missing = missing
        self._delete(found, folder.hold.paths if folder.hold else frozenset())

    def _judged(
        self, folder: WatchedFolder, found: Comparison, now: dict[str, str], *, empty: bool, deliberate: bool
    ) -> Judgement:
        assert folder.remembered is not None  # noqa: S101 - for the type checker
        before = folder.remembered.volumes
        return judge(found, self._brake, folder=folder.path, before=before, now=now, empty=empty, deliberate=deliberate)

    def _hold(self, folder: WatchedFolder, found: Comparison, judgement: Judgement) -> Hold | None:
        assert folder.remembered is not None  # noqa: S101 - for the type checker
        missing = len(found.missing)
        kept = 0 < missing <= folder.remembered.kept + folder.granted
        if not judgement.held and not kept:
            return None
        paths = frozenset(found.missing) if kept else judgement.held
        reason = judgement.reason or f"{missing:,} of {found.recorded:,} photos are missing from it"
        return Hold(reason, paths, found.recorded, folder.hold.since if folder.hold else time.time(), kept)

    def _remember(self, folder: WatchedFolder, now: dict[str, str]) -> None:
        assert folder.remembered is not None  # noqa: S101 - for the type checker
        before = folder.remembered
        # What held files lay on is still what they are missing from.
        known = now | dict(before.volumes) if folder.hold else now
        allowed = before.kept + folder.granted
        kept = min(allowed, folder.held)
        granted = min(folder.granted, allowed - kept)
        remembered = Remembered(known, kept)
        if remembered != before:
            self._memory.remember(folder.path, replace(remembered, kept=kept + granted))
            folder.remembered, folder.granted = remembered, granted

    def _delete(self, found: Comparison, held: frozenset[str]) -> None:
        self._pending.put_all([path for path in found.missing if path not in held] + found.mended, Hint.GONE)

    def _schedule(self, folder: WatchedFolder) -> None:
        # A hold is looked at again soon: the disk may be back.
        polled = folder.mode == "poll" or folder.remote_below or bool(folder.watch.refused) or bool(folder.held)
        seconds = self._poll_seconds if polled else self._rescan_seconds
        if folder.hold and folder.last and folder.last.added:
            # What is missing may have been renamed: it is known once what was added has been looked at.
            seconds = min(seconds, RENAMED_SECONDS)
        folder.next_walk = time.monotonic() + seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def _judge(self, folder: WatchedFolder, walk: Walk) -> None:
        """Say how the folder is watched after a walk that went through."""
        if folder.hold:
            self._say_hold(folder, folder.hold)
            return
        notes = [folder.polled_because] if folder.polled_because else []
        if folder.remote_below and folder.mode == "events":
            notes.append(
                "network file systems that are mounted in it raise no events for changes made elsewhere, so they are polled"
            )
        refused = sum(code != errno.EACCES for code in folder.watch.refused.values())
        if refused:
            few = f"no inotify watch was left for {refused} of the folders in it, so they are polled"
            notes.append(f"{few}; {more_watches(walk.directories)}")
        if walk.unreadable:
            example = os.fsdecode(walk.unreadable[0])
            notes.append(
                f"{len(walk.unreadable)} of the folders in it cannot be read, {example} among them; "
                "what was indexed there is kept"
            )
        self._say(folder, "watching", "; ".join(notes))


def _already() -> threading.Event:
    done = threading.Event()
    done.set()
    return done
