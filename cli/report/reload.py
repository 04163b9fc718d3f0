"""What a reload has changed, in lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.answers import ReloadAnswer


def reload_lines(answer: ReloadAnswer) -> Iterator[str]:
    """Yield a line for what is in force, and one for what needs a restart."""
    applied, restart = answer["applied"], answer["restart"]
    if applied:
        yield f"in force: {', '.join(applied)}"
    elif not restart:
        yield "nothing has changed"
    if restart:
        yield f"after a restart: {', '.join(restart)}"
