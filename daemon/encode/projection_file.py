"""The arrays that turn the rows of a graph into vectors: read without trusting their file, and checked."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon import bounded_json
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# 32,768 numbers to as many, as float32: more than any output of a spec has.
MAX_ARRAYS_BYTES = 4 << 30
MAX_NAMES = 200_000
"""The most classes that a classifier has: those of the largest data sets are some ten thousand."""
# What damaged bytes make NumPy, zipfile or zlib raise before they notice that these are no arrays.
_MALFORMED = (
    OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, MemoryError, OverflowError, RuntimeError,
    struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def check_affine(name: str, path: Path, dim: int) -> None:
    """Refuse an .npz file that does not hold `mean` [in] and `matrix` [in, dim], both finite numbers; ModelError."""
    arrays = _arrays(name, path)
    mean, matrix = arrays["mean"], arrays["matrix"]
    if mean.ndim != 1 or matrix.shape != (len(mean), dim):
        shapes = f"'mean' has the shape {mean.shape} and 'matrix' {matrix.shape}"
        raise ModelError(name, f"its projection cannot give {dim} numbers: {shapes}; check 'output.dim' and the file.")
    if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in (mean, matrix)):
        raise ModelError(name, "its projection holds what is no finite float; save its arrays again as float32.")


def words(name: str, classifier: tuple[np.ndarray, np.ndarray], vectors: np.ndarray, dim: int) -> bytes:
    """Return the .npz file of a projection to words.

    `classifier` is its weight [classes, features] and its bias [classes], `vectors` [classes, dim] those of the classes' names.
    ModelError when the vectors are no unit rows of that shape.
    """
    weight, bias = classifier
    if vectors.shape != (len(bias), dim):
        reason = (
            f"its text tower gives vectors of {vectors.shape[-1]} numbers and 'output.dim' is {dim}; correct its spec."
        )
        raise ModelError(name, reason)
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise ModelError(name, "its text tower gives no unit vector for a class; check 'text' in its spec.")
    file = io.BytesIO()
    np.savez(
        file,
        weight=np.ascontiguousarray(weight.T, np.float32),
        bias=bias.astype(np.float32),
        vectors=vectors.astype(np.float32),
    )
    return file.getvalue()


def class_names(name: str, content: bytes, classes: int) -> list[str]:
    """Return the names of a classifier's classes, in order: a JSON list, or an object by class index; ModelError otherwise."""
    try:
        document = bounded_json.loads(content, most_values=MAX_NAMES)
    except ValueError as error:
        raise ModelError(name, "its class names are no JSON; check 'projection.names' in its spec.") from error
    names = _by_index(document) if isinstance(document, dict) else document
    if not isinstance(names, list) or not all(isinstance(entry, str) and entry.strip() for entry in names):
        reason = "its class names are neither a list of strings nor an object of them by class index; correct the file."
        raise ModelError(name, reason)
    if len(names) != classes:
        reason = f"there are {len(names)} class names for a classifier of {classes} classes; use the classifier's own."
        raise ModelError(name, reason)
    return names


def _by_index(document: dict[str, Any]) -> list[Any] | None:
    keys = [str(index) for index in range(len(document))]
    return [document[key] for key in keys] if set(keys) == set(document) else None


def _arrays(name: str, path: Path) -> Mapping[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_ARRAYS_BYTES:
            raise ValueError(f"it unpacks to {size >> 20} MiB")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in ("mean", "matrix")}
    except _MALFORMED as error:
        reason = f"its projection is not an .npz file of 'mean' and 'matrix' ({error}); save it with numpy.savez."
        raise ModelError(name, reason) from error
