"""From a graph's output to one row of features for each photo or text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAP_AXES = 4
_TOKEN_AXES = 3
# Where the two spatial axes of a map are.
_SPATIAL = {"nchw": (2, 3), "nhwc": (1, 2)}
_TOKENS = "tokens, [batch, tokens, features]"
_TAKEN = {
    "none": "one row of features, [batch, features]",
    "avg": "a map of features with 4 axes",
    "max": "a map of features with 4 axes",
    "cls": _TOKENS,
    "mean-of-tokens": _TOKENS,
}


def pooled(
    output: np.ndarray, pooling: str, layout: str = "nchw", mask: np.ndarray | None = None
) -> NDArray[np.float32]:
    """Return the rows of a graph's `output`, float32 [batch, features]; half precision is added up in single precision.

    none: the output as it is, axes of length 1 dropped. avg, max: over the positions of a map, [batch, features, height,
    width] for the layout nchw and [batch, height, width, features] for nhwc. cls: the first token of
    [batch, tokens, features]. mean-of-tokens: the mean of those tokens that `mask` [batch, tokens] counts with 1, of all
    without a mask; zeros where it counts none.

    ValueError, a clause with the shape that was found, when the output or the mask has another.
    """
    values = np.asarray(output, np.float32)
    match pooling:
        case "none" if values.ndim > 1 and sum(length != 1 for length in values.shape[1:]) <= 1:
            return values.reshape(len(values), max(values.shape[1:]))
        case "avg" if values.ndim == _MAP_AXES:
            return np.asarray(values.mean(_SPATIAL[layout]))
        case "max" if values.ndim == _MAP_AXES:
            return np.asarray(values.max(_SPATIAL[layout]))
        case "cls" if values.ndim == _TOKEN_AXES and values.shape[1]:
            return values[:, 0]
        case "mean-of-tokens" if values.ndim == _TOKEN_AXES:
            return _mean_of_tokens(values, mask)
    shape = list(output.shape)
    raise ValueError(f"its output has the shape {shape} where pooling {pooling} takes {_TAKEN[pooling]}")


def _mean_of_tokens(tokens: np.ndarray, mask: np.ndarray | None) -> NDArray[np.float32]:
    """Return the masked mean over axis 1, as sentence-transformers computes it (sentence_transformers/models/Pooling.py)."""
    if mask is None:
        mask = np.ones(tokens.shape[:2], np.float32)
    if mask.shape != tokens.shape[:2]:
        shapes = f"{list(tokens.shape)} and its attention mask {list(mask.shape)}"
        raise ValueError(f"its output has the shape {shapes} where both must count the same tokens")
    weights = np.asarray(mask, np.float32)[:, :, np.newaxis]
    return np.asarray((tokens * weights).sum(1) / np.maximum(weights.sum(1), np.float32(1)))
