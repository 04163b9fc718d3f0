"""What several models find like the same thing, side by side, and how far they agree."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from cli.report.columns import cells, padded, shortened
from cli.report.search import scores
from cli.report.text import count
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.answers import Overlap, PairOverlap, SearchAnswer

_IN_ALL, _IN_SOME, _IN_ONE = "*", "+", " "
_GAP = "  "
_MOST_BESIDE = 2
_LEAST_COLUMN = 28
"""In a narrower column neither a model's name can be told nor a path."""


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
    """Return the lists in `width` columns of a terminal, the folder of all photos above them.

    They stand side by side, or one after the other where that would make them too narrow to be read.
    """
    folder = _common_folder(answers)
    digits = len(str(max(len(answer["results"]) for answer in answers)))
    beside = (width - digits) // len(answers) - len(_GAP)
    tables = [_Table(answer, answers, folder) for answer in answers]
    are_beside = all(table.width <= beside for table in tables) or beside >= _LEAST_COLUMN
    lines = _side_by_side(tables, digits, beside) if are_beside else _stacked(tables, digits, width)
    return [f"in {printable(folder)}", "", *lines] if folder else lines


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


class _Table:
    """What one model found: a heading, and for each photo score, mark and path."""

    def __init__(self, answer: SearchAnswer, answers: Sequence[SearchAnswer], folder: str) -> None:
        shown = scores(answer)
        digits = max(map(len, shown), default=0)
        self._heading = f"{printable(answer['model'])} ({printable(answer['metric'])})"
        marks = (_mark(match["id"], answers) for match in answer["results"])
        self._found = [f"{score:>{digits}} {mark} " for score, mark in zip(shown, marks, strict=True)]
        self._names = [printable(_below(folder, match["paths"][0])) for match in answer["results"]]
        wholly = (found + name for found, name in zip(self._found, self._names, strict=True))
        self.width = max(cells(self._heading), *map(cells, wholly), 0)

    def cells(self, width: int) -> list[str]:
        """Return the heading and a cell for each photo, all at most `width` wide, and the heading as wide as they may be."""
        width = min(width, self.width)
        found = zip(self._found, self._names, strict=True)
        photos = [known + shortened(name, max(width - len(known), 1)) for known, name in found]
        return [padded(shortened(self._heading, width), width), *photos]


def _side_by_side(tables: Sequence[_Table], digits: int, width: int) -> list[str]:
    columns = [table.cells(width) for table in tables]
    lines = []
    for rank, row in enumerate(itertools.zip_longest(*columns, fillvalue="")):
        shown = (padded(cell, cells(column[0])) for cell, column in zip(row, columns, strict=True))
        lines.append(_ranked(rank, _GAP.join(shown), digits))
    return lines


def _stacked(tables: Sequence[_Table], digits: int, width: int) -> list[str]:
    lines: list[str] = []
    for table in tables:
        heading, *photos = table.cells(width - digits - len(_GAP))
        lines += ["", heading.rstrip()] if lines else [heading.rstrip()]
        lines += [_ranked(rank, photo, digits) for rank, photo in enumerate(photos, start=1)]
    return lines


def _ranked(rank: int, text: str, digits: int) -> str:
    return f"{rank or '':>{digits}}{_GAP}{text}".rstrip()


def _below(folder: str, path: str) -> str:
    return os.path.relpath(path, folder) if folder else path


def _mark(photo: str, answers: Sequence[SearchAnswer]) -> str:
    holding = sum(any(match["id"] == photo for match in answer["results"]) for answer in answers)
    if holding == len(answers):
        return _IN_ALL
    return _IN_SOME if holding > 1 else _IN_ONE
