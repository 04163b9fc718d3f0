"""From a graph's row to a model's vector where the two are not the same: a matrix, or a mixture of words."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Protocol

import numpy as np

from daemon.encode.specs import Words
from daemon.errors import ModelError

if TYPE_CHECKING:
    from daemon.encode.models import Model


class Projection(Protocol):
    """Maps rows [photos, features] to rows [photos, dim], float32; their length is not yet 1."""

    @property
    def features(self) -> int: ...
    @property
    def dim(self) -> int: ...
    def __call__(self, rows: np.ndarray) -> np.ndarray: ...


class AffineProjection:
    """(row - mean) @ matrix, with `mean` [features] and `matrix` [features, dim]."""

    def __init__(self, mean: np.ndarray, matrix: np.ndarray) -> None:
        if matrix.ndim != 2 or mean.shape != matrix.shape[:1]:  # noqa: PLR2004
            raise ValueError(f"its mean has the shape {list(mean.shape)} and its matrix {list(matrix.shape)}")
        self._mean = mean
        self._matrix = matrix
        self.features, self.dim = matrix.shape

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return _product(rows - self._mean, self._matrix)


class WordsProjection:
    """ConSE: Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic Embeddings", equation 3.

        f(x) = 1/Z * sum over t = 1..T of p(y_t | x) * s(y_t),    Z = sum over t = 1..T of p(y_t | x)

    y_t is the class of the t-th greatest probability, T is `top`, and s(y) the vector of its name. p is the softmax of
    row @ weight + bias over all classes; its own denominator cancels against Z, so that exponentials of the T greatest
    logits are enough, each less the greatest.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray, vectors: np.ndarray, top: int) -> None:
        """Take `weight` [features, classes], `bias` [classes] and `vectors` [classes, dim], the last of length 1."""
        if weight.ndim != 2 or vectors.ndim != 2 or not weight.shape[1:] == bias.shape == vectors.shape[:1]:  # noqa: PLR2004
            shapes = ", ".join(str(list(array.shape)) for array in (weight, bias, vectors))
            raise ValueError(f"its weight, bias and vectors have the shapes {shapes}")
        self._weight = weight
        self._bias = bias
        self._vectors = vectors
        self._top = min(top, len(vectors))
        self.features, self.dim = len(weight), vectors.shape[1]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        logits = _product(rows, self._weight) + self._bias
        top = np.argpartition(logits, -self._top, axis=1)[:, -self._top :]
        greatest = np.take_along_axis(logits, top, axis=1)
        weights = np.exp(greatest - greatest.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        return np.asarray(np.einsum("pt,ptd->pd", weights, self._vectors[top]))


def _product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return rows @ matrix, computed by this thread alone.

    The threads that BLAS keeps for `@` wait in a loop for the next product, on the cores that graphs run on: a photo with a
    product of 1280 x 1000 after it took 20 ms in the place of 10 on two cores, and takes 10.1 this way.
    """
    return np.asarray(np.einsum("pf,fd->pd", rows, matrix))


def load_projection(model: Model) -> Projection | None:
    """Return the projection of a model, or None where it has none; ModelError when its arrays do not fit together or the spec."""
    kind = model.spec.projection
    if kind is None or model.projection is None:
        return None
    try:
        with np.load(model.projection, allow_pickle=False) as arrays:
            projection = _projection(model, arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(model.spec.name, f"its projection cannot be used ({error}); make the file again.") from error
    expected = model.spec.output.dim
    if projection.dim != expected:
        reason = f"its projection gives {projection.dim} numbers where its spec says {expected}; correct 'output.dim'."
        raise ModelError(model.spec.name, reason)
    return projection


def _projection(model: Model, arrays: np.lib.npyio.NpzFile) -> Projection:
    if isinstance(model.spec.projection, Words):
        weight, bias, vectors = (_array(arrays, name) for name in ("weight", "bias", "vectors"))
        return WordsProjection(weight, bias, vectors, model.spec.projection.top)
    return AffineProjection(_array(arrays, "mean"), _array(arrays, "matrix"))


def _array(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"it has no array {name!r}")
    values = np.ascontiguousarray(arrays[name], np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"its {name} holds numbers that are not finite")
    return values
