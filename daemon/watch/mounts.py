"""Which file systems raise events for every change, told by their type."""

from __future__ import annotations

import os
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
    found = Mount("/", "unknown")
    for line in (_mountinfo() if mountinfo is None else mountinfo).splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].encode().decode("unicode_escape")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Later lines lie over earlier ones.
        if inside and len(point) >= len(found.point):
            found = Mount(point, after.split(" ", 1)[0])
    return found


def _mountinfo() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
