"""The files beside an ONNX graph in which it keeps weights: which they may be, and which part of them is a tensor's.

https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

# What the files together, and the tensors in them together, may have.
MAX_EXTERNAL_BYTES = 16 << 30
# In a prepared directory these names are taken, whatever they were called where they come from.
_TAKEN = {"model.onnx", "tokenizer.json"}
# onnxruntime takes such a location for an address in its own memory, whether a file of that name exists or not.
_MEMORY = "_ORT_"
_MAX_DIGITS = 18


class Span(NamedTuple):
    """Where a tensor lies; `length` in bytes, None when it is not said."""

    location: str
    offset: int
    length: int | None


class ExternalFiles:
    """The files in which one graph keeps weights, as its tensors name them; `sizes` in bytes, by relative name."""

    def __init__(self, name: str, graph: Path) -> None:
        self.sizes: dict[str, int] = {}
        self._name = name
        self._graph = graph
        self._places: dict[str, str] = {}
        self._files_bytes = 0
        self._tensors_bytes = 0

    def add(self, tensor: Any, expected: int) -> None:
        """Note where an onnx.TensorProto of `expected` bytes lies; ModelError unless it wholly lies in a file it may lie in."""
        span = _span(self._name, tensor)
        size = self._size(span.location)
        if span.length not in {None, expected}:
            reason = (
                f"its tensor {tensor.name!r} takes {expected} bytes and says {span.length}; export the model again."
            )
            raise ModelError(self._name, reason)
        if span.offset + expected > size:
            reason = f"its tensor {tensor.name!r} reaches outside {span.location}, which has {size} bytes; get the whole file."
            raise ModelError(self._name, reason)
        self._tensors_bytes += expected
        self._check_limit()

    def _size(self, location: str) -> int:
        if location not in self._places:
            path = beside(self._name, self._graph, location)
            self._places[location] = relative = path.relative_to(self._graph.parent).as_posix()
            self.sizes[relative] = path.stat().st_size
            self._files_bytes = sum(self.sizes.values())
        return self.sizes[self._places[location]]

    def _check_limit(self) -> None:
        if max(self._files_bytes, self._tensors_bytes) > MAX_EXTERNAL_BYTES:
            reason = f"its graph keeps more than {MAX_EXTERNAL_BYTES >> 30} GiB of weights in other files; use a smaller model."
            raise ModelError(self._name, reason)


def beside(name: str, graph: Path, location: str) -> Path:
    """Return the file at `location`, relative to `graph`; ModelError unless it is a regular file in the graph's folder.

    A symbolic link is followed as long as it stays in that folder.
    """
    relative = PurePosixPath(location)
    if relative.is_absolute() or ".." in relative.parts or _MEMORY in location or not relative.parts:
        raise _refused(name, location, "which is no file below the graph's folder; save the model as a single file")
    if relative.parts[0] in _TAKEN or relative == PurePosixPath(graph.name):
        raise _refused(name, location, "a name that is taken; give that file another name and save the graph again")
    path = graph.parent / relative
    try:
        inside = path.resolve(strict=True).is_relative_to(graph.parent.resolve())
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError as error:
        raise _refused(
            name, location, "which is not beside it; put it there, or add it to 'data' of its source"
        ) from error
    # RuntimeError: a loop of links, until Python 3.13.
    except (OSError, ValueError, RuntimeError) as error:
        raise _refused(name, location, f"which cannot be read ({error}); put a file there that can") from error
    if not inside:
        raise _refused(name, location, "a symbolic link that leaves the graph's folder; put the file itself there")
    if not regular:
        raise _refused(name, location, "which is not a regular file; put the model's file there")
    return path


def _span(name: str, tensor: Any) -> Span:
    """Return where an onnx.TensorProto with external data says it lies; ModelError when it does not say so clearly."""
    entries = [(entry.key, entry.value) for entry in tensor.external_data]
    said = dict(entries)
    # Readers differ in which of two they take.
    if len(said) != len(entries) or not said.get("location"):
        raise ModelError(
            name, f"its tensor {tensor.name!r} does not say in which file it lies; export the model again."
        )
    length = _number(name, said["length"]) if "length" in said else None
    return Span(said["location"], _number(name, said.get("offset", "0")), length)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise ModelError(name, f"an offset or a length of its weights is {text[:40]!r}; export the model again.")
    return int(text)


def _refused(name: str, location: str, why: str) -> ModelError:
    return ModelError(name, f"its graph keeps weights in {location[:200]!r}, {why}.")
