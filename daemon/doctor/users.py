"""Who a daemon runs as, and who is asking."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class User:
    """A user of this machine, known by number: a name need not be known."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str

    @classmethod
    def of(cls, uid: int) -> User:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid, uid, (uid,), str(uid))
        return cls(uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)), entry.pw_name)

    @classmethod
    def asking(cls) -> User:
        return cls.of(os.geteuid())

    @classmethod
    def owning(cls, path: Path) -> User | None:
        """Return whom the file or directory at `path` belongs to, None where none can be seen."""
        try:
            return cls.of(os.stat(path).st_uid)
        except OSError:
            return None

    @property
    def is_asking(self) -> bool:
        return self.uid == os.geteuid()

    @property
    def can_be_become(self) -> bool:
        """Whether this process may start others as this user."""
        return self.is_asking or os.geteuid() == 0

    def becoming(self) -> dict[str, Any]:
        """Return what subprocess takes to start a process as this user."""
        if self.is_asking:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}


def group_name(gid: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)
