"""A protobuf is measured before it is parsed."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from daemon.encode import wire


def message(number: int, content: bytes) -> bytes:
    length, prefix = len(content), b""
    while length > 127:
        prefix, length = prefix + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + prefix + bytes([length]) + content


def nested(levels: int) -> bytes:
    """Return a graph with a graph in an attribute of its node, and so on."""
    data = b""
    for _ in range(levels):
        data = message(1, message(5, message(6, data)))
    return message(7, data)


def model() -> ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0] * 4)
    node = helper.make_node("Add", ["x", "w"], ["y"], axes=[1, 2, 3], name="é" * 200)
    return helper.make_model(helper.make_graph([node], "g", infos[:1], infos[1:], [weight]))


def test_a_graph_is_walked_to_its_end() -> None:
    wire.check(model().SerializeToString(), ModelProto.DESCRIPTOR)
    wire.check(b"", ModelProto.DESCRIPTOR)
    wire.check(nested(10), ModelProto.DESCRIPTOR)


@pytest.mark.parametrize("levels", [30, 5000])
def test_graphs_within_graphs_have_an_end(levels: int) -> None:
    with pytest.raises(wire.TooLargeError, match="levels deep"):
        wire.check(nested(levels), ModelProto.DESCRIPTOR)


@pytest.mark.parametrize(
    "data",
    [
        message(7, b"\x0a\x00" * 2001),
        b"\x42\x00" * 2001,
        b"\x08\x01" * 2001,
        message(7, message(1, message(5, b"\x40\x01" * 2001))),
    ],
    ids=["nodes", "opsets", "numbers", "numbers of an attribute"],
)
def test_a_few_bytes_each_are_not_a_million_messages(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.check(data, ModelProto.DESCRIPTOR)
    monkeypatch.setattr(wire, "MAX_FIELDS", 2000)
    with pytest.raises(wire.TooLargeError, match="more than 2,000 fields"):
        wire.check(data, ModelProto.DESCRIPTOR)


def test_whatever_protobuf_reads_is_walked_as_protobuf_reads_it() -> None:
    data = model().SerializeToString()
    for length in range(len(data)):
        try:
            wire.check(data[:length], ModelProto.DESCRIPTOR)
        except ValueError:
            continue
        ModelProto.FromString(data[:length])


@given(st.binary(max_size=200))
def test_any_bytes_are_walked_or_refused_in_no_time(data: bytes) -> None:
    began = time.monotonic()
    with contextlib.suppress(ValueError):
        wire.check(data, ModelProto.DESCRIPTOR)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("data", [b"\x0b\x0c", b"\x0c", b"\x80" * 20, b"\x0f", b"\x42\x05\x08"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no protobuf message|cut short"):
        wire.check(data, ModelProto.DESCRIPTOR)
