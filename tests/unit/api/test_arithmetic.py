from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.api.arithmetic import combined

EAST, NORTH = np.eye(2, dtype=np.float32)


def test_a_sum_of_unit_vectors_is_a_unit_vector_between_them() -> None:
    assert combined([EAST, NORTH], [1, 1]) == pytest.approx([2**-0.5, 2**-0.5])
    assert combined([EAST, NORTH], [3, -4]) == pytest.approx([0.6, -0.8])


def test_a_vector_and_itself_are_the_vector() -> None:
    assert combined([EAST, EAST], [1, 2]) == pytest.approx(EAST)


def test_what_cancels_out_is_no_vector() -> None:
    assert combined([EAST, EAST], [1, -1]) is None
    assert combined([EAST, EAST + np.float32(1e-6) * NORTH], [1000, -1000]) is None
    assert combined([EAST, NORTH, EAST, NORTH], [1, 1, -1, -1]) is None


def test_small_weights_are_not_nothing() -> None:
    assert combined([EAST], [1e-9]) == pytest.approx(EAST)
    assert combined([EAST], [-1e-9]) == pytest.approx(-EAST)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.floats(0.1, 1000) | st.floats(-1000, -0.1)), min_size=1, max_size=16
    ),
    st.floats(0.1, 10),
)
def test_what_comes_out_has_length_1_and_only_the_ratio_of_weights_matters(
    terms: list[tuple[int, float]], factor: float
) -> None:
    rows = []
    for seed, _ in terms:
        row = np.random.default_rng(seed).normal(size=64).astype(np.float32)
        rows.append(row / np.linalg.norm(row))
    weights = [weight for _, weight in terms]

    found = combined(rows, weights)
    scaled = combined(rows, [factor * weight for weight in weights])

    if found is None or scaled is None:
        assert found is scaled is None
        return
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert found == pytest.approx(scaled, abs=1e-5)
