"""How good a ranking is, by which of its photos are relevant.

Manning, Raghavan, Schuetze: Introduction to Information Retrieval, Cambridge University Press 2008, section 8.4
(https://nlp.stanford.edu/IR-book/html/htmledition/evaluation-of-ranked-retrieval-results-1.html), the measures of TREC. A ranking
is one truth value a rank, best first: whether the photo there is relevant.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def average_precision(ranking: Sequence[bool], relevant: int) -> float:
    """Return the mean over all `relevant` photos of the precision at the rank of each, from 0 to 1.

    One that the ranking does not hold counts 0, so only of a whole ranking is this the measure of the book. ValueError where
    there are fewer relevant photos than the ranking holds, or none at all: of such a query the measure is not defined.
    """
    if relevant < max(1, sum(ranking)):
        raise ValueError(f"{sum(ranking)} relevant photos in the ranking, of {relevant}")
    found = accumulate(ranking)
    return (
        sum(so_far / rank for rank, (so_far, hit) in enumerate(zip(found, ranking, strict=True), start=1) if hit)
        / relevant
    )


def precision_at(ranks: int, ranking: Sequence[bool]) -> float:
    """Return the share of the first `ranks` that are relevant; a rank that the ranking does not reach is not."""
    return sum(ranking[:ranks]) / ranks
