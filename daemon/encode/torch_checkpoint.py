"""Reads the tensors of a torch checkpoint in the legacy, not zipped, format; without torch, and without trusting the file.

The format is four pickles (magic number, protocol, system, state dict), one pickle with the storages' keys in order,
then for each storage its element count as a little-endian int64 and its elements: torch/serialization.py,
`_legacy_save` and `_legacy_load`.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
from enum import Enum
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
MAX_STEPS = 1_000_000
"""A pickle has so many at most. That of a network of a hundred million weights has some ten thousand."""
MAX_DEPTH = 8
"""A state dict is a mapping of tensors, and its versions are a mapping of mappings."""
MAX_AXES = 32
MAX_SIZE = 2**63 - 1
_LENGTHS = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MALFORMED = "it is damaged or no torch checkpoint at all"


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
    """Stands for OrderedDict."""

    __slots__ = ()


class _Function(Enum):
    """Stands for what a state dict calls: no function of ours lies where a pickle could reach it."""

    ORDERED_DICT = ("collections", "OrderedDict")
    REBUILD_TENSOR = ("torch._utils", "_rebuild_tensor_v2")


class _Dtype(NamedTuple):
    name: str


_MARK = object()


class _Machine:
    """Carries out one pickle, of the few opcodes that torch writes, and makes numbers, texts, tensors and plain containers alone.

    Every other opcode and every other name is refused before it has an effect. The depth and the number of
    values are bounded, and only texts are keys. A container that lies in another takes nothing more, so that the depth is known.
    """

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._kept: list[Any] = []
        self._depths: dict[int, int] = {}
        """The depth of each container, by its id."""
        self._away: set[int] = set()
        """The ids of the containers that lie in another."""

    def run(self) -> Any:
        """Return the value that the pickle leaves; CheckpointError for what is refused."""
        steps = pickletools.genops(self._file)
        for _ in range(MAX_STEPS):
            opcode, argument, _ = next(steps)
            if opcode.name == "STOP":
                (value,) = self._stack
                return value
            self._step(opcode.name, argument)
        raise CheckpointError(f"it has more than {MAX_STEPS:,} steps, which no state dict needs")

    def _step(self, name: str, argument: Any) -> None:  # noqa: C901, PLR0912 - a case for each opcode
        stack = self._stack
        match name:
            case "PROTO":
                pass
            case "MARK":
                stack.append(_MARK)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "BINFLOAT":
                stack.append(argument)
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._tuple(self._pop(_LENGTHS[name]))
            case "TUPLE":
                self._tuple(self._pop_marked())
            case "EMPTY_DICT" | "EMPTY_LIST":
                stack.append({} if name == "EMPTY_DICT" else [])
            case "SETITEM" | "SETITEMS":
                self._set(self._pop(2) if name == "SETITEM" else self._pop_marked())
            case "APPEND" | "APPENDS":
                self._append(self._pop(1) if name == "APPEND" else self._pop_marked())
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(_named(*argument.split(" ", 1)))
            case "BINPERSID":
                stack.append(_storage(*self._pop(1)))
            case "REDUCE":
                stack.append(_called(*self._pop(2)))
            case "BUILD":
                self._build(*self._pop(2))
            case _:
                raise CheckpointError(f"it uses the opcode {name}, which no state dict needs")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise CheckpointError(_MALFORMED)
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        if _MARK in values:
            raise CheckpointError(_MALFORMED)
        return values

    def _pop_marked(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _tuple(self, values: list[Any]) -> None:
        made = tuple(values)
        self._stack.append(made)
        self._note(made, 1 + self._put_away(values))

    def _set(self, values: list[Any]) -> None:
        target = self._open(dict)
        keys = values[::2]
        if len(values) % 2 or not all(type(key) is str for key in keys):
            raise CheckpointError("it has a key that is no text, which no state dict needs")
        self._note(target, 1 + self._put_away(values[1::2]))
        target.update(zip(keys, values[1::2], strict=True))

    def _append(self, values: list[Any]) -> None:
        target = self._open(list)
        self._note(target, 1 + self._put_away(values))
        target.extend(values)

    def _build(self, target: Any, _state: Any) -> None:
        # Torch puts version numbers there. Nothing else may be given a state, and this one is dropped.
        if type(target) is not _StateDict:
            raise CheckpointError("it gives a state to what is no state dict")
        self._stack.append(target)

    def _open(self, kind: type[Any]) -> Any:
        """Return the container on the stack, which lies in no other."""
        target = self._stack[-1]
        if not isinstance(target, kind) or id(target) in self._away:
            raise CheckpointError(_MALFORMED)
        return target

    def _put_away(self, values: list[Any]) -> int:
        """Note that these lie in a container now, and return the depth of the deepest."""
        inside = [value for value in values if isinstance(value, tuple | dict | list)]
        self._away.update(map(id, inside))
        return max((self._depths.get(id(value), 1) for value in inside), default=0)

    def _note(self, container: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise CheckpointError(f"it is nested more than {MAX_DEPTH} levels deep, which no state dict is")
        # Kept, or another one could get its id.
        self._kept.append(container)
        self._depths[id(container)] = max(depth, self._depths.get(id(container), 0))


def _named(module: str, name: str) -> Any:
    if module == "torch" and name in _STORAGE_DTYPES:
        return _Dtype(_STORAGE_DTYPES[name])
    try:
        return _Function((module, name))
    except ValueError as error:
        raise CheckpointError(f"it asks for {module}.{name}, which no state dict needs") from error


def _called(function: Any, arguments: Any) -> Any:
    if function is _Function.ORDERED_DICT and arguments == ():
        return _StateDict()
    if function is _Function.REBUILD_TENSOR and isinstance(arguments, tuple):
        return _rebuild_tensor(*arguments)
    raise CheckpointError(_MALFORMED)


def _storage(pid: Any) -> _Storage:
    match pid:
        case ("storage", _Dtype(dtype), str(key), str(), int(elements), None) if elements >= 0:
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
    return (
        type(values) is tuple
        and len(values) <= MAX_AXES
        and all(type(value) is int and 0 <= value <= MAX_SIZE for value in values)
    )


def _load(file: io.BytesIO) -> Any:
    try:
        return _Machine(file).run()
    except CheckpointError:
        raise
    # Damaged bytes make pickletools and the steps above raise these before somebody notices that they are no pickle.
    except (ValueError, IndexError, KeyError, TypeError, StopIteration, struct.error) as error:
        raise CheckpointError(f"{_MALFORMED} ({error})") from error


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
