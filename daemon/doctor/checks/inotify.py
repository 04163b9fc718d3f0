"""The kernel's limits on events, against the directories that there are and what other programs have taken: inotify(7)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from daemon.doctor.amounts import count
from daemon.doctor.finding import Finding, note, ok, problem, warning
from daemon.doctor.processes import inotify_of
from daemon.holder import lock_holder
from daemon.watch.mounts import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.config import Folder
    from daemon.doctor.context import Context
    from daemon.doctor.processes import Held

LIMITS = "sys/fs/inotify"
DEFAULT_QUEUE = 16_384
"""What the kernel queues where nobody said otherwise; lookaliked reads as much at a time."""
ENOUGH_WATCHES = 524_288
ENOUGH_INSTANCES = 512
NARROW = 0.8
"""From this share of a limit on, a few more directories are too many."""
SPARE_INSTANCES = 8


def check(context: Context) -> Iterator[Finding]:
    watched = {str(folder.path) for folder in context.folders if not _is_polled(folder, context)}
    counts = [census for census in context.census if census.folder in watched and not census.reason]
    running = lock_holder(context.lock, context.machine.proc)
    others = inotify_of(
        context.user.uid, context.machine.proc, leaving_out=frozenset({running} if running is not None else ())
    )
    directories = sum(census.directories for census in counts)
    at_least = "" if all(census.complete for census in counts) else "at least "
    yield from _watches(context, directories, at_least, others)
    yield from _instances(context, len(watched), others)
    queue = context.machine.number(f"{LIMITS}/max_queued_events")
    if queue is not None and queue < DEFAULT_QUEUE:
        yield warning(
            f"the kernel queues {queue:,} events (fs.inotify.max_queued_events) where {DEFAULT_QUEUE:,} are usual; when more come at "
            "once, the folder is walked",
            *_raised("max_queued_events", DEFAULT_QUEUE),
        )


def _watches(context: Context, directories: int, at_least: str, others: Held) -> Iterator[Finding]:
    limit = context.machine.number(f"{LIMITS}/max_user_watches")
    if limit is None:
        yield note("this kernel does not tell its limit of watches (fs.inotify.max_user_watches)")
        return
    needed = directories + others.watches
    told = (
        f"watches: {at_least}{directories:,} for the directories here, {others.watches:,} held by other programs of "
        f"{context.user.name}, {limit:,} allowed (fs.inotify.max_user_watches)"
    )
    enough = max(ENOUGH_WATCHES, 2 * needed)
    if needed > limit:
        yield problem(
            f"{told}: what gets none is polled, every {context.settings.watch.poll_seconds:g} s",
            *_raised("max_user_watches", enough),
        )
    elif needed > NARROW * limit:
        yield warning(f"{told}: little is left", *_raised("max_user_watches", enough))
    else:
        yield ok(told)
    if others.hidden:
        yield note(
            f"{count(others.hidden, 'process', 'processes')} of {context.user.name} could not be looked into, and may hold watches too",
            *(() if os.geteuid() == 0 else (context.as_root,)),
        )


def _instances(context: Context, folders: int, others: Held) -> Iterator[Finding]:
    limit = context.machine.number(f"{LIMITS}/max_user_instances")
    if limit is None:
        return
    needed = folders + others.instances
    told = (
        f"instances: {folders} for the folders here, {others.instances:,} held by other programs of {context.user.name}, "
        f"{limit:,} allowed (fs.inotify.max_user_instances)"
    )
    enough = max(ENOUGH_INSTANCES, 2 * needed)
    if needed > limit:
        yield problem(f"{told}: a folder that gets none is polled", *_raised("max_user_instances", enough))
    elif needed + SPARE_INSTANCES > limit:
        yield warning(f"{told}: few are left", *_raised("max_user_instances", enough))


def _is_polled(folder: Folder, context: Context) -> bool:
    return folder.watch == "poll" or (folder.watch == "auto" and is_remote(context.machine.kind_of(folder.path)))


def _raised(limit: str, value: int) -> tuple[str, str]:
    """Return what raises a limit now, and what keeps it raised: sysctl.d(5)."""
    setting = f"fs.inotify.{limit}={value}"
    kept = f"echo {setting} | sudo tee /etc/sysctl.d/60-lookalike-{limit.replace('_', '-')}.conf"
    return f"sudo sysctl -w {setting}", f"{kept}  # keeps it after a restart of the machine"
