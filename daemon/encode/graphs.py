"""Reads ONNX files, which are untrusted input, and refuses what could reach outside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from daemon.encode.sources import content
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

MAX_GRAPH_BYTES = (1 << 31) - 1


@dataclass(frozen=True)
class GraphInfo:
    """What an ONNX file says of itself."""

    external: tuple[str, ...]
    """The files in which it keeps weights, relative to itself."""


def check(name: str, path: Path) -> GraphInfo:
    """Return what the graph of the model `name` says of itself; ModelError with the reason when it is not to be run."""
    try:
        graph = onnx.load_model_from_string(content(name, path, at_most=MAX_GRAPH_BYTES)).graph
    except DecodeError as error:
        raise ModelError(name, "its file is not an ONNX graph; export the model again.") from error
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in graph.initializer):
        raise ModelError(name, "its graph keeps weights in other files; save it as a single .onnx file.")
    return GraphInfo(())
