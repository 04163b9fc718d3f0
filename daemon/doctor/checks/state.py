"""What the running daemon says is wrong, and what waits for somebody."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from daemon.doctor.amounts import count
from daemon.doctor.finding import Finding, note, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daemon.doctor.context import Context

SLOW_SECONDS = 600.0
"""A path that has waited for so long waits for something else than its turn."""


def check(context: Context) -> Iterator[Finding]:
    status = context.status
    if status is None:
        yield note("no daemon answers, so what it would say of itself is not here", "lookaliked run")
        return
    found = [*_reasons(status), *_left(status), *_lost(status)]
    yield from found
    if not found and status["state"] == "degraded":
        yield note("degraded, since a store is away: see stores", "lookalike status")
    elif not found:
        yield ok(f"{status['state']}, {count(status['photos'], 'photo')} in {count(status['files'], 'file')}")


def _reasons(status: Mapping[str, Any]) -> Iterator[Finding]:
    outages = {store["reason"] for store in status["stores"]}
    for reason in status["reasons"]:
        # The stores have a check of their own.
        if reason not in outages:
            yield problem(reason.removesuffix("."), *_mend(reason, status))
    for folder in status["folders"]:
        if folder["note"] and not any(folder["note"] in reason for reason in status["reasons"]):
            yield note(f"{folder['path']}: {folder['note']}")


def _mend(reason: str, status: Mapping[str, Any]) -> tuple[str, ...]:
    folder = next((one["path"] for one in status["folders"] if reason.startswith(f"{one['path']}: ")), None)
    if folder is None:
        return ("lookalike status",)
    place = shlex.quote(folder)
    return (
        f"lookalike deletions list {place}",
        f"lookalike deletions approve {place}  # if they were deleted on purpose",
    )


def _left(status: Mapping[str, Any]) -> Iterator[Finding]:
    if status["failures"]:
        yield warning(
            f"{count(status['failures'], 'file')} could not be indexed",
            "lookalike failures list",
            "lookalike failures retry  # once the reason is gone",
        )
    if status["held_deletions"] and not status["reasons"]:
        yield note(f"{count(status['held_deletions'], 'missing file')} kept in the index", "lookalike deletions list")
    for model in status.get("retired_models", ()):
        yield note(
            f"{model['name']} is no longer configured, and has {count(model['photos'], 'vector')}",
            f"lookalike models remove {shlex.quote(model['name'])}",
        )


def _lost(status: Mapping[str, Any]) -> Iterator[Finding]:
    unwatched = sum(folder.get("unwatched", 0) for folder in status["folders"])
    if unwatched:
        yield warning(
            f"{count(unwatched, 'directory', 'directories')} polled, for want of a watch or of a permission: see inotify and folders",
            "lookalike status",
        )
    if overflows := status.get("overflows", 0):
        yield note(
            f"the kernel dropped events {count(overflows, 'time')} since the start, and the folder was walked each time",
            "sudo sysctl -w fs.inotify.max_queued_events=65536",
        )
    if status["pending"] and status["oldest_pending_seconds"] > SLOW_SECONDS:
        minutes = status["oldest_pending_seconds"] / 60
        yield warning(
            f"a file has been waiting for {minutes:,.0f} minutes to be indexed; {status['pending']:,} are to go",
            "lookalike status",
        )
