"""The words in which the parts speak of a file: what raised a change, what stat said, what was found."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


class Hint(enum.IntEnum):
    """Why a path may differ from the index; it decides how long to wait and whose turn is first, never what is done."""

    FOUND = 0
    """A walk met it: bulk work, behind everything live."""
    CREATED = 1
    """It appeared or got another mode, owner or times, and may still be being written."""
    WRITTEN = 2
    """It was written to or truncated, and nobody was seen to close it since."""
    CLOSED = 3
    """A writer closed it, or it was moved in whole."""
    GONE = 4
    """It was deleted or moved away."""

    def followed_by(self, later: Hint) -> Hint:
        """Return what a path is pending for when this was said of it, and then `later`.

        The latest event tells how the path is now. What a walk found long ago does not; and a file that gets its mode or its times
        is as closed, or as open, as before: that is how copies end.
        """
        if later is Hint.FOUND or (later is Hint.CREATED and self in (Hint.WRITTEN, Hint.CLOSED)):
            return self
        return later


@dataclass(frozen=True, slots=True)
class FileStat:
    """What identifies a file's content without reading it: size in bytes, mtime in nanoseconds, and where it lies."""

    size: int
    mtime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, result: os.stat_result) -> FileStat:
        return cls(result.st_size, result.st_mtime_ns, result.st_dev, result.st_ino)

    def unchanged(self, other: FileStat) -> bool:
        """Whether both describe the same content in the same place; device numbers change across reboots and do not count."""
        return (self.size, self.mtime_ns, self.inode) == (other.size, other.mtime_ns, other.inode)


def signature(stat: os.stat_result) -> str:
    """Return what tells one state of an unreadable file from the next: chmod changes only its ctime."""
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino} {stat.st_ctime_ns}"


def inode_of(signature: str) -> int:
    """Return the inode in what `signature` returned."""
    return int(signature.split(" ")[2])


@dataclass(frozen=True, slots=True)
class PhotoInfo:
    """What never changes for one content: the whole BLAKE3 digest (hex), pixels as shown, format, EXIF time, bytes."""

    digest: str
    width: int
    height: int
    format: str
    taken_at: str
    """ISO 8601 without a zone, as cameras write it; empty when the file does not say."""
    bytes: int

    @property
    def id(self) -> int:
        """The first 63 bits of the digest: the photo's id in both stores."""
        return photo_id(self.digest)


def photo_id(digest: str) -> int:
    """Return the non-negative INT64 id of a photo from the hex digest of its bytes."""
    return int(digest[:16], 16) >> 1


Decision = Literal["", "kept", "approved"]
"""The decision about a hold; empty while nobody has made one."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Files of one volume that are missing. They stay in the index until the volume is back or somebody decides."""

    reason: str
    """A sentence that says why they are held."""
    paths: frozenset[str]
    recorded: int
    """How many files the index had of the folder when the hold began."""
    since: float
    """Unix time at which the hold began."""
    volume: str = ""
    """The file system that went away, as `mounts.volumes` describes it; empty when the files are missing from one that is there."""
    top: str = ""
    """The directory at which that file system was; empty together with `volume`."""
    decision: Decision = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """Facts about a watched folder that outlive the process."""

    volumes: Mapping[str, str] = field(default_factory=dict)
    """The directories at which its file systems were mounted at the last walk of all of it, the folder first, each with its identity."""
    kept: int = 0
    """How many more of its files may be missing without a question: somebody decided to keep them before a walk met them."""
    holds: tuple[Hold, ...] = ()

    @property
    def forgiven(self) -> int:
        """How many of its files may be missing without a question, in all."""
        return self.kept + sum(len(hold.paths) for hold in self.holds if hold.decision == "kept")
