"""The file systems that a folder lies on: whether they raise events for every change, and whether they are still there."""

from __future__ import annotations

import contextlib
import os
import re
import select
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import beneath

if TYPE_CHECKING:
    from collections.abc import Iterable

NETWORK_TYPES = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fhgfs",
        "gfs",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
    ]
)
"""inotify(7) reports what this machine changes; on these others change files too. FUSE is counted in by its prefix."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo: proc_pid_mountinfo(5)."""

    point: str
    type: str
    source: str = ""
    """The device or server it comes from, as the kernel writes it."""

    @property
    def remote(self) -> bool:
        """Whether changes may be made without an event here."""
        return is_remote(self.type)


def is_remote(kind: str) -> bool:
    """Whether a file system of this type may be changed without an event here."""
    # fuseblk is a local disk (NTFS, exFAT) behind FUSE.
    return kind in NETWORK_TYPES or kind == "fuse" or kind.startswith("fuse.")


def mount_of(path: str, mountinfo: str | None = None) -> Mount:
    """Return the mount that `path` lies on; `mountinfo` is the table's text when it is not to be read from /proc."""
    real = os.path.realpath(path)
    children: dict[str, list[tuple[str, Mount]]] = {}
    mounts = [_parsed(line) for line in (_mountinfo() if mountinfo is None else mountinfo).split("\n") if line]
    known = {identity for identity, _, _ in mounts}
    for identity, parent, mount in mounts:
        if _lies_in(real, mount.point):
            above = parent if parent in known and parent != identity else ""
            children.setdefault(above, []).append((identity, mount))
    found = Mount("/", "unknown")
    at = ""
    # As the kernel resolves a path: of the mounts in this one, the first on the way; what it covers is not met.
    while at in children:
        at, found = min(reversed(children.pop(at)), key=lambda child: len(child[1].point))
    return found


def volumes(folder: str) -> dict[str, str]:
    """Return `folder` and every mount point below it, each with what tells its file system from another one.

    The identity is the type, the id that statfs(2) gives (for many file systems it survives a reboot), and the inode of the top
    directory. FUSE gives no id, so the mount's source stands in its place. The identity is empty where it cannot be found out.
    """
    real, table = os.path.realpath(folder), _mountinfo()
    found = {folder: mount_of(folder, table)}
    for _, _, mount in (_parsed(line) for line in table.split("\n") if line):
        if mount.point != real and _lies_in(mount.point, real):
            found[folder + mount.point[len(real) :]] = mount
    return {path: _identity(folder, path, mount) for path, mount in found.items()}


def _identity(folder: str, path: str, mount: Mount) -> str:
    try:
        descriptor = beneath.opened(folder, path, os.O_PATH)
    except OSError:
        return ""
    try:
        number = os.statvfs(descriptor).f_fsid
        return f"{mount.type} {f'{number:x}' if number else mount.source} {os.fstat(descriptor).st_ino}"
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def root_of(directory: str | bytes, folder: str | bytes = "") -> tuple[int, int] | None:
    """Return what tells a directory from another one that takes its place, None when the directory is missing.

    The directory lies in `folder`, or else it is a folder itself, which may be named by a link.
    """
    try:
        found = beneath.lstat(folder or directory, directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def volume_of(path: str, tops: Iterable[str]) -> str | None:
    """Return the innermost of the directories `tops` that `path` lies in."""
    return max((top for top in tops if _lies_in(path, top)), key=len, default=None)


class MountTable:
    """Tells when something was mounted or unmounted: proc_pid_mounts(5)."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._file: int | None = None

    def open(self) -> None:
        with contextlib.suppress(OSError):
            self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._poll.register(self._file, select.POLLPRI)

    def changed(self) -> bool:
        """Whether the table has changed since the last time this was asked."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        if self._file is not None:
            self._poll.unregister(self._file)
            os.close(self._file)
            self._file = None


def _lies_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _parsed(line: str) -> tuple[str, str, Mount]:
    """Return the mount's id, its parent's id and the mount of one line."""
    before, _, after = line.partition(" - ")
    identity, parent, _, _, point = before.split(" ")[:5]
    # The kernel escapes blanks and backslashes, and nothing else.
    point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
    kind, source, *_ = after.split(" ")
    return identity, parent, Mount(point, kind, source)


def _mountinfo() -> str:
    try:
        return os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        return ""
