"""Which file systems raise events for every change, told by their type."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

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

    @property
    def remote(self) -> bool:
        """Whether changes may be made without an event here."""
        # fuseblk is a local disk (NTFS, exFAT) behind FUSE.
        return self.type in NETWORK_TYPES or self.type == "fuse" or self.type.startswith("fuse.")


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


def _lies_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _parsed(line: str) -> tuple[str, str, Mount]:
    """Return the mount's id, its parent's id and the mount of one line."""
    before, _, after = line.partition(" - ")
    identity, parent, _, _, point = before.split(" ")[:5]
    # The kernel escapes blanks and backslashes, and nothing else.
    point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
    return identity, parent, Mount(point, after.split(" ", 1)[0])


def _mountinfo() -> str:
    try:
        return os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        return ""
