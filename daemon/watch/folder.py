"""One watched folder, what is known of it, and the sentences that say what is wrong with it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.changes import Hint
from daemon.watch.mounts import is_remote, root_of, volume_of, volumes

if TYPE_CHECKING:
    from daemon.changes import Remembered
    from daemon.watch.brake import Hold
    from daemon.watch.observer import FolderWatch

ABSENT = ("missing", "unreadable")
"""States of a folder of which nothing can be told."""


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
    """One folder, and how it is being watched. Changed by the thread that walks alone."""

    path: str
    wanted: str
    """auto, events or poll, as configured."""
    watch: FolderWatch
    mode: str = "events"
    state: str = "starting"
    """starting, watching, held, kept, missing or unreadable."""
    since: float = 0.0
    """Unix time at which it came into its state."""
    note: str = ""
    polled_because: str = ""
    """Why there are no events, a sentence; empty when polling was asked for."""
    hold: Hold | None = None
    remembered: Remembered | None = None
    """None until it was read from the index."""
    mounts: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    """The mount points below it, with device and inode of what was there at the last walk; None where nothing was mounted."""
    approved: frozenset[str] = frozenset()
    """Files that somebody said are deleted."""
    remote_below: bool = False
    """Whether a network file system is mounted below it."""
    given_up: bool = False
    """Somebody said so of the whole folder while it was away."""
    granted: int = 0
    """How many more of its files may be missing, as was decided elsewhere, and no walk has met yet."""
    next_walk: float = 0.0
    """Monotonic time of the next walk that nothing but the clock asks for."""
    last: Pass | None = None

    @property
    def held(self) -> int:
        """How many deletions are not carried out."""
        return len(self.hold.paths) if self.hold else 0

    @property
    def absent(self) -> bool:
        return self.state in ABSENT

    @property
    def asks(self) -> bool:
        """Whether it waits for somebody to decide what becomes of its missing files."""
        decided = self.hold.kept if self.hold else self.remembered is not None and self.remembered.kept > 0
        return (self.absent or self.hold is not None) and not decided

    def contains(self, path: str) -> bool:
        return path == self.path or path.startswith(self.path.rstrip(os.sep) + os.sep)

    def note_mounts(self) -> dict[str, str]:
        """Note what is mounted below the folder, now and at earlier starts, and return what is now: see mounts.volumes()."""
        now = volumes(self.path)
        known = self.remembered.volumes if self.remembered else {}
        self.mounts = {top: root_of(top) if top in now else None for top in {*now, *known} if top != self.path}
        self.remote_below = any(
            is_remote(identity.partition(" ")[0]) for top, identity in now.items() if top != self.path
        )
        return now

    def remounted(self) -> bool:
        """Whether file systems were mounted or unmounted below the folder since the last note."""
        mounted = {top for top, root in self.mounts.items() if root is not None}
        return mounted != volumes(self.path).keys() - {self.path}

    def is_reachable(self, path: str, hint: Hint) -> bool:
        """Whether what `path` lies on is there, so that a missing file is a deleted file; `hint` says what raised the question."""
        if self.given_up or path in self.approved:
            return True
        # That a held file is gone is known: only an event, as of one that came back, tells of a deletion.
        if not self.watch.folder_is_same() or (hint is not Hint.GONE and self._holds(path)):
            return False
        mount = volume_of(path, self.mounts)
        return mount is None or ((root := root_of(mount)) is not None and root == self.mounts[mount])

    def is_unverified(self, path: str) -> bool:
        """Whether a file of the index cannot be told to be there."""
        return self.absent or self._holds(path)

    def _holds(self, path: str) -> bool:
        return self.hold is not None and path in self.hold.paths


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
