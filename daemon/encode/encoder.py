"""From decoded photos to unit vectors, one model for the life of the process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from daemon.encode.preprocess import min_side, preprocess
from daemon.encode.session import Session
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daemon.encode.models import Model

_MAP_AXES = 4
# Photos that go through the graph at once. A CPU gains nothing from more, whose feature maps leave its caches: one thread
# encodes 104 photos/s at 1 and at 2, 85 at 4, 73 at 8, and two threads 198, 156, 162, 76 (x86-64, onnxruntime 1.32).
BATCH = 1
_MID_GRAY = (128, 128, 128)


class Encoder:
    """Turns photos into rows of length 1; safe to be called from several threads. A query goes before bulk work."""

    def __init__(self, model: Model, *, threads: int) -> None:
        """Load the model and try it on a gray image; ModelError when what comes out cannot be a vector of its spec."""
        self._model = model
        self._spec = model.spec
        self._session = Session(model.spec.name, model.graph, threads=threads, output=model.spec.output.name)
        self._turn = threading.Condition()
        self._queries = 0
        self._encoded = 0
        side = self.min_side
        self._run(self.preprocess(Image.new("RGB", (side, side), _MID_GRAY))[np.newaxis])

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def fingerprint(self) -> str:
        return self._model.fingerprint

    @property
    def dim(self) -> int:
        return self._spec.output.dim

    @property
    def metric(self) -> str:
        return self._spec.metric

    @property
    def min_side(self) -> int:
        """The pixels that the shorter side of a decoded photo should have: what decode() takes."""
        return min_side(self._spec.input)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self._session.provider

    @property
    def encoded(self) -> int:
        """How many photos encode() has encoded since the start; queries and the trial at the start do not count."""
        return self._encoded

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """Return an RGB photo as one input, float32, without the batch axis: work for the threads that load."""
        return preprocess(image, self._spec.input)

    def encode(self, inputs: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Return one row for each input, float32 [inputs, dim], each of length 1; ModelError when one cannot be.

        Between batches it waits for queries to end.
        """
        rows = np.empty((len(inputs), self.dim), np.float32)
        for start in range(0, len(inputs), BATCH):
            self._wait_for_queries()
            batch = np.asarray(inputs[start : start + BATCH])
            rows[start : start + BATCH] = self._run(batch)
            self._count(len(batch))
        return rows

    def encode_query(self, query: np.ndarray) -> np.ndarray:
        """Return the row of one input, float32 [dim], of length 1, ahead of all photos that wait to be encoded."""
        with self._precedence():
            row: np.ndarray = self._run(query[np.newaxis])[0]
        return row

    def _run(self, batch: np.ndarray) -> np.ndarray:
        output = self._session.run(batch)
        rows = _pooled(output, self._spec.output.pooling, self._spec.input.layout)
        if rows.shape != (len(batch), self.dim):
            shape = list(output.shape)
            reason = f"its output has the shape {shape}, not {self.dim} numbers a photo; check 'output' in its spec."
            raise ModelError(self.name, reason)
        return self._normalised(rows)

    def _normalised(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            reason = "it returned numbers that are no vector (not finite, or all zero); check 'input' in its spec."
            raise ModelError(self.name, reason)
        rows /= lengths
        return rows

    def _wait_for_queries(self) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._queries == 0)

    @contextmanager
    def _precedence(self) -> Iterator[None]:
        with self._turn:
            self._queries += 1
        try:
            yield
        finally:
            with self._turn:
                self._queries -= 1
                self._turn.notify_all()

    def _count(self, photos: int) -> None:
        with self._turn:
            self._encoded += photos


def _pooled(output: np.ndarray, pooling: str, layout: str) -> np.ndarray:
    """Return [batch, features] of a graph's output: pooled over its two spatial axes, or with axes of length 1 dropped."""
    if output.ndim == _MAP_AXES and pooling != "none":
        axes = (2, 3) if layout == "nchw" else (1, 2)
        return np.asarray(output.mean(axes) if pooling == "avg" else output.max(axes))
    return output.reshape(len(output), -1) if output.ndim > 1 else output
