"""Builds the ONNX graph of an EfficientNet-Lite from its trained weights, batch norms folded into the convolutions.

The architecture is that of Tan and Le, "EfficientNet" (https://arxiv.org/abs/1905.11946), in its Lite form: no
squeeze-and-excitation, ReLU6 for swish, stem and head of fixed width, first and last stage of fixed depth
(tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py). Weights go by the names of the
PyTorch port (lukemelas/EfficientNet-PyTorch).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The oldest pair that holds every operator here in its present form, so that old runtimes load the graph.
OPSET = 13
IR_VERSION = 8
BATCH_NORM_EPSILON = 1e-3
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
INPUT = "image"
FEATURES = "features"
LOGITS = "logits"


class Variant(NamedTuple):
    """How a variant scales the base network: channels, repeats, and the side of its input in pixels."""

    width: float
    depth: float
    resolution: int


VARIANTS = {"lite0": Variant(1.0, 1.0, 224), "lite1": Variant(1.0, 1.1, 240), "lite2": Variant(1.1, 1.2, 260)}


class Stage(NamedTuple):
    """One row of the architecture's table; `stride` is that of the stage's first block."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class Block(NamedTuple):
    """One inverted residual block; `residual` when its output has the shape of its input."""

    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int

    @property
    def residual(self) -> bool:
        return self.stride == 1 and self.inputs == self.outputs


def build(weights: Mapping[str, np.ndarray], variant: str, *, classifier: bool = False) -> bytes:
    """Return a serialised graph: float32 [batch, 3, R, R] -> `features` [batch, 1280], the global average of the head.

    With `classifier`, the output is `logits` [batch, classes] of the same weights. ValueError when a weight is missing
    or has another shape than the architecture asks for.
    """
    graph = _Graph(weights, VARIANTS[variant].resolution)
    value = graph.convolution(INPUT, "_conv_stem", "_bn0", (STEM_CHANNELS, 3, 3, 3), stride=2)
    for index, block in enumerate(blocks(VARIANTS[variant])):
        value = _add_block(graph, value, f"_blocks.{index}", block)
    head_shape = (HEAD_CHANNELS, graph.channels, 1, 1)
    value = graph.convolution(value, "_conv_head", "_bn1", head_shape)
    pooled = graph.node("GlobalAveragePool", [value], "pooled")
    output = graph.node("Flatten", [pooled], FEATURES, axis=1)
    if classifier:
        output = graph.classifier(output)
    return graph.serialise(output)


def classifier(weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return weight [classes, 1280] and bias [classes] of the fully connected head; ValueError when they are not there."""
    weight, bias = (_checked(weights, f"_fc.{part}", None) for part in ("weight", "bias"))
    if bias.ndim != 1 or weight.shape != (len(bias), HEAD_CHANNELS):
        raise ValueError(f"_fc has the shapes {weight.shape} and {bias.shape}, which are no classifier's")
    return weight, bias


def blocks(variant: Variant) -> Iterator[Block]:
    """Yield the blocks of a variant, in order."""
    inputs = STEM_CHANNELS
    for index, stage in enumerate(STAGES):
        outputs = round_channels(stage.channels, variant.width)
        fixed = index in {0, len(STAGES) - 1}
        for repeat in range(stage.repeats if fixed else math.ceil(stage.repeats * variant.depth)):
            yield Block(stage.kernel, stage.stride if repeat == 0 else 1, stage.expand, inputs, outputs)
            inputs = outputs


def round_channels(channels: int, width: float) -> int:
    """Return channels scaled by `width` to a multiple of 8, never more than a tenth below: round_filters of the original."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _add_block(graph: _Graph, value: str, name: str, block: Block) -> str:
    inner = block.inputs * block.expand
    entry = value
    if block.expand > 1:
        value = graph.convolution(value, f"{name}._expand_conv", f"{name}._bn0", (inner, block.inputs, 1, 1))
    depthwise = (inner, 1, block.kernel, block.kernel)
    value = graph.convolution(
        value, f"{name}._depthwise_conv", f"{name}._bn1", depthwise, stride=block.stride, group=inner
    )
    project = (block.outputs, inner, 1, 1)
    value = graph.convolution(value, f"{name}._project_conv", f"{name}._bn2", project, activation=False)
    return graph.node("Add", [value, entry], name) if block.residual else value


class _Graph:
    """A graph under construction; it knows the side and the channels of the feature map that was added last."""

    def __init__(self, weights: Mapping[str, np.ndarray], resolution: int) -> None:
        self._weights = weights
        self._resolution = resolution
        self._side = resolution
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, np.ndarray] = {
            "zero": np.array(0, np.float32),
            "six": np.array(6, np.float32),
        }
        self.channels = 3

    def convolution(
        self,
        value: str,
        name: str,
        batch_norm: str,
        shape: tuple[int, int, int, int],
        *,
        stride: int = 1,
        group: int = 1,
        activation: bool = True,
    ) -> str:
        """Add convolution and batch norm as one node, and ReLU6 after it; return the name of the result."""
        weight, bias = self._folded(name, batch_norm, shape)
        self._initializers |= {f"{name}.weight": weight, f"{name}.bias": bias}
        side = -(-self._side // stride)
        pads = same_padding(self._side, shape[2], stride)
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        attributes: dict[str, int | list[int]] = {
            "group": group,
            "kernel_shape": list(shape[2:]),
            "pads": [pads[0], pads[0], pads[1], pads[1]],
            "strides": [stride, stride],
        }
        result = self.node("Conv", inputs, f"{name}.out", **attributes)
        self._side, self.channels = side, shape[0]
        return self.node("Clip", [result, "zero", "six"], f"{name}.relu6") if activation else result

    def classifier(self, features: str) -> str:
        """Add the fully connected head; return the name of the logits."""
        weight, bias = classifier(self._weights)
        self._initializers |= {"_fc.weight": weight, "_fc.bias": bias}
        return self.node("Gemm", [features, "_fc.weight", "_fc.bias"], LOGITS, transB=1)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: int | list[int]) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def serialise(self, output: str) -> bytes:
        shape = ["batch", 3, self._resolution, self._resolution]
        inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", None])]
        initializers = [numpy_helper.from_array(array, name) for name, array in self._initializers.items()]
        graph = helper.make_graph(self._nodes, "efficientnet-lite", inputs, outputs, initializers)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="lookalike")
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _folded(self, name: str, batch_norm: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return weight and bias such that Conv alone computes batch norm of Conv: https://arxiv.org/abs/1712.05877, 3.2."""
        per_channel = shape[:1]
        gamma, beta, mean, variance = (
            self._weight(f"{batch_norm}.{part}", per_channel).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        weight = self._weight(f"{name}.weight", shape) * factor[:, None, None, None]
        return weight.astype(np.float32), (beta - mean * factor).astype(np.float32)

    def _weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return _checked(self._weights, name, shape)


def _checked(weights: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    if name not in weights:
        raise ValueError(f"the weights have no {name}")
    weight = weights[name]
    if shape is not None and weight.shape != shape:
        raise ValueError(f"{name} has the shape {weight.shape} where the architecture has {shape}")
    return weight


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the pixels TensorFlow's SAME adds before and after a side; the odd one goes after.

    https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2
