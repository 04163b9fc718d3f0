"""What a comparison of disk, mapping and vectors found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.report.text import count, duration, examples
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.answers import VerifyAnswer


def verify_lines(answer: VerifyAnswer) -> list[str]:
    """Return every kind of difference with its examples, and one line with what was compared at the end."""
    lines = []
    for difference in answer["differences"]:
        lines.append(f"{printable(difference['kind'])} ({difference['count']:,}): {printable(difference['what'])}")
        lines += examples(difference["examples"], difference["count"])
    return [*lines, f"{_found(answer)}: {', '.join(_compared(answer))}, in {duration(answer['took_seconds'])}"]


def _found(answer: VerifyAnswer) -> str:
    differences = sum(difference["count"] for difference in answer["differences"])
    left = count(differences, "difference") if differences else "no difference"
    if differences and answer.get("at_least"):
        left = f"at least {left}"
    return f"{answer['mended']:,} mended, {left} left" if answer["repaired"] else left


def _compared(answer: VerifyAnswer) -> Iterator[str]:
    yield count(answer["files"], "file")
    yield count(answer["photos"], "photo")
    for model in answer["models"]:
        yield f"{count(model['vectors'], 'vector')} of {printable(model['name'])}"
    if answer["deep"]:
        yield f"{count(answer['sampled'], 'photo')} read again and searched for"
    if answer["failures"]:
        yield f"{count(answer['failures'], 'file')} that could not be indexed"
