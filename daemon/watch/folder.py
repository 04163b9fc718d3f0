"""One watched folder, what is known of it, and the sentences that say what is wrong with it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from daemon import beneath
from daemon.watch.brake import held_by
from daemon.watch.mounts import is_remote, root_of, volume_of, volumes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.changes import Hold, Remembered
    from daemon.watch.observer import FolderWatch

ABSENT = ("missing", "unreadable")
"""The states of a folder about which nothing can be found out."""


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


@dataclass(frozen=True, slots=True)
class Survey:
    """The file systems of a folder at one moment: the folder and each mount point in it, with what is there."""

    volumes: Mapping[str, str] = field(default_factory=dict)
    """The identity of each file system: see `mounts.volumes`."""
    roots: Mapping[str, tuple[int, int] | None] = field(default_factory=dict)
    """Device and inode of each top directory; None where something was mounted before and nothing is."""


@dataclass(frozen=True, slots=True)
class FolderView:
    """A watched folder as it is known at one moment. It never changes, so any thread may read it."""

    mode: str = "events"
    state: str = "starting"
    """starting, watching, held, kept, missing or unreadable."""
    since: float = 0.0
    """Unix time at which the folder came into its state."""
    note: str = ""
    holds: tuple[Hold, ...] = ()
    held: frozenset[str] = frozenset()
    """The files of all holds."""
    away: frozenset[str] = frozenset()
    """The held files whose volume is away. No event can tell about them; about other missing files one still may."""
    approved: frozenset[str] = frozenset()
    """The held files that somebody said are deleted; they leave the index as soon as the pipeline comes to them."""
    allowance: int = 0
    """How many more of its files may be missing without a question."""
    seen: Survey = field(default_factory=Survey)
    """The file systems that the last walk of all of it found; empty before that walk."""
    last: Pass | None = None

    @property
    def absent(self) -> bool:
        """Whether nothing can be found out about the folder now, so that all of its files are unverified."""
        return self.state in ABSENT

    @property
    def asks(self) -> bool:
        """Whether the folder waits for somebody to decide about its missing files."""
        if self.absent and not self.allowance and not self.approved:
            return True
        return any(not hold.decision for hold in self.holds)

    def is_unverified(self, path: str) -> bool:
        """Whether the index has a file of this path that may be missing."""
        return self.absent or path in self.held


def view_of(view: FolderView, holds: tuple[Hold, ...]) -> FolderView:
    """Return the view with these holds instead of those it has, and the state that they mean where the folder is there."""
    away = held_by(hold for hold in holds if hold.volume)
    approved = held_by(hold for hold in holds if hold.decision == "approved")
    state, note = view.state, view.note
    if holds and not view.absent:
        state, note = about(holds)
    elif state in ("held", "kept"):
        state, note = "watching", ""
    return replace(view, holds=holds, held=held_by(holds), away=away, approved=approved, state=state, note=note)


def about(holds: Sequence[Hold]) -> tuple[str, str]:
    """Return the state of a folder with these holds, and a note that says why and what to do."""
    reasons = "; ".join(hold.reason for hold in holds)
    if all(hold.decision == "approved" for hold in holds):
        return "held", f"{reasons}; their deletion was approved and is under way"
    if all(hold.decision for hold in holds):
        return "kept", f"{reasons}; they are kept in the index until they are back"
    return "held", (
        f"{reasons}; they are kept in the index until they are back, or until you decide: lookalike deletions list"
    )


@dataclass(slots=True)
class WatchedFolder:
    """One folder, and how it is being watched.

    The walker owns it and is the only thread that changes it, once it runs. Other threads read `view`, and take it once where
    they need several of its facts.
    """

    path: str
    wanted: str
    """auto, events or poll, as configured."""
    watch: FolderWatch
    view: FolderView = field(default_factory=FolderView)
    polled_because: str = ""
    """Why there are no events, a sentence; empty when polling was asked for."""
    told: tuple[str, str] = ("starting", "")
    """State and note as the log last had them."""
    notes: tuple[str, ...] = ()
    """Sentences on how well the folder can be watched, from the last walk of all of it."""
    remembered: Remembered | None = None
    """The facts that outlive the process as they were last written; None until they were read."""
    shrinking: tuple[Hold, ...] = ()
    """Its holds when they were last compared with those that are written down."""
    granted: int = 0
    """How much of `remembered.kept` was decided elsewhere since the start, and not met by a walk."""
    polled_below: str = ""
    """Why a part of the folder has to be polled, a sentence."""
    armed_on: Mapping[str, str] = field(default_factory=dict)
    """The file systems that were there when its watches were set: one that came later has no watch."""
    next_walk: float = 0.0
    """Monotonic time of the next walk that nothing but the clock asks for."""

    @property
    def mode(self) -> str:
        return self.view.mode

    @property
    def state(self) -> str:
        return self.view.state

    @property
    def note(self) -> str:
        return self.view.note

    @property
    def last(self) -> Pass | None:
        return self.view.last

    @property
    def held(self) -> int:
        """How many files are held; of a folder that is away all are, and this does not count them."""
        return len(self.view.held)

    @property
    def absent(self) -> bool:
        return self.view.absent

    @property
    def asks(self) -> bool:
        return self.view.asks

    def contains(self, path: str) -> bool:
        return path == self.path or path.startswith(self.path.rstrip(os.sep) + os.sep)

    def is_unverified(self, path: str) -> bool:
        """Whether the index has a file of this path that may be missing."""
        return self.view.is_unverified(path)

    def is_reachable(self, path: str) -> bool:
        """Whether the volume of `path` is there, so that a file which an event reports as gone was deleted."""
        view = self.view
        if path in view.approved:
            return True
        if view.absent or path in view.away:
            return False
        roots = view.seen.roots
        top = volume_of(path, roots)
        return top is not None and (root := root_of(top, self.path)) is not None and root == roots[top]

    def survey(self) -> Survey:
        """Return the file systems of the folder as they are now."""
        now = volumes(self.path)
        known = {*self.view.seen.volumes, *(self.remembered.volumes if self.remembered else ())}
        return Survey(now, {top: root_of(top, self.path) if top in now else None for top in {*now, *known}})

    def remounted(self) -> bool:
        """Whether other file systems are there than at the last walk of all of the folder."""
        return self.view.seen.volumes != volumes(self.path)


def polled_part(folder: str, found: Mapping[str, str]) -> str:
    """Return why a part of the folder has to be polled, a sentence; empty when events tell about all of it."""
    tops = [(top, identity.partition(" ")[0]) for top, identity in found.items() if top != folder]
    if any(is_remote(kind) for _, kind in tops):
        return (
            "network file systems that are mounted in it raise no events for changes made elsewhere, so they are polled"
        )
    files = [top for top, _ in tops if not beneath.is_directory(folder, top) and beneath.is_there(folder, top)]
    return f"{files[0]} is a mounted file, which raises no events, so the folder is polled" if files else ""


def unusable(path: str) -> tuple[str, str] | None:
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


def refusal(error: OSError) -> str:
    """Return why the events of a folder cannot be had, and what to do about it."""
    if error.errno == errno.EMFILE:
        return (
            "no inotify instance is left, so the folder is polled; raise it: "
            "sudo sysctl fs.inotify.max_user_instances=512"
        )
    if error.errno == errno.ENOSPC:
        return f"no inotify watch is left, so the folder is polled; {more_watches(1)}"
    return f"its events cannot be had ({(error.strerror or str(error)).lower()}), so the folder is polled"


def more_watches(directories: int) -> str:
    return f"raise the limit: sudo sysctl fs.inotify.max_user_watches={max(524_288, 2 * directories)}"
