"""The two Keras models of articles: photos go in, and maps come out, as the graphs of docs/keras_to_onnx.py have them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from daemon.encode.encoder import Encoder
from daemon.encode.images import decode
from daemon.encode.models import ModelSpec, load_spec, prepare
from daemon.encode.specs import FileSource

if TYPE_CHECKING:
    from collections.abc import Sequence

SPECS = Path(__file__).parents[3] / "configs" / "models"
SIDE = 224
MAP_SIDE = 7
STRIDE = SIDE // MAP_SIDE


class Weights(NamedTuple):
    """Those of a convolution of 1 x 1: `kernel` [3, channels], `bias` [channels]."""

    kernel: np.ndarray
    bias: np.ndarray


@pytest.fixture(params=["resnet50", "vgg16"])
def shipped(request: pytest.FixtureRequest) -> ModelSpec:
    return load_spec(SPECS / f"{request.param}.yaml")


@pytest.fixture
def weights(shipped: ModelSpec) -> Weights:
    rng = np.random.default_rng(shipped.output.dim)
    kernel = rng.normal(size=(3, shipped.output.dim)).astype(np.float32)
    return Weights(kernel, rng.normal(scale=20, size=shipped.output.dim).astype(np.float32))


@pytest.fixture
def spec(shipped: ModelSpec, weights: Weights, tmp_path: Path) -> ModelSpec:
    """Return the shipped spec over a graph of the same conventions, small enough to be written here."""
    path = tmp_path / "graph.onnx"
    onnx.save(keras_like_graph(weights), path)
    return shipped.model_copy(update={"source": FileSource(kind="file", path=path)})


def keras_like_graph(weights: Weights) -> onnx.ModelProto:
    """Return a graph of one layer as tf2onnx writes many: channels last outside, channels first inside, ReLU at the end.

    float32 [photos, 224, 224, 3] -> the mean of each 32 x 32 pixels -> 1 x 1 convolution -> [photos, 7, 7, channels].
    """
    channels = len(weights.bias)
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["first"], ["means"], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2),
        helper.make_node("Conv", ["means", "kernel", "bias"], ["convolved"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["convolved"], ["activated"]),
        helper.make_node("Transpose", ["activated"], ["features"], perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "keras",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["photos", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["photos", MAP_SIDE, MAP_SIDE, channels])],
        [
            numpy_helper.from_array(np.ascontiguousarray(weights.kernel.T)[:, :, None, None], "kernel"),
            numpy_helper.from_array(weights.bias, "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def photos() -> list[bytes]:
    """Return photos as files without loss: portrait, landscape, of the model's size, and of one colour."""
    rng = np.random.default_rng(11)
    sizes = [(500, 375), (301, 450), (224, 224), (100, 80)]
    images = [
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for size in sizes
    ]
    return [png(image) for image in [*images, Image.new("RGB", (60, 60), "red"), Image.new("RGB", (60, 60), "blue")]]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def encoded(spec: ModelSpec, files: Sequence[bytes], cache: Path) -> np.ndarray:
    """Return one row for each photo, through everything that the daemon does with a file and a spec."""
    model = prepare(spec, cache, cache)
    encoder = Encoder([model], threads=1)
    images = [decode(file, "photo.png", min_side=encoder.min_side, max_pixels=10**7).image for file in files]
    return encoder.encode([encoder.preprocess(image) for image in images])[model.version]


def as_articles_compute_it(file: bytes, weights: Weights) -> np.ndarray:
    """Return the vector of a photo: load_img, preprocess_input, the network, the maximum over positions, length 1."""
    loaded = Image.open(io.BytesIO(file)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    blue_green_red = np.asarray(loaded).astype(np.float64)[:, :, ::-1] - [103.939, 116.779, 123.68]
    means = blue_green_red.reshape(MAP_SIDE, STRIDE, MAP_SIDE, STRIDE, 3).mean(axis=(1, 3))
    features = np.maximum(means @ weights.kernel.astype(np.float64) + weights.bias, 0)
    greatest = features.max(axis=(0, 1))
    return np.asarray(greatest / np.linalg.norm(greatest))


def test_vectors_are_those_that_articles_compute(spec: ModelSpec, weights: Weights, tmp_path: Path) -> None:
    rows = encoded(spec, photos(), tmp_path)
    expected = np.stack([as_articles_compute_it(file, weights) for file in photos()])
    assert rows.shape == (6, {"resnet50": 2048, "vgg16": 512}[spec.name])
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_photos_are_ranked_by_l2_between_vectors_of_length_one(
    spec: ModelSpec, weights: Weights, tmp_path: Path
) -> None:
    assert spec.metric == "l2"
    rows = encoded(spec, photos(), tmp_path)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    expected = np.stack([as_articles_compute_it(file, weights) for file in photos()])
    distances, theirs = (np.linalg.norm(vectors[0] - vectors[1:], axis=1) for vectors in (rows, expected))
    np.testing.assert_allclose(distances, theirs, atol=1e-4)
    assert distances.argsort().tolist() == theirs.argsort().tolist()


def test_the_graph_sees_blue_first(spec: ModelSpec, tmp_path: Path) -> None:
    """A kernel that is 1 for the first channel alone answers a blue photo, and a red one only through the bias."""
    channels = spec.output.dim
    kernel = np.zeros((3, channels), np.float32)
    kernel[0, 0] = 1
    only_first = Weights(kernel, np.full(channels, 1e-3, np.float32))
    path = tmp_path / "blue.onnx"
    onnx.save(keras_like_graph(only_first), path)
    red, blue = encoded(spec.model_copy(update={"source": FileSource(kind="file", path=path)}), photos()[-2:], tmp_path)
    assert blue[0] == pytest.approx(1, abs=1e-4)
    assert red[0] == 0
