"""The graph over the real weights: against the published definition, and against what photos show."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image

from daemon.encode import efficientnet
from daemon.encode.models import load_spec
from daemon.encode.preprocess import preprocess
from daemon.encode.specs import PackageSource
from daemon.encode.torch_checkpoint import read_state_dict

if TYPE_CHECKING:
    from daemon.encode.models import ModelSpec

Weights = dict[str, np.ndarray]

SPECS = Path(__file__).parents[3] / "configs" / "models"

# Repeats, kernel, stride, expansion, channels: Table 1 of arXiv:1905.11946.
TABLE = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


def installed(source: PackageSource) -> Path:
    """Return the file of a source; the test is skipped where its package, an optional one, is not installed."""
    try:
        distribution = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{source.package} is not installed")
    return Path(str(distribution.locate_file(source.file)))


@pytest.fixture(scope="module")
def weights(spec: ModelSpec) -> Weights:
    assert isinstance(spec.source, PackageSource)
    return read_state_dict(installed(spec.source).read_bytes())


def convolve(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Return the convolution of x [channels, side, side] with TensorFlow's SAME padding; depthwise when weight is [c, 1, k, k]."""
    kernel = weight.shape[2]
    side = -(-x.shape[1] // stride)
    total = max((side - 1) * stride + kernel - x.shape[1], 0)
    pad = (total // 2, total - total // 2)
    padded = np.pad(x, ((0, 0), pad, pad))
    result = np.zeros((weight.shape[0], side, side))
    for row in range(kernel):
        for column in range(kernel):
            seen = padded[:, row : row + side * stride : stride, column : column + side * stride : stride][
                :, :side, :side
            ]
            tap = weight[:, :, row, column]
            depthwise = weight.shape[1] == 1
            result += seen * tap[:, 0, None, None] if depthwise else np.tensordot(tap, seen, 1)
    return result


def batch_norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    gamma, beta, mean, variance = (
        weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
    )
    return np.asarray((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta)


def forward(weights: Weights, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the features of x [3, 224, 224], and what leaves the stem and every block, in float64 and without folding."""

    def layer(x: np.ndarray, name: str, norm: str, stride: int = 1) -> np.ndarray:
        return batch_norm(convolve(x, weights[f"{name}.weight"], stride), weights, norm)

    seen = {"stem": (x := np.clip(layer(x, "_conv_stem", "_bn0", 2), 0, 6))}
    index = 0
    for repeats, _, stride, expansion, channels in TABLE:
        for repeat in range(repeats):
            block, entry = f"_blocks.{index}", x
            if expansion > 1:
                x = np.clip(layer(x, f"{block}._expand_conv", f"{block}._bn0"), 0, 6)
            x = np.clip(layer(x, f"{block}._depthwise_conv", f"{block}._bn1", stride if repeat == 0 else 1), 0, 6)
            x = layer(x, f"{block}._project_conv", f"{block}._bn2")
            assert x.shape[0] == channels
            seen[block] = x = x + entry if repeat > 0 else x
            index += 1
    seen["features"] = np.clip(layer(x, "_conv_head", "_bn1"), 0, 6).mean((1, 2))
    return seen


def run(graph: bytes, x: np.ndarray) -> np.ndarray:
    session: Any = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {efficientnet.INPUT: x[np.newaxis].astype(np.float32)})
    features: np.ndarray = result[0]
    return features


def intermediate(graph: bytes, name: str) -> bytes:
    """Return the graph with its output taken at `name`."""
    import onnx

    model = onnx.load_model_from_string(graph)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return bytes(model.SerializeToString())


def test_the_graph_computes_the_published_definition(weights: Weights) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (3, 224, 224)).astype(np.float32)
    expected = forward(weights, x)
    graph = efficientnet.build(weights, "lite0")
    # The first block has no expansion, the second reduces, the third is residual.
    places = {
        "stem": "_conv_stem.relu6",
        "_blocks.0": "_blocks.0._project_conv.out",
        "_blocks.1": "_blocks.1._project_conv.out",
        "_blocks.2": "_blocks.2",
    }
    for name, place in places.items():
        found = run(intermediate(graph, place), x)
        np.testing.assert_allclose(found, expected[name], atol=1e-4 * np.abs(expected[name]).max(), err_msg=name)
    np.testing.assert_allclose(run(graph, x), expected["features"], atol=1e-4)


def test_the_graph_is_its_weights_without_the_classifier(weights: Weights) -> None:
    graph = efficientnet.build(weights, "lite0")
    assert 13_000_000 < len(graph) < 14_000_000


CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat


@pytest.mark.parametrize(
    ("variant", "photo", "expected"),
    [
        ("lite0", "china", {698}),  # palace
        ("lite0", "flower", {985}),  # daisy
        ("lite0", "coffee", {967}),  # espresso
        ("lite0", "chelsea", CATS),
        ("lite0", "rocket", {657}),  # missile
        ("lite1", "china", {698}),
        ("lite1", "coffee", {967}),
        ("lite1", "chelsea", CATS),
        ("lite2", "china", {698}),
        ("lite2", "coffee", {967}),
        ("lite2", "chelsea", CATS),
    ],
)
def test_the_weights_name_what_a_photo_shows(variant: str, photo: str, expected: set[int]) -> None:
    spec = load_spec(SPECS / f"efficientnet-{variant}.yaml")
    assert isinstance(spec.source, PackageSource)
    weights = read_state_dict(installed(spec.source).read_bytes())
    if photo in {"china", "flower"}:
        pixels = sklearn.datasets.load_sample_image(f"{photo}.jpg")
    else:
        pixels = getattr(skimage.data, photo)()
    x = preprocess(Image.fromarray(pixels).convert("RGB"), spec.input)
    logits = run(efficientnet.build(weights, variant, classifier=True), x)
    assert int(logits.argmax()) in expected
