"""From what a graph returns to the vectors of one model that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from daemon.encode.pooling import pooled
from daemon.encode.projection import load_projection
from daemon.errors import ModelError

if TYPE_CHECKING:
    from daemon.encode.models import Model
    from daemon.encode.session import Session


class Head:
    """Pools, projects and normalises one output of a graph as the spec of `model` says."""

    def __init__(self, model: Model, session: Session) -> None:
        """Find the output and load the projection; ModelError when either is not what the spec says."""
        self.model = model
        self.name = model.spec.name
        self.output = session.output(model.spec.output.name, model=self.name, key="output.name")
        self._projection = load_projection(model)
        self._features = self._projection.features if self._projection else model.spec.output.dim

    def vectors(self, output: np.ndarray, photos: int) -> np.ndarray:
        """Return float32 [photos, dim], each row of length 1; ModelError, with the reason, when one cannot be."""
        try:
            rows = pooled(output, self.model.spec.output.pooling, self.model.spec.input.layout)
        except ValueError as error:
            raise ModelError(self.name, f"{error}; check 'output' in its spec.") from error
        if rows.shape != (photos, self._features):
            shape = list(output.shape)
            reason = (
                f"its output has the shape {shape}, not {self._features} numbers a photo; check 'output' in its spec."
            )
            raise ModelError(self.name, reason)
        if self._projection and np.isfinite(rows).all():
            rows = self._projection(rows)
        return unit(rows, self.name, "input")


def unit(rows: np.ndarray, name: str, fed_by: str) -> np.ndarray:
    """Return rows [n, dim] as float32 of length 1; ModelError of the model `name` when one is not finite or all zero.

    `fed_by` is the part of its spec to look at then.
    """
    # Squares of float32 leave its range from 1e19 on, and vanish below 1e-23.
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        reason = f"it returned numbers that are no vector (not finite, or all zero); check '{fed_by}' in its spec."
        raise ModelError(name, reason)
    return np.asarray(rows / lengths, np.float32)
