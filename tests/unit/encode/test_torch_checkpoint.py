"""The reader of torch checkpoints, which trusts no byte of them."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import types
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from daemon.encode import torch_checkpoint
from daemon.encode.torch_checkpoint import MAGIC, PROTOCOL, CheckpointError, read_state_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Storage:
    """What a tensor refers to by a persistent id."""

    def __init__(self, kind: str, key: str, elements: int) -> None:
        self.kind = kind
        self.key = key
        self.elements = elements


class Tensor:
    """Pickles as torch pickles a tensor."""

    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any) -> None:
        self.arguments: tuple[Any, ...] = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class Pickler(pickle.Pickler):
    """Refers to storages as torch does."""

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        return ("storage", getattr(sys.modules["torch"], obj.kind), obj.key, "cpu", obj.elements, None)


@pytest.fixture(autouse=True)
def torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for torch, so that pickles can name what is torch's."""
    torch = types.ModuleType("torch")
    utils = types.ModuleType("torch._utils")
    for kind in ("HalfStorage", "FloatStorage", "DoubleStorage", "LongStorage", "QUInt8Storage"):
        setattr(torch, kind, type(kind, (), {"__module__": "torch", "__qualname__": kind}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def dumps(value: object) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def checkpoint(
    state: object, storages: dict[str, np.ndarray], *, magic: int = MAGIC, protocol: int = PROTOCOL
) -> bytes:
    head = [dumps(value) for value in (magic, protocol, SYSTEM, state, list(storages))]
    data = [len(array).to_bytes(8, "little") + array.tobytes() for array in storages.values()]
    return b"".join(head + data)


NUMBERS = {"7": np.arange(6, dtype=np.float32)}


def one_tensor(
    offset: Any = 0, shape: Any = (2, 3), strides: Any = (3, 1), *, elements: int = 6, key: str = "7"
) -> Any:
    return OrderedDict(weight=Tensor(Storage("FloatStorage", key, elements), offset, shape, strides))


def test_tensors_come_back_in_their_shape_dtype_and_order() -> None:
    storages: dict[str, np.ndarray] = {
        "7": np.arange(6, dtype=np.float32),
        "8": np.array([5], np.int64),
        "9": np.arange(2, dtype=np.float16),
    }
    state = OrderedDict(
        weight=Tensor(Storage("FloatStorage", "7", 6), 0, (2, 3), (1, 2)),
        steps=Tensor(Storage("LongStorage", "8", 1), 0, (), ()),
        half=Tensor(Storage("HalfStorage", "9", 2), 1, (1,), (1,)),
    )
    tensors = read_state_dict(checkpoint(state, storages))
    assert list(tensors) == ["weight", "steps", "half"]
    np.testing.assert_array_equal(tensors["weight"], np.arange(6, dtype=np.float32).reshape(3, 2).T)
    assert (tensors["steps"].shape, int(tensors["steps"])) == ((), 5)
    assert tensors["half"].dtype == np.float16


def test_tensors_can_share_a_storage() -> None:
    storage = Storage("FloatStorage", "7", 6)
    state = {"a": Tensor(storage, 0, (3,), (1,)), "b": Tensor(storage, 3, (3,), (1,))}
    tensors = read_state_dict(checkpoint(state, NUMBERS))
    assert tensors["b"].tolist() == [3, 4, 5]


def test_tensors_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        read_state_dict(checkpoint(one_tensor(), NUMBERS))["weight"][0, 0] = 1


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {marker}",), "system"),
        (eval, ("open('{marker}', 'w')",), "eval"),
        (exec, ("open('{marker}', 'w')",), "exec"),
        (getattr, (os, "system"), "getattr"),
        (open, ("{marker}", "w"), "open"),
        (np.load, ("{marker}",), "load"),
        (__import__, ("os",), "__import__"),
    ],
)
@pytest.mark.parametrize("place", ["magic", "state", "inside the state"])
def test_a_pickle_that_calls_anything_else_is_refused_by_name_and_not_run(
    tmp_path: Path, function: Callable[..., Any], arguments: tuple[Any, ...], name: str, place: str
) -> None:
    marker = tmp_path / "marker"
    filled = [a.format(marker=marker) if isinstance(a, str) else "os" for a in arguments]
    call = Calls(function, *filled)
    if place == "magic":
        data = dumps(call)
    else:
        data = checkpoint(call if place == "state" else one_tensor() | {"bias": call}, NUMBERS)
    with pytest.raises(CheckpointError, match=rf"\.{name}, which no state dict needs"):
        read_state_dict(data)
    assert not marker.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        b"ctorch.serialization\nload\n.",
        b"ctorch\nload\n.",
    ],
)
def test_every_opcode_that_imports_goes_through_the_same_gate(opcodes: bytes) -> None:
    with pytest.raises(CheckpointError, match="which no state dict needs"):
        read_state_dict(opcodes)


def test_a_dtype_that_was_admitted_cannot_be_called() -> None:
    data = dumps(MAGIC) + dumps(PROTOCOL) + dumps(SYSTEM) + b"ctorch\nFloatStorage\n)R."
    with pytest.raises(CheckpointError, match="damaged"):
        read_state_dict(data)


def test_a_storage_type_that_is_not_known_is_refused() -> None:
    state = {"weight": Tensor(Storage("QUInt8Storage", "7", 6), 0, (6,), (1,))}
    with pytest.raises(CheckpointError, match=r"torch\.QUInt8Storage"):
        read_state_dict(checkpoint(state, NUMBERS))


@pytest.mark.parametrize(
    "state",
    [
        one_tensor(offset=1),
        one_tensor(offset=-1),
        one_tensor(offset="0"),
        one_tensor(shape=(3, 3)),
        one_tensor(shape=(2, -3)),
        one_tensor(shape=(2.0, 3)),
        one_tensor(shape=(0,), strides=(1,)),
        one_tensor(strides=(4, 1)),
        one_tensor(strides=(1,)),
        one_tensor(strides=None),
        one_tensor(shape=(10**9, 10**9), strides=(0, 0)),
        one_tensor(elements=7),
        one_tensor(elements=10**15),
        one_tensor(key="8"),
        [1, 2],
        {"weight": 1},
    ],
)
def test_a_tensor_that_does_not_lie_in_its_storage_is_refused(state: Any) -> None:
    with pytest.raises(CheckpointError):
        read_state_dict(checkpoint(state, NUMBERS))


def test_a_file_of_another_format_is_refused() -> None:
    with pytest.raises(CheckpointError, match="magic"):
        read_state_dict(checkpoint(one_tensor(), NUMBERS, magic=1))
    with pytest.raises(CheckpointError, match="protocol"):
        read_state_dict(checkpoint(one_tensor(), NUMBERS, protocol=1))


def test_a_file_cut_short_anywhere_is_refused() -> None:
    data = checkpoint(one_tensor(), NUMBERS)
    for length in range(len(data)):
        with pytest.raises(CheckpointError):
            read_state_dict(data[:length])


def test_a_file_with_any_byte_changed_is_read_or_refused_and_nothing_else() -> None:
    data = checkpoint(one_tensor(), NUMBERS)
    for position in range(len(data) - NUMBERS["7"].nbytes):
        damaged = bytearray(data)
        damaged[position] ^= 0x01
        try:
            read_state_dict(bytes(damaged))
        except CheckpointError:
            continue


HEAD = dumps(MAGIC) + dumps(PROTOCOL) + dumps(SYSTEM)
NESTED = b")" + b"\x85" * 200_000
TEXT = b"X\x01\x00\x00\x00a"


@pytest.mark.parametrize(
    "state",
    [
        NESTED,
        b"}" + TEXT + NESTED + b"s",
        b"}" + NESTED + TEXT + b"s",
        b"}(" + NESTED + TEXT + b"u",
        b"]" + NESTED + b"a",
        b"ccollections\nOrderedDict\n" + NESTED + b"R",
        NESTED + b"Q",
        b"]" * 200_000 + b"a" * 199_999,
        b"}" + (TEXT + b"}") * 200_000 + b"s" * 200_000,
        # Each takes the next one when it lies in another already.
        b"}q\x00" + b"".join(TEXT + b"}q\x01s0h\x01q\x00" for _ in range(3)),
        # One that contains itself.
        b"}q\x00" + TEXT + b"h\x00s",
    ],
    ids=["tuple", "value", "key", "keys", "list", "call", "id", "lists", "mappings", "late", "cycle"],
)
def test_no_depth_crashes_the_reader(state: bytes) -> None:
    with pytest.raises(CheckpointError):
        read_state_dict(HEAD + b"\x80\x02" + state + b".")


def test_a_key_of_nested_tuples_crashes_no_python(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    file.write_bytes(HEAD + b"\x80\x02}" + NESTED + TEXT + b"s.")
    script = (
        "import pathlib, sys; from daemon.encode.torch_checkpoint import *\n"
        "try: read_state_dict(pathlib.Path(sys.argv[1]).read_bytes())\nexcept CheckpointError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)
    assert "nested more than 8 levels deep" in done.stdout


def test_nothing_but_a_state_dict_is_given_a_state() -> None:
    defaults = b"N}X\x0c\x00\x00\x00__defaults__)s\x86"
    for target in (
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ccollections\nOrderedDict\n",
        b"ctorch\nFloatStorage\n",
        b"}",
        b")",
    ):
        before = {name: getattr(value, "__defaults__", None) for name, value in vars(torch_checkpoint).items()}
        with pytest.raises(CheckpointError, match="state to what is no state dict"):
            read_state_dict(HEAD + b"\x80\x02" + target + defaults + b"b.")
        assert before == {name: getattr(value, "__defaults__", None) for name, value in vars(torch_checkpoint).items()}


def test_the_state_of_a_state_dict_is_dropped() -> None:
    state = one_tensor()
    state._metadata = OrderedDict({"": {"version": 1}})
    assert list(read_state_dict(checkpoint(state, NUMBERS))) == ["weight"]


@pytest.mark.parametrize(
    "opcodes",
    [b"I5\n", b"F1\n", b"L5L\n", b"P1\n", b"\x8b\x00\x00\x00\x40", b"\x8d" + b"\xff" * 8, b"\x96" + b"\xff" * 8, b"2", b"\x82\x01", b"o",
     b"\x81", b"\x92", b"\x8f", b"\x90", b"\x97", b"U\x01a", b"r\xff\xff\xff\x7f"],
)  # fmt: skip
def test_no_other_opcode_has_an_effect(opcodes: bytes) -> None:
    with pytest.raises(CheckpointError):
        read_state_dict(HEAD + b"\x80\x02" + opcodes + b".")


def test_the_number_of_steps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    read_state_dict(checkpoint(one_tensor(), NUMBERS))
    monkeypatch.setattr(torch_checkpoint, "MAX_STEPS", 1000)
    with pytest.raises(CheckpointError, match="more than 1,000 steps"):
        read_state_dict(HEAD + b"\x80\x02" + b"}" * 1_000_000 + b".")


@pytest.mark.parametrize("shape", [(1,) * 33, (2**64,), (2**2000,) * 9])
def test_a_shape_that_only_costs_time_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match="in an unknown way"):
        read_state_dict(checkpoint(one_tensor(shape=shape, strides=shape), NUMBERS))
