"""From what a graph returns to one row for each photo or text."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.encode.pooling import pooled

RNG = np.random.default_rng(5)
MAP = RNG.normal(size=(2, 5, 3, 4)).astype(np.float32)
TOKENS = RNG.normal(size=(2, 6, 5)).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 1, 1), (2, 1, 1, 5), (2, 1, 5)])
def test_a_row_of_features_is_taken_as_it_is_without_axes_of_one(shape: tuple[int, ...]) -> None:
    features = RNG.normal(size=(2, 5)).astype(np.float32)
    np.testing.assert_array_equal(pooled(features.reshape(shape), "none"), features)


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize(
    ("pooling", "shape"),
    [
        ("none", (5,)),
        ("none", (1,)),
        ("avg", (5, 2, 2)),
        ("max", (5, 2, 2)),
        ("cls", (4, 5)),
        ("mean-of-tokens", (4, 5)),
    ],
)
def test_the_batch_axis_is_kept_whatever_its_length(pooling: str, shape: tuple[int, ...], batch: int) -> None:
    rows = pooled(np.ones((batch, *shape), np.float32), pooling)
    assert rows.shape == (batch, 1 if shape == (1,) else 5)


def test_channels_first_pools_over_the_last_two_axes() -> None:
    expected = [[[float(np.mean(channel)), float(np.max(channel))] for channel in photo] for photo in MAP]
    np.testing.assert_allclose(pooled(MAP, "avg"), np.array(expected)[:, :, 0], rtol=1e-5)
    np.testing.assert_array_equal(pooled(MAP, "max"), np.array(expected, np.float32)[:, :, 1])


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_channels_last_gives_the_same_row(pooling: str) -> None:
    rows = pooled(MAP.transpose(0, 2, 3, 1), pooling, "nhwc")
    np.testing.assert_allclose(rows, pooled(MAP, pooling, "nchw"), rtol=1e-6)


def test_cls_is_the_first_token() -> None:
    np.testing.assert_array_equal(pooled(TOKENS, "cls"), TOKENS[:, 0])


def test_the_mean_of_tokens_counts_all_of_them_without_a_mask() -> None:
    np.testing.assert_allclose(pooled(TOKENS, "mean-of-tokens"), TOKENS.mean(1), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float32])
def test_the_mean_of_tokens_leaves_out_what_the_mask_does(dtype: type) -> None:
    mask: np.ndarray = np.array([[1, 1, 0, 0, 0, 0], [1, 0, 1, 1, 0, 0]], dtype)
    expected = [TOKENS[0, :2].mean(0), TOKENS[1, [0, 2, 3]].mean(0)]
    np.testing.assert_allclose(pooled(TOKENS, "mean-of-tokens", mask=mask), expected, rtol=1e-5)


def test_a_mask_that_counts_nothing_gives_zeros_and_no_warning() -> None:
    assert not pooled(TOKENS, "mean-of-tokens", mask=np.zeros((2, 6), np.int64)).any()


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_half_precision_is_added_up_in_single_precision(pooling: str) -> None:
    """A sum of 10,000 values of 100 is past the greatest number that half precision has."""
    rows = pooled(np.full((1, 2, 100, 100), 100, np.float16), pooling)
    assert rows.dtype == np.dtype(np.float32)
    assert rows.tolist() == [[100, 100]]


def test_half_precision_tokens_too() -> None:
    rows = pooled(np.full((1, 1000, 3), 100, np.float16), "mean-of-tokens", mask=np.ones((1, 1000), np.int64))
    assert rows.dtype == np.dtype(np.float32)
    assert rows.tolist() == [[100, 100, 100]]


@pytest.mark.parametrize(
    ("pooling", "shape"),
    [
        ("none", ()), ("none", (4,)), ("none", (1, 7, 7, 512)), ("none", (1, 50, 384)),
        ("avg", (1, 512)), ("avg", (1, 50, 384)), ("max", (1, 512)), ("max", (1, 1, 1, 7, 7)),
        ("cls", (1, 384)), ("cls", (1, 384, 7, 7)), ("cls", (1, 0, 384)),
        ("mean-of-tokens", (1, 384)), ("mean-of-tokens", (1, 384, 7, 7)),
    ],
)  # fmt: skip
def test_an_output_of_another_shape_is_refused_with_the_shape(pooling: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^its output has the shape \[") as caught:
        pooled(np.zeros(shape, np.float32), pooling)
    assert f"the shape {list(shape)} " in str(caught.value)
    assert f"pooling {pooling}" in str(caught.value)


def test_a_mask_for_other_tokens_is_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\[2, 6, 5\] and its attention mask \[2, 7\]"):
        pooled(TOKENS, "mean-of-tokens", mask=np.ones((2, 7), np.int64))
