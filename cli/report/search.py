"""What a search found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.report.text import printable

if TYPE_CHECKING:
    from cli.answers import SearchAnswer


def search_lines(answer: SearchAnswer) -> list[str]:
    """Return a line with score and path for each photo, and one more for each of its copies; what is unverified is marked."""
    scores = [f"{match['score']:.3f}" for match in answer["results"]]
    width = max(map(len, scores), default=0)
    lines = []
    for score, match in zip(scores, answer["results"], strict=True):
        unverified = match.get("unverified", ())
        first, *copies = (printable(path) + "  (unverified)" * (path in unverified) for path in match["paths"])
        lines.append(f"{score:>{width}}  {first}")
        lines += [f"{'':>{width}}= {copy}" for copy in copies]
    return lines
