"""Which operators an ONNX model may use, and how many they become once its functions are written out."""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from onnx import FunctionProto, NodeProto

from daemon.encode.messages import parts
from daemon.errors import ModelError

if TYPE_CHECKING:
    from google.protobuf.message import Message  # type: ignore[import-untyped]
    from onnx import ModelProto

# Those of which onnxruntime ships operators, as its get_all_operator_schema() lists them in 1.32. "" is ai.onnx.
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
# They hand what lies in the graph, or in a file it names, to the driver of a device as a program.
PROGRAMS = {"EPContext", "Snpe"}
# onnxruntime writes every call of a function out. 20 functions that call the next one twice make a million operators of a
# few hundred bytes; 65,000 took it 23 s. The largest models have some ten thousand.
MAX_OPERATORS = 50_000
MAX_SIZE = 10**12

# Domain, name and overload.
_Key = tuple[str, str, str]


def check_operators(name: str, model: ModelProto) -> None:
    """Refuse operators that the runtime does not ship, programs for devices, and functions that grow without bounds."""
    functions = {_key(function): function for function in model.functions}
    calls = {key: _used(name, function) for key, function in functions.items()}
    # The functions' own are in the model's too.
    for operator in _used(name, model):
        if operator not in functions:
            _check_operator(name, operator)
    sizes = _written_out(name, calls)
    total = sum(count * sizes.get(operator, 1) for operator, count in _used(name, model.graph).items())
    if functions and total > MAX_OPERATORS:
        raise ModelError(name, f"its functions write out to {total} operators; export it without functions.")


def _used(name: str, whole: Message) -> Counter[_Key]:
    """Return how often each operator is used in a model, a graph or a function, sub-graphs included."""
    return Counter(_key(part) for part in parts(name, whole) if isinstance(part, NodeProto))


def _key(part: NodeProto | FunctionProto) -> _Key:
    return part.domain, part.name if isinstance(part, FunctionProto) else part.op_type, part.overload


def _check_operator(name: str, operator: _Key) -> None:
    domain, kind, _ = operator
    if domain not in DOMAINS:
        reason = (
            f"it needs operators of {domain}, which come with a library of their own; such libraries are not loaded, so "
            "export it with standard operators alone."
        )
        raise ModelError(name, reason)
    if kind in PROGRAMS:
        raise ModelError(
            name, f"it holds a program for one device ({kind}), which is not run; use the model it was made of."
        )


def _written_out(name: str, calls: dict[_Key, Counter[_Key]]) -> dict[_Key, int]:
    """Return of how many operators each function is made in the end."""
    sizes: dict[_Key, int] = {}
    try:
        for function in TopologicalSorter(calls).static_order():
            if function in calls:
                # A chain of functions would make it a number of a million digits.
                size = sum(count * sizes.get(used, 1) for used, count in calls[function].items())
                sizes[function] = min(size, MAX_SIZE)
    except CycleError as error:
        raise ModelError(name, "its functions call themselves; export it without functions.") from error
    return sizes
