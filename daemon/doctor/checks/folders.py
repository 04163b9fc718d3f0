"""The folders: there, and readable for the user that the daemon runs as, with all that is in them."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import ownership
from daemon.doctor.amounts import count
from daemon.doctor.census import NO_ANSWER
from daemon.doctor.finding import Finding, note, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.census import Census
    from daemon.doctor.context import Context
    from daemon.doctor.users import User


def check(context: Context) -> Iterator[Finding]:
    if not context.folders:
        yield note("none is configured, so there is none to look at; name one after the command, or under 'folders'")
        return
    if context.looker != context.user:
        yield note(
            f"the daemon runs as {context.user.name}, and what follows is what {context.looker.name} may read",
            context.as_root,
        )
    for census in context.census:
        yield from _folder(census, context.looker)


def _folder(census: Census, user: User) -> Iterator[Finding]:
    path = Path(census.folder)
    if census.reason:
        yield _away(path, census.reason, user)
        return
    if census.shut:
        example = census.examples["shut"][0]
        yield problem(
            f"{census.at_least}{census.shut:,} of the directories in {path} cannot be read by {user.name}, {example} among "
            "them; what is in them is not indexed",
            *_let_in(example, user),
        )
    if census.locked:
        example = census.examples["locked"][0]
        yield problem(
            f"{census.at_least}{census.locked:,} of the photos in {path} cannot be read by {user.name}, {example} among them",
            *_let_in(os.path.dirname(example), user),
        )
    counted = f"{path}: {census.at_least}{count(census.photos, 'photo')} in {count(census.directories, 'directory', 'directories')}"
    if not census.photos and not census.shut:
        yield warning(f"{counted}; nothing in it is a photo that lookalike reads", f"ls -la {shlex.quote(str(path))}")
    else:
        yield ok(counted)


def _away(path: Path, reason: str, user: User) -> Finding:
    if reason == NO_ANSWER:
        # Whoever looks any closer hangs as well.
        return problem(f"{path} cannot be read: {reason}", "findmnt --types nfs,nfs4,cifs,fuse.sshfs")
    is_barred = ownership.is_barred(path)
    if not is_barred and not os.path.lexists(path):
        return problem(
            f"{path} does not exist; mount its disk, or take it out of 'folders'",
            f"findmnt --target {shlex.quote(str(path.parent))}",
        )
    if not is_barred and not os.path.isdir(path):
        return problem(f"{path} is not a folder; name the one that it lies in", f"ls -la {shlex.quote(str(path))}")
    barrier = _barrier(path, user)
    if barrier is not None and barrier != path:
        return problem(
            f"{user.name} may not pass through {barrier}, so {path} cannot be read",
            f"sudo setfacl -m u:{user.name}:x {shlex.quote(str(barrier))}",
        )
    return problem(f"{path} cannot be read by {user.name}: {reason}", *_let_in(str(path), user))


def _let_in(directory: str, user: User) -> tuple[str, ...]:
    """Return what lets a user read all that is in a directory, and no more than that."""
    place = shlex.quote(directory)
    if _owner(directory) == user.uid:
        return (f"chmod -R u+rX {place}",)
    return (f"sudo setfacl -R -m u:{user.name}:rX -m d:u:{user.name}:rX {place}",)


def _barrier(path: Path, user: User) -> Path | None:
    """Return the outermost directory on the way to `path` whose mode keeps a user out."""
    for directory in (*reversed(path.parents), path):
        try:
            found = os.stat(directory)
        except OSError:
            return directory
        if not _may_pass(found, user):
            return directory
    return None


def _may_pass(found: os.stat_result, user: User) -> bool:
    """Whether a mode lets a user through; an access control list is not read, and may allow more."""
    if user.uid == 0:
        return True
    if found.st_uid == user.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in user.groups:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _owner(directory: str) -> int | None:
    try:
        return os.stat(directory).st_uid
    except OSError:
        return None
