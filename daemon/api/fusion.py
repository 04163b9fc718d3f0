"""Reciprocal rank fusion: one ranking of several whose scores cannot be compared.

Cormack, Clarke, Buettcher: Reciprocal rank fusion outperforms Condorcet and individual rank learning methods, SIGIR 2009
(https://doi.org/10.1145/1571941.1572114).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

K = 60
"""How little the first ranks count more than the next: the value of the paper."""


@dataclass(frozen=True, slots=True)
class Fused:
    """One photo, with its rank from 1 in each of the rankings that hold it."""

    id: int
    score: float
    ranks: Mapping[str, int]


def fused(rankings: Mapping[str, Sequence[int]], *, k: int = K) -> list[Fused]:
    """Return every photo of the rankings (ids, best first, each once) by the sum of 1 / (k + rank), best first.

    Equal sums are ordered by the best rank, then by the id.
    """
    ranks: dict[int, dict[str, int]] = {}
    for name, ranking in rankings.items():
        for rank, photo in enumerate(ranking, start=1):
            ranks.setdefault(photo, {})[name] = rank
    # Summed in one order, lest equal sums differ by rounding.
    scored = [Fused(photo, sum(1 / (k + rank) for rank in sorted(of.values())), of) for photo, of in ranks.items()]
    return sorted(scored, key=lambda one: (-one.score, min(one.ranks.values()), one.id))
