"""Adding and subtracting what terms mean: one query vector of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CANCELLED = 1e-4
"""A sum this short, as a share of what it was made of, is rounding: one photo encoded twice differs by some 1e-6."""


def combined(rows: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32] | None:
    """Return the sum of unit vectors [dim] times their weights, made a unit vector; None where they cancel each other out."""
    total = np.asarray(weights, np.float64) @ np.stack(rows).astype(np.float64)
    length = float(np.linalg.norm(total))
    if length <= CANCELLED * sum(map(abs, weights)):
        return None
    return np.asarray(total / length, np.float32)
