"""Carries a plan out: whole files or none, and commands whose failure is a sentence."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from daemon import ownership
from daemon.errors import AlreadyRunning, ServiceError
from daemon.paths import LOCK_NAME
from daemon.removing import remove, remove_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from daemon.service.plan import Command, Plan, Writing

# A first start makes the models ready; the unit itself gives up after its TimeoutStartSec.
COMMAND_SECONDS = 3600.0


class CommandFailed(ServiceError):  # noqa: N818 - it reads as the sentence it is
    """A command of the plan failed."""


def carry_out(plan: Plan, tell: Callable[[str], None]) -> None:
    """Do what the plan says, and `tell` each step; ServiceError where a step fails, with those before it done.

    AlreadyRunning when another daemon works in the directory that the plan wants unused.
    """
    for command in plan.first:
        run(command, tell)
    with _held(plan.unused):
        try:
            _change_files(plan, tell)
        except OSError as error:
            raise ServiceError(
                f"{error.filename} cannot be changed: {(error.strerror or str(error)).lower()}"
            ) from error
    for command in plan.commands:
        run(command, tell)


@contextlib.contextmanager
def _held(data_dir: Path | None) -> Iterator[None]:
    """Keep every daemon out of the directory meanwhile; AlreadyRunning where one is in it."""
    if data_dir is None or not data_dir.is_dir():
        yield
        return
    with contextlib.ExitStack() as stack:
        # Not the daemon's own DataLock, which refuses a directory of another user: here it may be root who purges.
        with contextlib.suppress(OSError):
            # No daemon locks a link or a pipe.
            file = stack.enter_context(os.fdopen(ownership.open_existing(data_dir / LOCK_NAME), "rb"))
            _lock(file, data_dir)
        yield


def _lock(file: BinaryIO, data_dir: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(f"nothing is deleted: another lookaliked works in {data_dir}; stop it first") from error


def _change_files(plan: Plan, tell: Callable[[str], None]) -> None:
    for path, mode in plan.directories:
        if not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=mode)
    for writing in plan.writings:
        if writing.is_new or writing.changes:
            tell(f"writing {writing.path}")
            _write(writing)
    for path in plan.removals:
        tell(f"deleting {path}")
        remove(path)
    for directory in plan.emptied:
        with contextlib.suppress(OSError):
            remove_empty(directory)


def _write(writing: Writing) -> None:
    """Put the file in its place at once, so that a reader finds the old one or the new one."""
    directory = writing.path.parent
    directory.mkdir(parents=True, exist_ok=True)
    # Where it is a link, as those who keep their configuration elsewhere have it, the link stays.
    target = os.path.realpath(writing.path)
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=os.path.dirname(target))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(writing.text)
            file.flush()
            os.fchmod(file.fileno(), writing.mode if writing.is_new else os.stat(target).st_mode & 0o7777)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def run(command: Command, tell: Callable[[str], None]) -> None:
    """Run a command; CommandFailed with what it said when it fails, unless it may; ServiceError when it cannot be run."""
    tell(f"running {command}")
    try:
        done = subprocess.run(
            command.words, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS, check=False
        )
    except OSError as error:
        raise ServiceError(f"{command.words[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"{command} did not end within an hour") from error
    if done.returncode and not command.optional:
        said = " ".join(done.stderr.split()) or f"it exited with status {done.returncode}"
        raise CommandFailed(f"{command} failed: {said}")
