"""Puts into a model's directory what it needs: graphs built or copied, and everything checked as it lies there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from daemon import bounded_json
from daemon.encode import projection_file
from daemon.encode.manifest import IMAGE_GRAPH, PROJECTION, TEXT_GRAPH, TOKENIZER
from daemon.encode.specs import Affine
from daemon.encode.torch_checkpoint import read_state_dict
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from daemon.encode.ingredients import Ingredient
    from daemon.encode.models import Model
    from daemon.encode.prepared import Making
    from daemon.encode.specs import EfficientNetLite, ModelSpec

    Parts = Mapping[str, Ingredient]

MAX_CHECKPOINT_BYTES = 1 << 30
MAX_TOKENIZER_BYTES = 64 << 20
MAX_TOKENIZER_VALUES = 8_000_000
"""The largest tokenizers have 256,000 tokens and twice as many merges, each of up to three values."""
MAX_NAMES_BYTES = 16 << 20


def put_image(making: Making, spec: ModelSpec, parts: Parts) -> None:
    """Put the graph of images, built of the weights or copied; ModelError when it cannot be built or is not to be run."""
    if spec.builder:
        making.write(IMAGE_GRAPH, _built(spec.name, spec.builder, parts["weights"]))
    else:
        _put_graph(making, spec.name, parts["image"], IMAGE_GRAPH)


def put_text(making: Making, name: str, parts: Parts) -> None:
    """Put the text tower: its graph and its tokenizer; ModelError when one is not to be used."""
    _put_graph(making, name, parts["text"], TEXT_GRAPH)
    tokenizer = parts["tokenizer"].read(name, at_most=MAX_TOKENIZER_BYTES)
    try:
        bounded_json.loads(tokenizer, most_values=MAX_TOKENIZER_VALUES)
    except ValueError as error:
        why = f" of a tokenizer, for {error}" if isinstance(error, bounded_json.TooLargeError) else ""
        reason = f"{parts['tokenizer'].path} is no JSON{why}; take the tokenizer.json of the model."
        raise ModelError(name, reason) from error
    making.write(TOKENIZER, tokenizer)


def put_projection(making: Making, model: Model, parts: Parts) -> None:
    """Put the projection of `model`, whose graphs are in their places; ModelError when it does not fit them."""
    name, dim = model.spec.name, model.spec.output.dim
    if isinstance(model.spec.projection, Affine):
        making.copy(name, parts["affine"].path, PROJECTION, parts["affine"].sha256)
        projection_file.check_affine(name, making.directory / PROJECTION, dim)
        return
    weight, bias = _classifier(name, parts["weights"])
    content = parts["names"].read(name, at_most=MAX_NAMES_BYTES)
    names = projection_file.class_names(name, content, len(bias))
    making.write(PROJECTION, projection_file.words(name, (weight, bias), _class_vectors(model, names), dim))


def _put_graph(making: Making, name: str, graph: Ingredient, place: str) -> None:
    from daemon.encode import graphs  # noqa: PLC0415 - onnx, as below

    making.copy(name, graph.path, place, graph.sha256)
    folder = place.rpartition("/")[0]
    for location, sha256 in graph.external.items():
        making.copy(name, graph.path.parent / location, f"{folder}/{location}", sha256)
    graphs.check(name, making.directory / place)


def _built(name: str, builder: EfficientNetLite, weights: Ingredient) -> bytes:
    # onnx takes as long to import as all the rest, and a graph that was built before does not need it.
    from daemon.encode import efficientnet  # noqa: PLC0415

    try:
        return efficientnet.build(_state_dict(name, weights), builder.variant)
    except ValueError as error:
        raise ModelError(name, f"no graph can be built of its weights: {error}; check its source.") from error


def _classifier(name: str, weights: Ingredient) -> tuple[np.ndarray, np.ndarray]:
    from daemon.encode import efficientnet  # noqa: PLC0415 - onnx, as above

    try:
        return efficientnet.classifier(_state_dict(name, weights))
    except ValueError as error:
        raise ModelError(name, f"its weights have no classifier: {error}; check its source.") from error


def _state_dict(name: str, weights: Ingredient) -> dict[str, np.ndarray]:
    return read_state_dict(weights.read(name, at_most=MAX_CHECKPOINT_BYTES))


def _class_vectors(model: Model, names: Sequence[str]) -> np.ndarray:
    """Return what the text tower of `model` makes of the names, float32 [names, dim]."""
    # Both need onnxruntime, which nothing else here does.
    from daemon.encode.text import TextEncoder  # noqa: PLC0415
    from daemon.encode.words import class_vectors  # noqa: PLC0415

    encoder = TextEncoder(model, threads=len(os.sched_getaffinity(0)))
    try:
        return class_vectors(names, encoder.encode)
    finally:
        encoder.close()
