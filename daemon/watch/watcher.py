"""The watched folders: events where they can be had, walks where they cannot, and never a deletion because a disk went away."""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import logging
import math
import os
import random
import stat
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

from daemon import beneath, canonical
from daemon.beneath import Disk
from daemon.changes import Hint, Hold, Remembered
from daemon.errors import QueryError, StoreUnavailable
from daemon.instruments import RECONCILE_SECONDS
from daemon.lifecycle import Worker
from daemon.long_paths import MAX_BYTES
from daemon.watch.brake import Facts, held_by, judge
from daemon.watch.commands import Commands
from daemon.watch.filters import NO_MEDIA
from daemon.watch.folder import (
    ABSENT,
    Pass,
    WatchedFolder,
    about,
    more_watches,
    polled_part,
    refusal,
    unusable,
    view_of,
)
from daemon.watch.markers import Markers
from daemon.watch.mounts import MountTable, mount_of, volumes
from daemon.watch.observer import FolderWatch
from daemon.watch.reconcile import CHUNK, Walk, compare
from daemon.watch.requests import Request, Requests
from daemon.watch.skipped import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from daemon.watch.brake import Brake, Judgement
    from daemon.watch.filters import Filters
    from daemon.watch.folder import Survey
    from daemon.watch.pending import Pending
    from daemon.watch.reconcile import Comparison, Recording

log = logging.getLogger(__name__)

TEND_SECONDS = 0.5
"""How often the watches themselves are looked after."""
STEP_SECONDS = 0.05
"""How long the walker waits at most before it looks for commands."""
OUTAGE_SECONDS = 1.0
RENAMED_SECONDS = 5.0
SHOWN = 80
"""Characters of a very long path that a note shows."""
JITTER = 0.1
"""The share by which the time between two walks varies: many daemons on one server are not to walk it at once."""


class Memory(Protocol):
    """Where the past of the folders is kept. Both raise StoreUnavailable."""

    def recall(self, folder: str) -> Remembered: ...
    def remember(self, folder: str, remembered: Remembered) -> None: ...


class Watcher:
    """Puts every path that may differ from the index into `pending`, and decides which missing files are held.

    One thread, the walker, owns the folders. It reconciles: at start (watch first, then walk), every `rescan_seconds`, every
    `poll_seconds` where there are no events, after lost events, and below a directory that appears, moves or goes. Two walks
    never run at once. Other threads hand commands to the walker, which it carries out between two files of a walk as well, and
    read the views of the folders, which never change.
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
        self.disk = Disk(path for path, _ in folders)
        self._markers = Markers(self.disk.folder_of)
        self.skipped = Skipped(filters, self.disk.folder_of)
        self._walk: Walk | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._commands = Commands(self._wake.set)
        self._met: collections.deque[str] = collections.deque()
        """Held files that the pipeline has met since."""
        self._unjudged: collections.deque[str] = collections.deque()
        """Missing files that were left alone because another volume was there than at the last walk."""
        self._worker = Worker("reconcile", self._run)
        self.folders = [WatchedFolder(path, wanted, FolderWatch(path, filters, self)) for path, wanted in folders]
        self.reconciles = 0
        """Walks that went through since the start."""

    # Service

    def start(self) -> None:
        self._mount_table.open()
        for folder in self.folders:
            # The first walk asks again a store that is away now.
            with contextlib.suppress(StoreUnavailable):
                self._recall(folder)
            self._arm(folder)
        self.rescan_all("lookaliked started")
        self._commands.expect()
        self._worker.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._worker.join()
        self._commands.close()
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
        self._markers.note(directory)
        self._ask(Request(directory, reason, deliberate=True))

    # Asking

    def compare_again(self, path: str) -> threading.Event:
        """Compare a file or a directory as it is from now on; returns what is set when its differences are pending."""
        try:
            mode = self.disk.lstat(path).st_mode
        except OSError:
            mode = 0
        if not stat.S_ISDIR(mode):
            self._pending.put(path, Hint.FOUND)
        # What is no file any more may have been a directory.
        return self._ask(Request(path, "somebody asked")) if not stat.S_ISREG(mode) else _already()

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
        """Return the watched folder that `path` lies in; None for a path that is not in its one form."""
        if canonical.fault(path):
            return None
        return next((folder for folder in self.folders if folder.contains(path)), None)

    def is_watched(self, path: str) -> bool:
        """Whether `path` lies in a watched folder."""
        return self.folder_of(path) is not None

    def admits(self, path: str, seen: dict[str, bool] | None = None) -> bool:
        """Whether a file of this path belongs in the index, by its names and by the markers and links on the disk.

        A caller with many files at one moment passes the same `seen` for all of them: it holds the answers about their directories.
        """
        folder = self.folder_of(path)
        if folder is None:
            return False
        relative = _relative(folder, path)
        if not self._filters.admits(relative):
            return False
        directory, seen = os.path.dirname(path), {} if seen is None else seen
        if directory not in seen:
            seen[directory] = not self._barrier(folder.path, os.path.dirname(relative))
        return seen[directory]

    def ignores(self, path: str) -> bool:
        """Whether the names in the path of a watched file keep it out of the index."""
        folder = self.folder_of(path)
        return folder is not None and not self._filters.admits(_relative(folder, path))

    def shows(self, path: str) -> bool:
        """Whether answers may name a file: it lies in a watched folder, and nothing that is known excludes it. It reads no disk."""
        folder = self.folder_of(path)
        return (
            folder is not None
            and self._filters.admits(_relative(folder, path))
            and not self._markers.exclude(folder.path, path)
        )

    def _barrier(self, folder: str, relative: str) -> Literal["", "marker", "link"]:
        """Return why no walk comes through a directory: a marker in it or above it, or a symbolic link; empty where one does."""
        for place, name in beneath.directories(folder, os.path.join(folder, relative)):
            if name:
                return "link" if _is_in(place, name, stat.S_ISLNK) else ""
            if _is_in(place, NO_MEDIA):
                return "marker"
        return ""

    def is_reachable(self, path: str) -> bool:
        """Whether the volume of `path` is there, so that a file which an event reports as gone was deleted."""
        folder = self.folder_of(path)
        if folder is None:
            return False
        reachable = folder.is_reachable(path)
        if not reachable and not folder.is_unverified(path):
            # Another volume is there than at the last walk. The path is looked at again once a walk has judged that.
            self._unjudged.append(path)
        return reachable

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

    # Commands: called on any thread, answered when the walker has carried them out

    def approve(self, folder: WatchedFolder) -> int:
        """Delete the missing files of a folder from the index: all that it holds, or everything of a folder that is away.

        Returns how many files that is, once the decision is written down. Raises StoreUnavailable, and QueryError when all of them
        were approved before.
        """
        return self._commands.call(lambda: self._approve(folder))

    def reject(self, folder: WatchedFolder) -> int:
        """Keep the missing files of a folder in the index until they are back, and ask no more.

        Returns how many files are kept, once the decision is written down. An approval stands: what is on its way out of the index is
        not kept. Raises StoreUnavailable, and QueryError when that is all there is.
        """
        return self._commands.call(lambda: self._reject(folder))

    def keep(self, path: str, files: int) -> None:
        """Let so many files of the folder at `path` be missing, as somebody decided in another place. Raises StoreUnavailable.

        The walks that meet those files use the allowance up.
        """
        self._commands.call(lambda: self._keep(path, files))

    def noticed(self, paths: Iterable[str]) -> None:
        """Say that these files were seen on the disk, or are not in the index any more: no hold covers them from now on."""
        views = [view for folder in self.folders if (view := folder.view).held]
        met = [path for path in paths if any(path in view.held for view in views)] if views else []
        if met:
            self._met.extend(met)
            self._commands.post(lambda: self._drop(frozenset(_drained(self._met))))

    def _approve(self, folder: WatchedFolder) -> int:
        known = self._recall(folder)
        holds = [replace(hold, decision="approved") for hold in known.holds]
        if folder.absent:
            paths = frozenset(os.fsdecode(raw) for raw, _ in self._recording.below(folder.path))
            whole = Hold(folder.note, paths, len(paths), folder.view.since, decision="approved")
            holds = [whole] if paths else []
        files = len(held_by(holds) - folder.view.approved)
        self._refuse_if_approved(folder, files)
        self._write(folder, replace(known, holds=tuple(holds)))
        self._tell(folder)
        self._ask(Request(folder.path, "its deletions were approved"))
        return files

    def _reject(self, folder: WatchedFolder) -> int:
        known = self._recall(folder)
        holds = tuple(hold if hold.decision else replace(hold, decision="kept") for hold in known.holds)
        unmet = 0
        if folder.absent:
            unmet = sum(os.fsdecode(raw) not in folder.view.held for raw, _ in self._recording.below(folder.path))
        files = unmet + len(held_by(hold for hold in holds if hold.decision == "kept"))
        self._refuse_if_approved(folder, files)
        self._write(folder, replace(known, holds=holds, kept=unmet if folder.absent else known.kept))
        self._tell(folder)
        return files

    def _refuse_if_approved(self, folder: WatchedFolder, files: int) -> None:
        """Raise QueryError where nothing is left to decide about, for an approval was given that is being carried out."""
        if not files and folder.view.approved:
            said = f"{folder.path}: the deletion of what is missing from it was approved before, and is under way"
            raise QueryError("not_held", said)

    def _keep(self, path: str, files: int) -> None:
        folder = next((folder for folder in self.folders if folder.path == path), None)
        known = self._memory.recall(path) if folder is None else self._recall(folder)
        granted = replace(known, kept=known.kept + files)
        if folder is None:
            self._memory.remember(path, granted)
        else:
            self._write(folder, granted)
            folder.granted += files

    def _drop(self, paths: frozenset[str]) -> None:
        """Take files out of the holds. They are written down later: a hold that covers too much is put right by the next walk."""
        if not paths:
            return
        for folder in self.folders:
            if met := paths & folder.view.held:
                holds = (replace(hold, paths=hold.paths - met) for hold in folder.view.holds)
                folder.view = view_of(folder.view, tuple(hold for hold in holds if hold.paths))
                self._tell(folder)
        # One that is gone again was deleted by somebody: as long as it was held, no event could say so.
        self._pending.put_all([path for path in paths if not self.disk.is_there(path)], Hint.GONE)

    # The reconcile thread

    def _run(self) -> None:
        self._commands.open()
        try:
            self._work()
        finally:
            self._commands.close()

    def _work(self) -> None:
        tended = time.monotonic()
        while not self._is_stopped():
            if request := self._requests.take():
                self._serve(request)
            else:
                self._wake.wait(TEND_SECONDS)
                self._wake.clear()
            # By the clock, not when there is nothing else to do: requests may never cease.
            if time.monotonic() - tended >= TEND_SECONDS:
                self._tend()
                tended = time.monotonic()

    def _is_stopped(self) -> bool:
        """Whether to stop; asked between any two steps, so commands are carried out then."""
        self._commands.serve()
        return self._stop.is_set()

    def _pause(self, seconds: float) -> None:
        """Wait so long, and carry out commands meanwhile."""
        for _ in range(math.ceil(seconds / STEP_SECONDS)):
            if self._is_stopped():
                return
            self._stop.wait(STEP_SECONDS)

    def _serve(self, request: Request) -> None:
        try:
            follow_up = self._reconcile(request)
        except StoreUnavailable as error:
            log.debug("reconciling %s waits: %s", request.directory, error)
            self._requests.defer(request)
            self._pause(OUTAGE_SECONDS)
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
            self._save(folder)
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
        folder.armed_on = volumes(folder.path)
        if mode == "events":
            try:
                folder.watch.arm()
            except OSError as error:
                problem = unusable(folder.path)
                if problem:
                    self._say(folder, *problem)
                    return False
                mode, because = "poll", refusal(error)
        folder.polled_because = because
        folder.view = replace(folder.view, mode=mode)
        if folder.state == "starting" and not folder.held:
            self._say(folder, "watching", because)
        return True

    def _prepare(self, folder: WatchedFolder) -> bool:
        """See to the watches before a walk of all of a folder; returns whether it is there.

        What is polled for want of a watch may have one by now; a file system that was mounted has none yet.
        """
        problem = unusable(folder.path)
        if problem:
            self._say(folder, *problem)
            return False
        if folder.mode == "events" and folder.watch.armed and folder.armed_on == volumes(folder.path):
            folder.watch.watch_refused()
            return True
        return self._arm(folder)

    def _recall(self, folder: WatchedFolder) -> Remembered:
        """Return what is remembered of a folder; its holds stand from then on. Raises StoreUnavailable."""
        if folder.remembered is None:
            folder.remembered = self._memory.recall(folder.path)
            folder.view = replace(view_of(folder.view, folder.remembered.holds), allowance=folder.remembered.kept)
            self._tell(folder)
        return replace(folder.remembered, holds=folder.view.holds)

    def _write(self, folder: WatchedFolder, remembered: Remembered) -> None:
        """Write down what is to be remembered, then act upon it. Raises StoreUnavailable, and changes nothing then."""
        if remembered != folder.remembered:
            self._memory.remember(folder.path, remembered)
            folder.remembered = remembered
        folder.view = replace(view_of(folder.view, remembered.holds), allowance=remembered.kept)

    def _save(self, folder: WatchedFolder) -> None:
        """Write down holds that have become smaller, once they have stopped changing; later, where the store is away."""
        is_changing = folder.shrinking is not folder.view.holds
        folder.shrinking = folder.view.holds
        if not is_changing and folder.remembered is not None and folder.remembered.holds != folder.view.holds:
            with contextlib.suppress(StoreUnavailable):
                self._write(folder, self._recall(folder))

    def _say(self, folder: WatchedFolder, state: str, note: str, last: Pass | None = None) -> None:
        before, folder.told = folder.told, (state, note)
        if before != (state, note) and note:
            log.warning("%s: %s", folder.path, note, extra={"path": folder.path})
        elif state == "watching" and before[0] in ("held", "kept", *ABSENT):
            log.info(
                "%s: the folder is complete again; nothing is held any more", folder.path, extra={"path": folder.path}
            )
        since = time.time() if before[0] != state else folder.view.since
        folder.view = replace(folder.view, state=state, note=note, since=since, last=last or folder.view.last)

    def _reconcile(self, request: Request) -> Request | None:
        """Compare a directory with the index; returns the request that has to be served in its place, if one has."""
        folder = self.folder_of(request.directory)
        if folder is None:
            return None
        whole = request.directory == folder.path
        remembered = self._recall(folder)
        if whole and not self._prepare(folder):
            self._exclude_by_name(folder)
            self._delete_approved(folder)
            return None
        if not whole and (folder.absent or folder.remounted()):
            # Not the volumes that the event came from: only a walk of the whole folder judges what is missing.
            return replace(request, directory=folder.path, deliberate=False)
        log.debug("reconciling %s: %s", request.directory, request.reason, extra={"path": request.directory})
        started = time.monotonic()
        self._markers.begin_walk()
        self.skipped.begin_walk()
        barrier = self._barrier(folder.path, _relative(folder, request.directory))
        self._walk = walk = Walk(
            request.directory,
            self._filters,
            self._is_stopped,
            rest=self._breathe if request.unhurried else None,
            barred=bool(barrier),
            folder=folder.path,
            skipped=self.skipped,
            marked={os.fsencode(request.directory)} if barrier == "marker" else set(),
        )
        seen = folder.survey()
        tops = {*remembered.volumes, *seen.volumes}
        found = compare(walk, self._recording, queue=self._queue, mounts=tops)
        if self._stop.is_set():
            return None
        if folder.survey() != seen:
            # A disk came or went during the walk: nobody can tell which of the two the walk has seen.
            self._pause(TEND_SECONDS)
            return request
        self._markers.end_walk(request.directory, map(os.fsdecode, walk.marked), whole=whole)
        self.skipped.end_walk(request.directory)
        # Whatever their number: somebody has said so.
        self._pending.put_all(found.excluded, Hint.GONE)
        self.reconciles += 1
        seconds = time.monotonic() - started
        RECONCILE_SECONDS.observe(seconds)
        facts = self._facts(folder, found, walk, seen)
        if whole:
            self._settle(folder, judge(facts, self._brake), seen, found)
            last = Pass(time.time(), seconds, walk.files, found.added, found.changed, len(found.missing))
            self._conclude(folder, walk, last)
        return None if whole else self._conclude_part(folder, facts, found, request)

    def _conclude(self, folder: WatchedFolder, walk: Walk, last: Pass) -> None:
        """Note what a walk of all of a folder showed, and say how the folder is watched."""
        about = {"path": folder.path, "duration_seconds": last.seconds}
        log.debug("%s is compared: %d files in %.1f s", folder.path, last.files, last.seconds, extra=about)
        folder.polled_below = polled_part(folder.path, folder.view.seen.volumes)
        folder.notes = tuple(self._shortcomings(folder, walk))
        self._schedule(folder, last)
        self._tell(folder, last)

    def _conclude_part(
        self, folder: WatchedFolder, facts: Facts, found: Comparison, request: Request
    ) -> Request | None:
        """Queue the deletions in a part of a folder; returns a request for all of it where a part cannot decide."""
        # A walk of all of it judges what is held, but an event may say later that somebody deleted what an earlier walk missed.
        held = folder.view.away if request.deliberate else folder.view.held
        part = replace(facts, missing=facts.missing - held, holds=(), allowance=0)
        judgement = judge(replace(part, deliberate=request.deliberate), self._brake)
        if judgement.holds:
            return Request(folder.path, request.reason, waiters=request.waiters)
        self._delete(judgement, found)
        return None

    def _breathe(self, worked_seconds: float) -> None:
        """Leave the disk to others for as long as it was used: half of the time at most goes into a walk that nobody waits for."""
        self._pause(min(worked_seconds, 1.0))

    def _queue(self, paths: list[str], hint: Hint = Hint.FOUND) -> None:
        # A walk is faster than what follows it: it waits, so that a library of any size is listed in bounded memory.
        # Half of the room, so that what happens meanwhile is still listed path by path.
        while len(self._pending) >= max(1, self._max_pending // 2) and not self._is_stopped():
            if self._walk:
                self._walk.let_go()
            self._stop.wait(STEP_SECONDS)
        self._pending.put_all(paths, hint)

    def _exclude_by_name(self, folder: WatchedFolder) -> None:
        """Queue what the names in its path exclude of a folder that is away: that takes no look at its disk."""
        recorded = (os.fsdecode(raw) for raw, _ in self._recording.below(folder.path))
        ignored = (path for path in recorded if not self._filters.admits(_relative(folder, path)))
        while paths := list(itertools.islice(ignored, CHUNK)):
            self._queue(paths, Hint.GONE)

    def _delete_approved(self, folder: WatchedFolder) -> None:
        """Queue the deletions that somebody approved of a folder that is away."""
        approved = iter(sorted(folder.view.approved))
        while paths := list(itertools.islice(approved, CHUNK)):
            self._queue(paths, Hint.GONE)

    def _facts(self, folder: WatchedFolder, found: Comparison, walk: Walk, seen: Survey) -> Facts:
        """Gather everything that the judgement of a walk depends on."""
        remembered = self._recall(folder)
        facts = Facts(
            folder.path,
            frozenset(found.missing),
            found.recorded,
            remembered.volumes,
            seen.volumes,
            unchanged_on=found.unchanged_on({*remembered.volumes, *seen.volumes}),
            empty=not walk.files,
            holds=remembered.holds,
            allowance=remembered.kept,
            moment=time.time(),
        )
        undecided = (hold for hold in judge(facts, self._brake).holds if not (hold.volume or hold.decision))
        at_stake = held_by(undecided)
        # The walk may have begun before they left the index.
        facts = replace(facts, missing=facts.missing - self._unrecorded(at_stake - folder.view.held))
        at_stake &= facts.missing
        if folder.last is not None and not folder.last.added:
            # No file has been added that a held one might have become.
            at_stake -= folder.view.held
        return replace(facts, elsewhere=self._elsewhere(sorted(at_stake), facts.missing))

    def _unrecorded(self, paths: frozenset[str]) -> frozenset[str]:
        """Return those of the paths that no file of the index has."""
        wanted, recorded = sorted(paths), set[str]()
        for start in range(0, len(wanted), CHUNK):
            recorded.update(self._recording.recorded(wanted[start : start + CHUNK]))
        return paths - recorded

    def _elsewhere(self, paths: list[str], missing: frozenset[str]) -> frozenset[str]:
        """Return those of the missing files whose photo is in another watched file that is there."""
        return frozenset(
            path
            for start in range(0, len(paths), CHUNK)
            for some, holders in self._recording.copies(paths[start : start + CHUNK])
            if any(path not in missing and self.admits(path) and self.disk.is_there(path) for path in holders)
            for path in some
        )

    def _settle(self, folder: WatchedFolder, judgement: Judgement, seen: Survey, found: Comparison) -> None:
        """Act upon a judgement: the holds are written down and shown before anything is deleted."""
        known = self._recall(folder)
        # An allowance is for the first walk that meets the files; only what was granted to files yet to come is left.
        granted = min(folder.granted, known.kept - judgement.used)
        new = judgement.held - folder.view.held
        self._write(folder, Remembered(seen.volumes, granted, judgement.holds))
        folder.granted = granted
        folder.view = replace(folder.view, seen=seen)
        self._delete(judgement, found)
        unjudged = [path for path in _drained(self._unjudged) if folder.contains(path)]
        self._pending.put_all(unjudged, Hint.GONE)
        # A file that came back after the walk had passed its place is not missing, and one that has left the index is nobody's to
        # decide about. The pipeline tells of all that happens from now on.
        self._drop(frozenset(path for path in new if self.disk.is_there(path)) | self._unrecorded(new))

    def _delete(self, judgement: Judgement, found: Comparison) -> None:
        self._pending.put_all([*judgement.deleted, *found.mended], Hint.GONE)

    def _schedule(self, folder: WatchedFolder, last: Pass) -> None:
        # A hold is looked at again soon: the disk may be back.
        polled = folder.mode == "poll" or folder.polled_below or bool(folder.watch.refused) or bool(folder.held)
        seconds = self._poll_seconds if polled else self._rescan_seconds
        if folder.held and last.added:
            # What is missing may have been renamed: it is known once what was added has been looked at.
            seconds = min(seconds, RENAMED_SECONDS)
        folder.next_walk = time.monotonic() + seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def _shortcomings(self, folder: WatchedFolder, walk: Walk) -> Iterator[str]:
        """Yield a sentence for each way in which a walk that went through shows the folder to be watched less well."""
        if folder.polled_below and folder.mode == "events":
            yield folder.polled_below
        refused = sum(code != errno.EACCES for code in folder.watch.refused.values())
        if refused:
            few = f"no inotify watch was left for {refused} of the folders in it, so they are polled"
            yield f"{few}; {more_watches(walk.directories)}"
        if walk.unreadable:
            example = os.fsdecode(walk.unreadable[0])
            yield (
                f"{len(walk.unreadable)} of the folders in it cannot be read, {example} among them; "
                "what was indexed there is kept"
            )
        if walk.too_deep:
            top = os.fsdecode(walk.too_deep[0])[: len(folder.path) + SHOWN]
            yield (
                f"the paths of {len(walk.too_deep)} of the folders in it are longer than the {MAX_BYTES:,} bytes that the system takes, "
                f"so their photos are not indexed; one begins with {top}"
            )

    def _tell(self, folder: WatchedFolder, last: Pass | None = None) -> None:
        """Say in which state the folder is, after a walk of all of it where there is a `last` one.

        Only such a walk shows that a folder is there again.
        """
        view = folder.view
        if view.absent and last is None:
            return
        if view.holds:
            self._say(folder, *about(view.holds), last)
        elif last or view.last:
            self._say(folder, "watching", "; ".join(filter(None, (folder.polled_because, *folder.notes))), last)


def _drained(paths: collections.deque[str]) -> Iterator[str]:
    """Take all that is in the queue now: other threads may go on to fill it."""
    for _ in range(len(paths)):
        yield paths.popleft()


def _is_in(place: int, name: str, of: Callable[[int], bool] | None = None) -> bool:
    """Return whether the directory that is open as `place` holds `name`, perhaps of some kind: it is told by the mode."""
    try:
        mode = os.lstat(name, dir_fd=place).st_mode
    except OSError:
        return False
    return of is None or of(mode)


def _relative(folder: WatchedFolder, path: str) -> str:
    return path[len(folder.path) :].strip(os.sep)


def _already() -> threading.Event:
    done = threading.Event()
    done.set()
    return done
