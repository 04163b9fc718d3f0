"""What a search found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.report.text import count
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.answers import SearchAnswer

# Neighbours in a fusion differ by 1/61 - 1/62 = 0.0003.
_DECIMALS = {"rrf": 4}


def search_lines(answer: SearchAnswer) -> list[str]:
    """Return a line with score and path for each photo, and one more for each of its copies; what is unverified is marked."""
    shown = scores(answer)
    width = max(map(len, shown), default=0)
    lines = []
    for score, match in zip(shown, answer["results"], strict=True):
        unverified = match.get("unverified", ())
        first, *copies = (printable(path) + "  (unverified)" * (path in unverified) for path in match["paths"])
        lines.append(f"{score:>{width}}  {first}")
        lines += [f"{'':>{width}}= {copy}" for copy in copies]
    return lines


def scores(answer: SearchAnswer) -> list[str]:
    """Return the scores of the photos as a person reads them."""
    decimals = _DECIMALS.get(answer["metric"], 3)
    return [f"{match['score']:.{decimals}f}" for match in answer["results"]]


def search_notices(answers: Sequence[SearchAnswer]) -> list[str]:
    """Return what a person has to know of the answers besides what they hold, a sentence each."""
    answered = (model for answer in answers for model in answer.get("models", ()))
    notices = [
        f"{model['name']} knows {model['photos']:,} of {count(model['of'], 'photo')} so far"
        for model in answered
        if model["photos"] < model["of"]
    ]
    matches = [match for answer in answers for match in answer["results"]]
    if not matches and not notices:
        notices.append("No similar photos yet: the library is empty.")
    if unverified := len({path for match in matches for path in match.get("unverified", ())}):
        notices.append(f"{unverified:,} of these could not be verified: see lookalike deletions list")
    return notices
