"""What a sync came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.report.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.answers import SyncAnswer


def sync_line(answer: SyncAnswer) -> str:
    """Return whether the index holds what was on disk."""
    files = count(answer["files"], "file")
    if answer["complete"]:
        return f"in step: {files}"
    # While the disk is still being compared, nobody knows how many.
    to_go = f", {count(answer['pending'], 'path')} to go" if answer["pending"] else ""
    return f"not in step: {files}{to_go}"


def sync_notices(answer: SyncAnswer) -> Iterator[str]:
    """Yield why the sync is not complete, and which files it leaves out: those that are held, and those that failed."""
    yield from answer["reasons"]
    for held in answer["held"]:
        yield f"held: {count(held['files'], 'file')} below {held['folder']}: {held['reason']}"
    if answer["held"]:
        yield "held: see lookalike deletions list"
    for failure in answer["failed"]:
        yield f"failed: {failure['path']}: {failure['reason']}"
    if unnamed := answer["failures"] - len(answer["failed"]):
        yield f"failed: {unnamed:,} more, see lookalike failures list"
