"""What is missing on disk and kept in the index."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cli.report.text import age, count, examples
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.answers import Deletions, DeletionsAnswer

_EXAMPLES = 5


def deletion_lines(answer: DeletionsAnswer, *, now: float) -> list[str]:
    """Return for each folder why deletions are held, some of them, and how to decide; `now` is seconds since the epoch."""
    lines: list[str] = []
    for held in answer["folders"]:
        lines += ([""] if lines else []) + list(_folder(held, now))
    return lines


def _folder(held: Deletions, now: float) -> Iterator[str]:
    folder = _argument(held["folder"])
    yield f"{printable(held['folder'])}  {printable(held['state'])}"
    yield f"  {printable(held['reason'])}"
    yield f"  {held['files']:,} of {count(held['recorded'], 'file')}, {age(held['since'], now)}"
    more = f": lookalike deletions list --paths {folder}"
    yield from (f"  {line}" for line in examples(held["paths"][:_EXAMPLES], held["files"], more))
    yield f"  deleted on purpose:  lookalike deletions approve {folder}"
    if held["state"] != "kept":
        yield f"  to be kept:          lookalike deletions reject {folder}"


def _argument(name: str) -> str:
    return printable(shlex.quote(name))
