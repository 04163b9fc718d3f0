"""What a search found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.report.text import printable

if TYPE_CHECKING:
    from cli.answers import SearchAnswer


def search_lines(answer: SearchAnswer) -> list[str]:
    """Return a line with score and path for each photo, and one more for each of its copies."""
    scores = [f"{match['score']:.3f}" for match in answer["results"]]
    width = max(map(len, scores), default=0)
    lines = []
    for score, match in zip(scores, answer["results"], strict=True):
        first, *copies = map(printable, match["paths"])
        lines.append(f"{score:>{width}}  {first}")
        lines += [f"{'':>{width}}= {copy}" for copy in copies]
    return lines
