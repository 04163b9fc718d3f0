"""How many bytes an ONNX tensor must have, and whether it has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnx import TensorProto

from daemon.errors import ModelError

if TYPE_CHECKING:
    from onnx import SparseTensorProto

# Bits an element takes; strings have no fixed size. onnx.proto, TensorProto.DataType.
BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64, "BOOL": 8, "FLOAT16": 16,
    "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "COMPLEX64": 64, "COMPLEX128": 128, "BFLOAT16": 16, "FLOAT8E4M3FN": 8,
    "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8, "FLOAT8E8M0": 8, "FLOAT4E2M1": 4, "UINT4": 4, "INT4": 4,
    "UINT2": 2, "INT2": 2,
}  # fmt: skip
# The fields that hold elements as numbers, in place of bytes; every other type has int32_data.
_FIELDS = {
    "FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data", "COMPLEX128": "double_data",
    "INT64": "int64_data", "UINT32": "uint64_data", "UINT64": "uint64_data", "STRING": "string_data",
}  # fmt: skip
_BYTE = 8


def type_name(code: int) -> str | None:
    """Return the name of an element type; None when there is no such type."""
    return TensorProto.DataType.Name(code) if code in TensorProto.DataType.values() else None


def expected_bytes(name: str, tensor: TensorProto) -> int:
    """Return the bytes that the elements of a tensor take, packed; ModelError when its type or shape has no such number."""
    bits = BITS.get(type_name(tensor.data_type) or "")
    if bits is None:
        raise ModelError(name, f"its tensor {tensor.name!r} has elements of no known size; export the model again.")
    return -(-_elements(name, tensor) * bits // _BYTE)


def check_data(name: str, tensor: TensorProto) -> None:
    """Refuse a tensor that does not hold as many elements as its shape says."""
    kind = type_name(tensor.data_type) or ""
    if tensor.HasField("raw_data"):
        held, expected = len(tensor.raw_data), expected_bytes(name, tensor)
    else:
        held, expected = len(getattr(tensor, _FIELDS.get(kind, "int32_data"))), _expected_entries(name, tensor, kind)
    if held != expected:
        reason = (
            f"the data of its tensor {tensor.name!r} does not fill its shape {_shape(tensor)}; export the model again."
        )
        raise ModelError(name, reason)


def check_sparse(name: str, sparse: SparseTensorProto, *, at_most: int) -> None:
    """Refuse a sparse tensor that would take more than `at_most` bytes once its zeros are written out, as runtimes do."""
    dense = TensorProto(data_type=sparse.values.data_type, dims=sparse.dims, name=sparse.values.name)
    if expected_bytes(name, dense) > at_most:
        raise ModelError(
            name, f"its sparse tensor {dense.name!r} of shape {_shape(dense)} is too large; use a smaller model."
        )


def _expected_entries(name: str, tensor: TensorProto, kind: str) -> int:
    elements = _elements(name, tensor)
    if kind == "STRING":
        return elements
    if kind.startswith("COMPLEX"):
        return 2 * elements
    # Types of less than a byte are packed, and each entry holds one byte.
    return expected_bytes(name, tensor) if BITS.get(kind, _BYTE) < _BYTE else elements


def _elements(name: str, tensor: TensorProto) -> int:
    if any(length < 0 for length in tensor.dims):
        raise ModelError(name, f"its tensor {tensor.name!r} has the shape {_shape(tensor)}; export the model again.")
    return math.prod(tensor.dims)


def _shape(tensor: TensorProto) -> str:
    return str(list(tensor.dims[:8])) if len(tensor.dims) <= _BYTE else f"of {len(tensor.dims)} axes"
