"""Graphs as exporters write them, small: photos in, some form of embedding out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from daemon.catalogue.catalogue import Catalogue
from daemon.catalogue.installation import Installation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Shape = Sequence[int | str]

SIDE = 16
FEATURES = 8


def image_graph(*, nhwc: bool = False, batch: int | str = "batch", dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return a graph of maps [batch, FEATURES, SIDE, SIDE], channels last where `nhwc` says so, as a model without its top."""
    weight = np.random.default_rng(1).normal(size=(3, FEATURES)).astype(np.float32)
    taken: Shape = [batch, SIDE, SIDE, 3] if nhwc else [batch, 3, SIDE, SIDE]
    given: Shape = [batch, SIDE, SIDE, FEATURES] if nhwc else [batch, FEATURES, SIDE, SIDE]
    cast = [helper.make_node("Cast", ["pixels"], ["photos"], to=TensorProto.FLOAT)]
    if nhwc:
        nodes = [*cast, helper.make_node("MatMul", ["photos", "weight"], ["maps"])]
    else:
        nodes = [
            *cast,
            helper.make_node("Transpose", ["photos"], ["last"], perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", ["last", "weight"], ["multiplied"]),
            helper.make_node("Transpose", ["multiplied"], ["maps"], perm=[0, 3, 1, 2]),
        ]
    return model(nodes, [("pixels", dtype, taken)], [("maps", given)], {"weight": weight})


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Shape]],
    outputs: Sequence[tuple[str, Shape]],
    weights: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, dtype, shape) for name, dtype, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


def save(path: Path, graph: onnx.ModelProto, *, data: str | None = None) -> Path:
    """Write a graph, with its weights in the file `data` beside it where one is named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if data:
        onnx.save_model(graph, path, save_as_external_data=True, location=data, size_threshold=0)
    else:
        onnx.save_model(graph, path)
    return path


def installation(directory: Path) -> Installation:
    """Return an installation of nothing but directories."""
    catalogue = Catalogue(directory / "config" / "models", directory / "shipped")
    socket = directory / "lookalike.sock"
    return Installation(catalogue, directory / "data" / "models", directory / "cache", (), socket, 10**8)


def spec_text(name: str, source: dict[str, Any]) -> str:
    """Return a spec for image_graph() from another source."""
    given = "".join(f"  {key}: {value}\n" for key, value in source.items())
    return (
        f"name: {name}\nlicence: MIT\nsource:\n{given}"
        f"input: {{preset: torchvision, size: {SIDE}, resize: {{rule: exact}}}}\n"
        f"output: {{pooling: avg, dim: {FEATURES}}}\nmetric: cosine\n"
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
