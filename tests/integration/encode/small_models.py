"""Models small enough to know by heart: a graph of a few nodes, laid out as a prepared model is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from daemon.encode.models import Model, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Shape = list[int | str]

SIDE = 16
PHOTOS: Shape = ["batch", 3, SIDE, SIDE]
IDENTITY = [helper.make_node("Identity", ["x"], ["y"])]
MAP: dict[str, Shape] = {"y": PHOTOS}

INPUT: dict[str, Any] = {
    "size": SIDE,
    "resize": {"rule": "exact"},
    "interpolation": "bilinear",
    "layout": "nchw",
    "channels": "rgb",
    "scale": 1.0,
    "mean": [0.0] * 3,
    "std": [1.0] * 3,
    "dtype": "float32",
}


def graph_of(
    nodes: Sequence[onnx.NodeProto] = IDENTITY,
    outputs: Mapping[str, Shape] = MAP,
    inputs: Mapping[str, Shape] | None = None,
    *,
    dtype: int = TensorProto.FLOAT,
    output_dtype: int = TensorProto.FLOAT,
    weights: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """Return a serialised graph, by default one that returns the photos it is fed."""
    ins = [helper.make_tensor_value_info(name, dtype, shape) for name, shape in (inputs or {"x": PHOTOS}).items()]
    outs = [helper.make_tensor_value_info(name, output_dtype, shape) for name, shape in outputs.items()]
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "small", ins, outs, tensors)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    return bytes(model.SerializeToString())


def small_model(
    directory: Path,
    graph: bytes | None = None,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    text_graph: bytes | None = None,
    tokenizer: str = "",
    **changes: Any,
) -> Model:
    """Return a model of `graph`, by default the average colour of a photo, [3]; `changes` are those to its spec."""
    graph = graph_of() if graph is None else graph
    described = {
        "name": "small",
        "licence": "MIT",
        "source": {"kind": "file", "path": str(directory / "image" / "model.onnx")},
        "input": INPUT,
        "output": {"pooling": "avg", "dim": 3},
        "metric": "cosine",
    } | changes
    spec = ModelSpec.model_validate(described)
    home = directory / f"{spec.name}-prepared"
    (home / "image").mkdir(parents=True)
    model = Model(spec, home, "0" * 12, hashlib.sha256(graph).hexdigest())
    model.graph.write_bytes(graph)
    if arrays is not None:
        np.savez(home / "projection.npz", **dict[str, Any](arrays))
    if text_graph is not None:
        (home / "text").mkdir()
        (home / "text" / "model.onnx").write_bytes(text_graph)
        (home / "text" / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return model
