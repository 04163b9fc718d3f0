"""How good a ranking is: against values worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.relevance import average_precision, precision_at

YES, NO = True, False


@pytest.mark.parametrize(
    ("ranking", "relevant", "expected"),
    [
        ([YES, NO, YES, NO], 2, (1 / 1 + 2 / 3) / 2),
        ([NO, YES, NO, NO, YES], 2, (1 / 2 + 2 / 5) / 2),
        ([YES, YES, YES, NO], 3, 1.0),
        ([NO, NO, NO, YES], 1, 1 / 4),
        ([NO, NO], 5, 0.0),
    ],
)
def test_average_precision_is_the_mean_of_the_precisions_at_the_relevant_ranks(
    ranking: list[bool], relevant: int, expected: float
) -> None:
    assert average_precision(ranking, relevant) == pytest.approx(expected)


def test_a_relevant_photo_that_the_ranking_lacks_counts_nothing() -> None:
    assert average_precision([YES, NO], 4) == pytest.approx(1 / 4)
    assert average_precision([], 4) == 0


@pytest.mark.parametrize(("ranking", "relevant"), [([], 0), ([NO], 0), ([YES, YES], 1)])
def test_a_query_without_its_relevant_photos_has_no_average_precision(ranking: list[bool], relevant: int) -> None:
    with pytest.raises(ValueError, match="relevant photos in the ranking"):
        average_precision(ranking, relevant)


def test_precision_at_ten_counts_the_relevant_among_the_first_ten() -> None:
    assert precision_at(10, [YES] * 7 + [NO] * 3 + [YES] * 50) == pytest.approx(0.7)
    assert precision_at(1, [NO, YES]) == 0
    assert precision_at(1, [YES, NO]) == 1


def test_ranks_that_a_short_ranking_does_not_reach_are_not_relevant() -> None:
    assert precision_at(10, [YES, YES]) == pytest.approx(0.2)
