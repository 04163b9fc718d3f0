"""The builder's arithmetic, and what it does with weights that do not fit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from daemon.encode.efficientnet import VARIANTS, blocks, build, classifier, round_channels, same_padding


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),
        (112, 3, 1, (1, 1)),
        (56, 5, 2, (1, 2)),
        (15, 5, 2, (2, 2)),
        (65, 3, 2, (1, 1)),
        (7, 1, 1, (0, 0)),
    ],
)
def test_padding_is_that_of_tensorflow_same(side: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(side, kernel, stride) == expected


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(16, 1.0, 16), (24, 1.1, 24), (40, 1.1, 48), (112, 1.1, 120), (320, 1.1, 352)]
)
def test_channels_are_multiples_of_eight(channels: int, width: float, expected: int) -> None:
    assert round_channels(channels, width) == expected


@pytest.mark.parametrize(("variant", "count"), [("lite0", 16), ("lite1", 21), ("lite2", 21)])
def test_a_deeper_variant_repeats_all_stages_but_the_first_and_the_last(variant: str, count: int) -> None:
    found = list(blocks(VARIANTS[variant]))
    assert len(found) == count
    assert sum(block.stride == 2 for block in found) == 4
    assert found[0].inputs == 32


def random_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}

    def layer(name: str, norm: str, shape: tuple[int, ...]) -> None:
        weights[f"{name}.weight"] = rng.standard_normal(shape).astype(np.float32)
        for part in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{norm}.{part}"] = rng.uniform(0.5, 1, shape[0]).astype(np.float32)

    layer("_conv_stem", "_bn0", (32, 3, 3, 3))
    for index, block in enumerate(blocks(VARIANTS["lite0"])):
        name, inner = f"_blocks.{index}", block.inputs * block.expand
        if block.expand > 1:
            layer(f"{name}._expand_conv", f"{name}._bn0", (inner, block.inputs, 1, 1))
        layer(f"{name}._depthwise_conv", f"{name}._bn1", (inner, 1, block.kernel, block.kernel))
        layer(f"{name}._project_conv", f"{name}._bn2", (block.outputs, inner, 1, 1))
    layer("_conv_head", "_bn1", (1280, 320, 1, 1))
    return weights


def test_the_same_weights_give_the_same_bytes() -> None:
    weights = random_weights()
    assert build(weights, "lite0") == build(weights, "lite0")


def test_a_graph_is_old_enough_for_old_runtimes_and_takes_any_batch() -> None:
    model = onnx.load_model_from_string(build(random_weights(), "lite0"))
    assert model.ir_version <= 10
    assert model.opset_import[0].version <= 13
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert dimensions[0].dim_param == "batch"
    assert [dimension.dim_value for dimension in dimensions[1:]] == [3, 224, 224]


def test_a_missing_weight_is_named() -> None:
    weights = random_weights()
    del weights["_blocks.3._bn1.running_var"]
    with pytest.raises(ValueError, match=r"no _blocks\.3\._bn1\.running_var"):
        build(weights, "lite0")


def test_a_weight_of_another_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"_blocks\.3\._depthwise_conv\.weight has the shape"):
        build(random_weights(), "lite2")


def test_a_classifier_is_a_weight_and_a_bias_for_each_class() -> None:
    weights = {"_fc.weight": np.ones((5, 1280), np.float32), "_fc.bias": np.zeros(5, np.float32)}
    weight, bias = classifier(weights)
    assert (weight.shape, bias.shape) == ((5, 1280), (5,))


@pytest.mark.parametrize(
    ("weight", "bias"),
    [((5, 1281), (5,)), ((5, 1280), (6,)), ((1280,), ()), ((5, 1280), (5, 1)), ((5, 5, 1280), (5, 5))],
)
def test_a_head_that_is_no_classifier_is_refused(weight: tuple[int, ...], bias: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no classifier's"):
        classifier({"_fc.weight": np.ones(weight, np.float32), "_fc.bias": np.zeros(bias, np.float32)})


def test_weights_without_a_classifier_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no _fc\.weight"):
        classifier(random_weights())
