"""Reciprocal rank fusion, computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.api.fusion import fused

RANKINGS = st.dictionaries(
    st.text(min_size=1), st.lists(st.integers(0, 30), unique=True, max_size=20), min_size=1, max_size=4
)


def test_a_photo_s_score_is_the_sum_of_the_reciprocals_of_its_ranks() -> None:
    found = fused({"a": [1, 2, 3], "b": [3, 1]})

    assert [one.id for one in found] == [1, 3, 2]
    assert [one.score for one in found] == pytest.approx([1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62])
    assert found[0].score == pytest.approx(0.0325225)
    assert [one.ranks for one in found] == [{"a": 1, "b": 2}, {"a": 3, "b": 1}, {"a": 2}]


def test_two_middling_ranks_are_worth_more_than_one_first_rank() -> None:
    assert fused({"a": [7, 8, 9], "b": [10, 11, 9]})[0].id == 9


def test_a_small_k_gives_the_first_rank_its_weight() -> None:
    assert fused({"a": [7, 8, 9], "b": [10, 11, 9]}, k=0)[0].id == 7


def test_equal_scores_are_ordered_by_the_best_rank_and_then_by_the_id() -> None:
    assert [one.id for one in fused({"a": [5, 4], "b": [3, 2]})] == [3, 5, 2, 4]
    # 1/(0+2) + 1/(0+2) = 1/(0+1), and a first rank is better than two second ones.
    assert [one.id for one in fused({"a": [8, 6], "b": [9, 6]}, k=0)] == [8, 9, 6]


def test_rankings_of_nothing_give_nothing() -> None:
    assert fused({}) == fused({"a": [], "b": []}) == []


@settings(deadline=None)
@given(RANKINGS)
def test_every_photo_comes_once_and_in_the_order_of_its_score(rankings: dict[str, list[int]]) -> None:
    found = fused(rankings)

    assert sorted(one.id for one in found) == sorted({photo for ranking in rankings.values() for photo in ranking})
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@settings(deadline=None)
@given(RANKINGS)
def test_the_order_in_which_models_are_named_changes_nothing(rankings: dict[str, list[int]]) -> None:
    backwards = dict(reversed(rankings.items()))

    assert [one.id for one in fused(rankings)] == [one.id for one in fused(backwards)]


@settings(deadline=None)
@given(st.lists(st.integers(), unique=True))
def test_one_ranking_stays_as_it_is(ranking: list[int]) -> None:
    assert [one.id for one in fused({"a": ranking})] == ranking
