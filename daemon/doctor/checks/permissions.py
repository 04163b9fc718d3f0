"""Our own directories and what is secret: whose they are, and who else may read or write them."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.doctor.finding import Finding, note, ok, problem, warning
from daemon.ownership import is_of_own_group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context
    from daemon.doctor.users import User
    from daemon.documents import Place

SECRETS: tuple[Place, ...] = (("redis", "url"), ("milvus", "token"), ("api", "token"))
LEVELS = 2
"""How deep into a directory of ours files of others are looked for: what was once run as root left some at its top."""


def check(context: Context) -> Iterator[Finding]:
    settings = context.settings
    found = [
        *_directory(context, "data_dir", context.data_dir, private=True),
        *_directory(context, "cache_dir", settings.cache_dir),
        *_directory(context, "runtime_dir", settings.runtime_dir),
        *_secrets(context),
        *_key(context),
    ]
    yield from found
    if not any(finding.level in ("warning", "problem") for finding in found):
        yield ok(f"what lookalike keeps belongs to {context.user.name}, and is closed to others")


def _directory(context: Context, key: str, directory: Path, *, private: bool = False) -> Iterator[Finding]:
    user = context.user
    place = shlex.quote(str(directory))
    try:
        found = os.stat(directory)
    except FileNotFoundError:
        yield from _to_be_made(key, directory, user)
        return
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        yield note(f"{key} ({directory}) cannot be looked at by you: {reason}", context.as_root)
        return
    if not stat.S_ISDIR(found.st_mode):
        yield problem(f"{key} ({directory}) is no directory; move it away", f"mv {place} {place}.old")
        return
    if found.st_uid != user.uid:
        owner = type(user).of(found.st_uid).name
        yield problem(
            f"{key} ({directory}) belongs to {owner}, and the daemon runs as {user.name}",
            f"sudo chown -R {user.name}: {place}",
        )
    if found.st_mode & stat.S_IWOTH:
        yield problem(
            f"{key} ({directory}) can be written by every user, so lookaliked does not use it", f"chmod o-w {place}"
        )
    elif found.st_mode & stat.S_IWGRP and not is_of_own_group(found):
        yield problem(
            f"{key} ({directory}) can be written by its group, so lookaliked does not use it", f"chmod g-w {place}"
        )
    elif private and stat.S_IMODE(found.st_mode) & 0o077:
        yield warning(
            f"{key} ({directory}) has mode {stat.S_IMODE(found.st_mode):04o}: others may look into what holds the names of all "
            "photos",
            f"chmod 700 {place}",
        )
    if found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        yield problem(f"{key} ({directory}) is closed to its owner", f"chmod u+rwx {place}")
    yield from _read_only(key, directory)
    if stranger := _of_others(directory, user):
        yield problem(
            f"{stranger} does not belong to {user.name}, as after lookaliked was run as another user once",
            f"sudo chown -R {user.name}: {place}",
        )


def _to_be_made(key: str, directory: Path, user: User) -> Iterator[Finding]:
    """A directory that is not there is made at the start, where that is allowed."""
    above = next(parent for parent in directory.parents if os.path.lexists(parent))
    if user.is_asking and not os.access(above, os.W_OK | os.X_OK):
        yield problem(
            f"{key} ({directory}) is not there, and {user.name} may not make it in {above}",
            f"sudo install -d -m 700 -o {user.name} {shlex.quote(str(directory))}",
        )


def _read_only(key: str, directory: Path) -> Iterator[Finding]:
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        yield problem(
            f"{key} ({directory}) lies on a file system that is mounted read-only, as after an error of its disk",
            f"findmnt --target {shlex.quote(str(directory))}  # and dmesg says why",
        )


def _of_others(directory: Path, user: User, levels: int = LEVELS) -> str:
    """Return the first thing in a directory that belongs to another user, an empty string where there is none."""
    try:
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return ""
    for entry in found:
        try:
            if entry.stat(follow_symlinks=False).st_uid != user.uid:
                return entry.path
            is_directory = entry.is_dir(follow_symlinks=False)
        except OSError:
            continue
        if is_directory and levels > 1 and (stranger := _of_others(Path(entry.path), user, levels - 1)):
            return stranger
    return ""


def _secrets(context: Context) -> Iterator[Finding]:
    """What is secret in the configuration file, where others may read that."""
    reading, file = context.reading, context.file
    if reading is None or file is None:
        return
    written = [".".join(map(str, place)) for place in SECRETS if _is_secret(reading.document.data, place)]
    try:
        mode = stat.S_IMODE(os.stat(file).st_mode)
    except OSError:
        return
    if written and mode & stat.S_IROTH:
        yield problem(
            f"{file} holds {' and '.join(written)}, and every user of this machine may read it",
            f"chmod o-rwx {shlex.quote(str(file))}",
        )


def _is_secret(data: object, place: Place) -> bool:
    for key in place:
        data = data.get(key) if isinstance(data, dict) else None
    # An address alone is none.
    return isinstance(data, str) and (place[-1] == "token" or "@" in data)


def _key(context: Context) -> Iterator[Finding]:
    """The key of the certificate that TCP is served with."""
    key = context.settings.api.key
    if key is None:
        return
    try:
        found = os.stat(key)
    except OSError as error:
        yield problem(f"api.key ({key}) cannot be read: {(error.strerror or str(error)).lower()}", f"ls -l {key}")
        return
    if found.st_mode & stat.S_IROTH:
        yield problem(f"api.key ({key}) can be read by every user", f"chmod o-rwx {shlex.quote(str(key))}")
