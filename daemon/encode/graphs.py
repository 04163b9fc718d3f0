"""Reads ONNX files, which are untrusted input, and refuses what could reach outside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, SparseTensorProto, TensorProto, ValueInfoProto

from daemon.encode import wire
from daemon.encode.external_data import ExternalFiles
from daemon.encode.messages import parts
from daemon.encode.operators import check_operators
from daemon.encode.sources import content
from daemon.encode.tensors import check_data, check_sparse, expected_bytes, type_name
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

# protobuf reads no larger message.
MAX_GRAPH_BYTES = (1 << 31) - 1


@dataclass(frozen=True)
class Value:
    """An input or an output: None where an axis, or the whole shape, is not said, a name where it varies."""

    name: str
    dtype: str
    """As NumPy calls it, such as float32."""
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class GraphInfo:
    """What an ONNX file says of itself."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opsets: dict[str, int]
    """The version of each domain of operators."""
    external: tuple[str, ...]
    """The files in which it keeps weights, relative to itself."""
    size: int
    """Bytes, those files included."""


def inspect(path: Path) -> GraphInfo:
    """Return what the ONNX file at `path` says of itself; ModelError, named after the file, when it is not to be run."""
    return check(path.stem, path)


def check(name: str, path: Path) -> GraphInfo:
    """Return what the graph of the model `name` says of itself; ModelError with the reason when it is not to be run.

    Refused are what is not ONNX, operators that need a library of their own, and weights that are not where or what the
    graph says; wherever in it they are, sub-graphs and functions included.
    """
    model = _parsed(name, content(name, path, at_most=MAX_GRAPH_BYTES))
    try:
        check_operators(name, model)
        external = _check_tensors(name, path, model)
        return _info(model, external, path.stat().st_size)
    except OSError as error:
        raise ModelError(name, f"{path} cannot be read ({error.strerror}); make it readable.") from error


def _parsed(name: str, data: bytes) -> ModelProto:
    try:
        wire.check(data, ModelProto.DESCRIPTOR)
        model = ModelProto.FromString(data)
    except wire.TooLargeError as error:
        raise ModelError(name, f"its graph is not to be read, for {error}; use a smaller model.") from error
    except (DecodeError, ValueError) as error:
        raise ModelError(
            name, "its file is not an ONNX graph, or not the whole of one; get or export it again."
        ) from error
    # Few bytes that are no graph are no protobuf either, but some are.
    if not model.ir_version or not model.graph.output:
        raise ModelError(name, "its file is not an ONNX graph, for it has no output; get or export it again.")
    return model


def _check_tensors(name: str, path: Path, model: ModelProto) -> dict[str, int]:
    """Refuse tensors that are not where or what they say; return the sizes of the external files."""
    external = ExternalFiles(name, path)
    for part in parts(name, model):
        if isinstance(part, SparseTensorProto):
            check_sparse(name, part, at_most=MAX_GRAPH_BYTES)
        elif isinstance(part, TensorProto) and part.data_location == TensorProto.EXTERNAL:
            external.add(part, expected_bytes(name, part))
        elif isinstance(part, TensorProto):
            check_data(name, part)
    return external.sizes


def _info(model: ModelProto, external: dict[str, int], size: int) -> GraphInfo:
    # Before IR version 4 every initializer is an input too.
    weights = {tensor.name for tensor in model.graph.initializer}
    return GraphInfo(
        inputs=tuple(_value(info) for info in model.graph.input if info.name not in weights),
        outputs=tuple(_value(info) for info in model.graph.output),
        opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        external=tuple(sorted(external)),
        size=size + sum(external.values()),
    )


def _value(info: ValueInfoProto) -> Value:
    if info.type.WhichOneof("value") != "tensor_type":
        return Value(info.name, "no tensor", None)
    tensor = info.type.tensor_type
    shape = tuple(_axis(axis) for axis in tensor.shape.dim) if tensor.HasField("shape") else None
    return Value(info.name, _dtype(tensor.elem_type), shape)


def _axis(axis: Any) -> int | str | None:
    return axis.dim_value if axis.HasField("dim_value") else (axis.dim_param or None)


def _dtype(code: int) -> str:
    known = {"FLOAT": "float32", "DOUBLE": "float64"}
    kind = type_name(code) or "unknown"
    return known.get(kind, kind.lower())
