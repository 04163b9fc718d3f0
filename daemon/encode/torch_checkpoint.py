"""Reads the tensors of a torch checkpoint in the legacy, not zipped, format; without torch, and without trusting the file.

The format is four pickles (magic number, protocol, system, state dict), one pickle with the storages' keys in order,
then for each storage its element count as a little-endian int64 and its elements: torch/serialization.py,
`_legacy_save` and `_legacy_load`.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from typing import Any, NamedTuple

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

_STORAGE_DTYPES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
}
# What damaged or hostile bytes make the unpickler raise before it notices that they are no pickle.
_MALFORMED = (
    pickle.UnpicklingError, EOFError, AssertionError, AttributeError, IndexError, KeyError, MemoryError, NotImplementedError,
    OverflowError, RecursionError, TypeError, ValueError, struct.error,
)  # fmt: skip


class CheckpointError(ValueError):
    """The bytes are no checkpoint that can be read safely; the text says which part is not."""


class _Storage(NamedTuple):
    key: str
    dtype: str
    elements: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(data: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a checkpoint by name, each in its own shape and dtype, read-only; CheckpointError otherwise."""
    file = io.BytesIO(data)
    if _load(file) != MAGIC:
        raise CheckpointError("it does not begin with the magic number of a legacy torch checkpoint")
    if _load(file) != PROTOCOL:
        raise CheckpointError(f"its protocol is not {PROTOCOL}")
    system = _load(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("it was not written on a little-endian machine")
    state = _load(file)
    if not isinstance(state, dict):
        raise CheckpointError("it does not hold a state dict")
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, _Tensor)}
    if len(tensors) != len(state):
        raise CheckpointError("its state dict holds something other than tensors")
    return _view(tensors, _read_storages(file, tensors))


class _StateDict(dict[Any, Any]):
    """Stands for OrderedDict; its attributes, where torch puts version numbers, are dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None: ...


# The unpickler in C sizes its memo by any number a pickle names, and so can be made to take all memory.
class _StateDictUnpickler(pickle._Unpickler):  # noqa: SLF001
    """Admits the six names a state dict is made of; every other name is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _StateDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise CheckpointError(f"it asks for {module}.{name}, which no state dict needs")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", str(dtype), str(key), str(), int(elements), None) if (
                dtype in _STORAGE_DTYPES.values() and elements >= 0
            ):
                return _Storage(key, dtype, elements)
        raise CheckpointError("it refers to a storage in an unknown way")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if (
        not isinstance(storage, _Storage)
        or not _all_sizes((offset,))
        or not _all_sizes(shape)
        or not _all_sizes(strides)
    ):
        raise CheckpointError("it describes a tensor in an unknown way")
    return _Tensor(storage, offset, shape, strides)


def _all_sizes(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and value >= 0 for value in values)


def _load(file: io.BytesIO) -> Any:
    try:
        return _StateDictUnpickler(file).load()
    except CheckpointError:
        raise
    except _MALFORMED as error:
        raise CheckpointError(f"it is damaged or no torch checkpoint at all ({error})") from error


def _read_storages(file: io.BytesIO, tensors: dict[str, _Tensor]) -> dict[str, np.ndarray]:
    expected = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    keys = _load(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(expected):
        raise CheckpointError("the storages it lists are not those its tensors use")
    return {key: _read_storage(file, expected[key]) for key in keys}


def _read_storage(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    elements = int.from_bytes(file.read(8), "little", signed=True)
    if elements != storage.elements:
        raise CheckpointError(
            f"storage {storage.key} has {elements} elements where its tensors expect {storage.elements}"
        )
    dtype = np.dtype(storage.dtype)
    data = file.read(elements * dtype.itemsize)
    if len(data) != elements * dtype.itemsize:
        raise CheckpointError("it is cut short")
    return np.frombuffer(data, dtype)


def _view(tensors: dict[str, _Tensor], storages: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: _view_one(name, tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _view_one(name: str, tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    """Return a tensor as a view of its storage, having checked that every element lies inside it."""
    if len(tensor.shape) != len(tensor.strides) or not all(tensor.shape):
        raise CheckpointError(f"tensor {name} has no shape")
    last = tensor.offset + sum(
        (length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    # The second test refuses strides that repeat elements: a few bytes would become a tensor of any size.
    if last >= len(storage) or math.prod(tensor.shape) > len(storage):
        raise CheckpointError(f"tensor {name} reaches outside its storage")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
