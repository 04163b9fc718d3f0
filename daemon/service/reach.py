"""Whether a service can reach what it is given, inside its sandbox and as the user that it runs as."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import ServiceError

PRIVATE = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - what the units' PrivateTmp=yes replaces
NOBODY = 65534


@dataclass(frozen=True)
class Account:
    """The rights of a user, and of the groups that a unit adds."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, name: str, groups: tuple[str, ...], *, must_exist: bool) -> Account:
        """Return a user's rights; those of a stranger where it is yet to be made. ServiceError for a name that nobody has."""
        further = tuple(_gid(group) for group in groups)
        try:
            entry = pwd.getpwnam(name)
        except KeyError as error:
            if must_exist:
                raise ServiceError(f"there is no user {name} on this machine") from error
            return cls(name, NOBODY, NOBODY, further)
        return cls(name, entry.pw_uid, entry.pw_gid, (*os.getgrouplist(name, entry.pw_gid), *further))

    def may_read(self, path: Path) -> bool:
        """Return whether the account may read the file, or list the directory. Asked as that user, so that ACLs count; root alone can."""
        words = ["test", "-r", str(path)]
        if path.is_dir():
            words += ["-a", "-x", str(path)]
        return not subprocess.run(
            words, user=self.uid, group=self.gid, extra_groups=self.groups, check=False
        ).returncode


def hidden(path: Path) -> bool:
    """Return whether the units hide what lies there: they have directories of their own for what is temporary."""
    return any(Path(os.path.realpath(path)).is_relative_to(directory) for directory in PRIVATE)


def check_command(lookaliked: Path, account: Account | None) -> None:
    """ServiceError where the service could not run the command; `account` is None where it is the user who asks, or not root's to know."""
    advice = "install it where every user may enter: python3 -m venv /opt/lookalike, and then into that"
    if hidden(lookaliked):
        raise ServiceError(
            f"{lookaliked} lies in a directory for temporary files, which a service does not see; {advice}"
        )
    for needed in (lookaliked, Path(sys.executable)):
        if account and not account.may_read(needed):
            raise ServiceError(f"{os.path.realpath(needed)} cannot be run by the user {account.name}; {advice}")


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ServiceError(f"there is no group {group} on this machine") from error
