"""Projections: against their formulas, written out."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.encode.projection import AffineProjection, WordsProjection


def conse(row: np.ndarray, weight: np.ndarray, bias: np.ndarray, vectors: np.ndarray, top: int) -> np.ndarray:
    """Return equation 3 of arXiv:1312.5650 for one row, in float64 and term by term."""
    logits = [float(row @ weight[:, label] + bias[label]) for label in range(len(bias))]
    total = sum(np.exp(logits))
    probabilities = {label: np.exp(logit) / total for label, logit in enumerate(logits)}
    best = sorted(probabilities, key=lambda label: -probabilities[label])[:top]
    normaliser = sum(probabilities[label] for label in best)
    return np.asarray(sum(probabilities[label] * vectors[label] for label in best) / normaliser)


def test_an_affine_projection_takes_the_mean_off_and_multiplies() -> None:
    project = AffineProjection(np.array([1, 2], np.float32), np.array([[1, 0, 2], [0, 3, 1]], np.float32))
    assert (project.features, project.dim) == (2, 3)
    assert project(np.array([[2, 4], [1, 2]], np.float32)).tolist() == [[1, 6, 4], [0, 0, 0]]


@pytest.mark.parametrize("top", [1, 3, 10, 40, 1000])
def test_words_are_the_published_mixture_of_the_most_likely_classes(top: int) -> None:
    rng = np.random.default_rng(4)
    rows, weight, bias, vectors = (rng.normal(size=shape) for shape in ((5, 8), (8, 40), (40,), (40, 6)))
    project = WordsProjection(weight.astype(np.float32), bias.astype(np.float32), vectors.astype(np.float32), top)
    assert (project.features, project.dim) == (8, 6)
    expected = [conse(row, weight, bias, vectors, top) for row in rows]
    np.testing.assert_allclose(project(rows.astype(np.float32)), expected, rtol=1e-4, atol=1e-5)


def test_words_stay_finite_where_exponentials_of_the_logits_would_not() -> None:
    weight = np.array([[1000, 999, -1000]], np.float32)
    project = WordsProjection(weight, np.zeros(3, np.float32), np.eye(3, dtype=np.float32), 2)
    first = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(project(np.ones((1, 1), np.float32)), [[first, 1 - first, 0]], rtol=1e-6)
    np.testing.assert_allclose(project(np.full((1, 1), -1, np.float32)), [[0, 0, 1]], atol=1e-6)


def test_projections_of_one_row_and_of_many_are_the_same() -> None:
    rng = np.random.default_rng(5)
    rows, weight, bias, vectors = (
        rng.normal(size=shape).astype(np.float32) for shape in ((7, 8), (8, 40), (40,), (40, 6))
    )
    project = WordsProjection(weight, bias, vectors, 10)
    alone = np.concatenate([project(row[np.newaxis]) for row in rows])
    np.testing.assert_allclose(project(rows), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "bias", "vectors"), [((8, 40), (39,), (40, 6)), ((8, 40), (40,), (41, 6)), ((8,), (8,), (8, 6))]
)
def test_arrays_of_words_that_do_not_count_the_same_classes_are_refused(
    weight: tuple[int, ...], bias: tuple[int, ...], vectors: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="shapes"):
        WordsProjection(np.zeros(weight), np.zeros(bias), np.zeros(vectors), 10)
