"""What is made of a graph by what it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon.catalogue.proposal import chosen_name, model_name, propose
from daemon.catalogue.wishes import Wishes
from daemon.encode.graphs import GraphInfo, Value
from daemon.encode.specs import InputSpec, Shortest
from daemon.errors import ModelError

NCHW = ("batch", 3, 224, 224)
NHWC = ("batch", 224, 224, 3)


def graph(
    shape: tuple[int | str | None, ...] | None = NCHW,
    dtype: str = "float32",
    outputs: dict[str, int] | None = None,
    inputs: tuple[Value, ...] = (),
) -> GraphInfo:
    found = tuple(Value(name, "float32", (None,) * axes) for name, axes in (outputs or {"y": 2}).items())
    return GraphInfo((Value("x", dtype, shape), *inputs), found, {"ai.onnx": 17}, (), 1)


@pytest.mark.parametrize(
    ("shape", "wishes", "fed"),
    [
        (NCHW, Wishes(), {"preset": "torchvision", "size": 224}),
        (NHWC, Wishes(), {"preset": "keras-tf", "size": 224}),
        (NHWC, Wishes(preset="keras-caffe"), {"preset": "keras-caffe", "size": 224}),
        (NHWC, Wishes(preset="clip"), {"preset": "clip", "size": 224, "layout": "nhwc"}),
        ((1, 3, "h", "w"), Wishes(preset="clip", size=336), {"preset": "clip", "size": 336}),
        ((None, None, None, None), Wishes(preset="keras-tf"), {"preset": "keras-tf", "size": 224}),
        (("n", 3, 448, 448), Wishes(), {"preset": "torchvision", "size": 448}),
        (NCHW, Wishes(resize={"rule": "exact"}), {"preset": "torchvision", "size": 224, "resize": {"rule": "exact"}}),
        (("n", 3, 448, 448), Wishes(resize={"rule": "exact"}), {"preset": "torchvision", "size": 448}),
    ],
)
def test_layout_and_size_are_read_from_the_axes(
    shape: tuple[int | str | None, ...], wishes: Wishes, fed: dict[str, Any]
) -> None:
    assert propose("m", graph(shape), wishes).input == fed


def test_a_family_is_known_by_its_name() -> None:
    assert propose("clip-vit-b32", graph(), Wishes()).input["preset"] == "clip"
    assert propose("siglip-base", graph(), Wishes()).input["preset"] == "siglip"


def test_a_guess_is_said_to_be_one() -> None:
    assert any("a guess, for no graph says it" in one for one in propose("m", graph(), Wishes()).decisions)
    assert not any("a guess" in one for one in propose("m", graph(), Wishes(preset="clip")).decisions)


def test_a_graph_that_takes_pixels_gets_them_as_they_are() -> None:
    fed = propose("m", graph(NHWC, "uint8"), Wishes()).input

    assert (fed["dtype"], fed["scale"], fed["mean"], fed["std"]) == ("uint8", 1, [0, 0, 0], [1, 1, 1])
    assert "preset" not in fed


def test_of_a_preset_a_graph_that_takes_pixels_gets_all_but_the_numbers() -> None:
    proposal = propose("m", graph(NCHW, "uint8"), Wishes(preset="torchvision"))
    fed = InputSpec.model_validate(proposal.input)

    assert (fed.dtype, fed.scale, fed.mean, fed.std) == ("uint8", 1, (0, 0, 0), (1, 1, 1))
    assert (fed.resize, fed.interpolation) == (Shortest(rule="shortest", to=256), "bilinear")
    assert any("of torchvision, no scale, mean and std" in decision for decision in proposal.decisions)


def test_half_precision_is_kept() -> None:
    assert propose("m", graph(dtype="float16"), Wishes()).input["dtype"] == "float16"


@pytest.mark.parametrize(
    ("outputs", "wishes", "read"),
    [
        ({"y": 2}, Wishes(), {"pooling": "none"}),
        ({"y": 4}, Wishes(), {"pooling": "avg"}),
        ({"y": 4}, Wishes(preset="keras-caffe"), {"pooling": "max"}),
        ({"y": 3}, Wishes(), {"pooling": "cls"}),
        ({"y": 3}, Wishes(pooling="mean-of-tokens"), {"pooling": "mean-of-tokens"}),
        ({"last_hidden_state": 3, "pooler_output": 2}, Wishes(), {"name": "pooler_output", "pooling": "none"}),
        ({"logits": 2, "image_embeds": 2}, Wishes(), {"name": "image_embeds", "pooling": "none"}),
        ({"a": 2, "b": 4}, Wishes(output="b"), {"name": "b", "pooling": "avg"}),
        ({"a": 2, "b": 4}, Wishes(output="1"), {"name": "b", "pooling": "avg"}),
    ],
)
def test_the_output_is_chosen_by_name_and_pooled_by_its_axes(
    outputs: dict[str, int], wishes: Wishes, read: dict[str, Any]
) -> None:
    assert propose("m", graph(outputs=outputs), wishes).output == read


@pytest.mark.parametrize(
    ("found", "wishes", "reason"),
    [
        (graph(inputs=(Value("ids", "int64", (None, None)),)), Wishes(), r"takes 2 inputs \(x, ids\)"),
        (graph(("n", "tokens"), "int64"), Wishes(), "tokens of a text; add its image model"),
        (graph(dtype="float64"), Wishes(), "takes float64; export it with float32"),
        (graph(("n", 3, 224)), Wishes(), "has 3 axes, and an image has 4"),
        (graph(None), Wishes(), "does not say its axes"),
        (graph((8, 3, 224, 224)), Wishes(), "takes 8 photos at a time"),
        (graph((1, 1, 28, 28)), Wishes(), "takes 1 channel where a photo has 3"),
        (graph((1, 3, 224, 320)), Wishes(), "images of 320 x 224 pixels, and only squares"),
        (graph(), Wishes(size=300), "takes images of 224 x 224 pixels and no others"),
        (graph((1, 3, 4, 4)), Wishes(), "images of 4 x 4 pixels, and 8 to 4,096 can be made here"),
        (graph(outputs={"a": 2, "b": 2}), Wishes(), "set --output to one of a, b"),
        (graph(outputs={"a": 2, "b": 2}), Wishes(output="c"), "it has no output c; set --output to one of a, b"),
        (graph(outputs={"a": 2, "b": 2}), Wishes(output="7"), "it has no output 7"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(found: GraphInfo, wishes: Wishes, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        propose("m", found, wishes)


@pytest.mark.parametrize(
    ("stem", "name"),
    [("ResNet50_v2", "resnet50-v2"), ("model (1)", "model-1"), ("2021-vgg", "vgg"), ("模型", ""), ("a" * 80, "a" * 64)],
)
def test_a_files_name_becomes_a_models(stem: str, name: str) -> None:
    assert model_name(stem) == name


@pytest.mark.parametrize("name", ["My Model", "2021", "", "../m", "a" * 65])
def test_a_name_that_no_model_can_have_is_refused_with_the_option_that_says_another(name: str) -> None:
    with pytest.raises(ModelError, match=r"no model can be called so: .*; give another with --name"):
        chosen_name(Path("m.onnx"), Wishes(name=name))
