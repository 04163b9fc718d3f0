"""What several models find like the same thing, side by side, and how far they agree."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from cli.report.columns import cells, padded, shortened
from cli.report.search import scores
from cli.report.text import count, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.answers import Overlap, PairOverlap, SearchAnswer

_IN_ALL, _IN_SOME, _IN_ONE = "*", "+", " "
_GAP = "  "
_MOST_BESIDE = 2


def overlap(answers: Sequence[SearchAnswer]) -> Overlap:
    """Return the photos that every list holds, and every two of them, as a number and as a share of the longest list.

    A photo that was asked about is first in each list, and tells nothing: it is not counted.
    """
    lists = [_others(answer) for answer in answers]
    of = max(map(len, lists))
    common = [photo for photo in lists[0] if all(photo in other for other in lists[1:])]
    pairs: list[PairOverlap] = []
    for first, second in itertools.combinations(range(len(lists)), 2):
        both = len(set(lists[first]) & set(lists[second]))
        models = [answers[first]["model"], answers[second]["model"]]
        pairs.append({"models": models, "photos": both, "share": _share(both, of)})
    return {"photos": len(common), "of": of, "share": _share(len(common), of), "ids": common, "pairs": pairs}


def compare_lines(answers: Sequence[SearchAnswer], *, width: int) -> list[str]:
    """Return the lists side by side in `width` columns of a terminal, the folder of all photos above them."""
    folder = _common_folder(answers)
    ranks = max(len(answer["results"]) for answer in answers)
    digits = len(str(ranks))
    available = (width - digits) // len(answers) - len(_GAP)
    columns = [_column(answer, answers, folder, available) for answer in answers]
    lines = [f"in {printable(folder)}", ""] if folder else []
    for rank, row in enumerate(itertools.zip_longest(*columns, fillvalue="")):
        number = str(rank) if rank else ""
        shown = (padded(cell, cells(column[0])) for cell, column in zip(row, columns, strict=True))
        lines.append(f"{number:>{digits}}{_GAP}{_GAP.join(shown)}".rstrip())
    return lines


def overlap_lines(answers: Sequence[SearchAnswer]) -> list[str]:
    """Return how far the lists agree, and what the marks in them mean."""
    found = overlap(answers)
    where = "both lists" if len(answers) == _MOST_BESIDE else "every list"
    besides = ", besides the photo itself" if any(len(_others(one)) < len(one["results"]) for one in answers) else ""
    said = f"{found['photos']:,} of {count(found['of'], 'photo')} in {where} ({found['share']:.0%}){besides}"
    lines = [f"{_IN_ALL} {said}"]
    if len(answers) > _MOST_BESIDE:
        lines.append(f"{_IN_SOME} in some of the other lists")
        for pair in found["pairs"]:
            names = " and ".join(map(printable, pair["models"]))
            lines.append(f"  {names}: {pair['photos']:,} ({pair['share']:.0%})")
    return lines


def _share(photos: int, of: int) -> float:
    return round(photos / of, 4) if of else 0.0


def _others(answer: SearchAnswer) -> list[str]:
    return [match["id"] for match in answer["results"] if match["id"] != answer["query"]["id"]]


def _common_folder(answers: Sequence[SearchAnswer]) -> str:
    """Return the folder that all photos lie below, "" where that is only the root."""
    folders = {os.path.dirname(match["paths"][0]) for answer in answers for match in answer["results"]}
    folder = os.path.commonpath(folders) if folders else ""
    return "" if folder == os.sep else folder


def _column(answer: SearchAnswer, answers: Sequence[SearchAnswer], folder: str, width: int) -> list[str]:
    """Return a heading as wide as the column, and a cell for each photo: score, mark and path."""
    shown = scores(answer)
    digits = max(map(len, shown), default=0)
    names = [printable(_below(folder, match["paths"][0])) for match in answer["results"]]
    heading = f"{printable(answer['model'])} ({printable(answer['metric'])})"
    taken = digits + 3
    width = min(width, max([cells(heading), *(taken + cells(name) for name in names)]))
    photos = zip(shown, names, (_mark(match["id"], answers) for match in answer["results"]), strict=True)
    found = [f"{score:>{digits}} {mark} {shortened(name, max(width - taken, 1))}" for score, name, mark in photos]
    return [padded(shortened(heading, width), width), *found]


def _below(folder: str, path: str) -> str:
    return os.path.relpath(path, folder) if folder else path


def _mark(photo: str, answers: Sequence[SearchAnswer]) -> str:
    holding = sum(any(match["id"] == photo for match in answer["results"]) for answer in answers)
    if holding == len(answers):
        return _IN_ALL
    return _IN_SOME if holding > 1 else _IN_ONE
