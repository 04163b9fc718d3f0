from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from daemon.catalogue.adding import add
from daemon.catalogue.examining import examine
from daemon.catalogue.wishes import Wishes
from daemon.encode.encoder import Encoder
from daemon.encode.specs import Shortest, load_spec
from daemon.encode.text import TextEncoder
from daemon.errors import ModelError
from daemon.paths import shipped
from tests.integration.catalogue.graphs import FEATURES, SIDE, image_graph, installation, model, save, spec_text

if TYPE_CHECKING:
    from pathlib import Path


def test_an_added_model_is_one_that_works(tmp_path: Path) -> None:
    place = installation(tmp_path)
    file = save(tmp_path / "My Model.onnx", image_graph())

    spec = add(examine(file, Wishes(licence="MIT"), place.cache_dir), place.catalogue, replace=False)
    file.unlink()

    assert spec == tmp_path / "config" / "models" / "my-model.yaml"
    loaded = place.catalogue.load("my-model")
    assert (loaded.output.dim, loaded.output.pooling, loaded.input.size) == (FEATURES, "avg", SIDE)
    assert Encoder([place.prepare(loaded)], threads=1).versions


def test_a_keras_model_is_fed_and_pooled_as_its_convention_says(tmp_path: Path) -> None:
    file = save(tmp_path / "vgg16.onnx", image_graph(nhwc=True))

    addition = examine(file, Wishes(preset="keras-caffe", metric="l2"), tmp_path / "cache")

    assert "preset: keras-caffe" in addition.yaml
    assert "pooling: max" in addition.yaml
    assert "metric: l2" in addition.yaml
    assert "input: pixels, float32, NHWC" in addition.decisions
    assert f"dimension: {FEATURES}, as it came out when it was run" in addition.decisions


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.FLOAT16])
def test_other_numbers_than_float32_are_taken(tmp_path: Path, dtype: int) -> None:
    addition = examine(save(tmp_path / "m.onnx", image_graph(dtype=dtype)), Wishes(), tmp_path / "cache")

    assert f"dtype: {'uint8' if dtype == TensorProto.UINT8 else 'float16'}" in addition.yaml


def test_weights_in_files_beside_the_graph_come_along(tmp_path: Path) -> None:
    place = installation(tmp_path)
    file = save(tmp_path / "from" / "big.onnx", image_graph(), data="big.weights")

    add(examine(file, Wishes(), place.cache_dir), place.catalogue, replace=False)

    assert (place.catalogue.own / "big" / "big.weights").read_bytes() == (file.parent / "big.weights").read_bytes()
    place.prepare(place.catalogue.load("big"))


def test_a_text_tower_comes_along_and_is_tried(tmp_path: Path) -> None:
    place = installation(tmp_path)
    file = save(tmp_path / "from" / "clip.onnx", image_graph())
    wishes = text_tower(tmp_path / "from", FEATURES)

    addition = examine(file, wishes, place.cache_dir)
    add(addition, place.catalogue, replace=False)

    spec = place.catalogue.load("clip")
    assert spec.text is not None
    assert spec.text.output.pooling == "mean-of-tokens"
    assert TextEncoder(place.prepare(spec), threads=1).encode("cat").shape == (FEATURES,)


def text_tower(directory: Path, features: int, tokens: int | str = "tokens") -> Wishes:
    """Return the wish for a text tower of so many numbers a text."""
    table = np.random.default_rng(2).normal(size=(4, features)).astype(np.float32)
    graph = model(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        [("input_ids", TensorProto.INT64, ["batch", tokens])],
        [("last_hidden_state", ["batch", tokens, features])],
        {"table": table},
    )
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "cat": 1, "sea": 2, "ships": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    return Wishes(text=save(directory / "text.onnx", graph), tokenizer=directory / "tokenizer.json")


@pytest.mark.parametrize(
    ("features", "tokens", "reason"),
    [
        (FEATURES + 1, "tokens", "where its photos have 8; give the tower and the tokenizer that belong to it"),
        (FEATURES, 2, "takes 2 tokens; export it for 4 to 8,192 of them"),
    ],
)
def test_a_text_tower_that_does_not_fit_is_one_sentence_of_options(
    tmp_path: Path, features: int, tokens: int | str, reason: str
) -> None:
    file = save(tmp_path / "m.onnx", image_graph())

    with pytest.raises(ModelError, match=reason) as refused:
        examine(file, text_tower(tmp_path, features, tokens), tmp_path / "cache")

    assert "spec" not in refused.value.reason


def test_the_name_of_another_model_is_taken_only_by_force(tmp_path: Path) -> None:
    place = installation(tmp_path)
    first = examine(save(tmp_path / "m.onnx", image_graph()), Wishes(), place.cache_dir)
    add(first, place.catalogue, replace=False)
    second = examine(save(tmp_path / "m.onnx", image_graph(nhwc=True)), Wishes(), place.cache_dir)

    with pytest.raises(ModelError, match=r"you have one of this name already .*--force"):
        add(second, place.catalogue, replace=False)
    assert place.catalogue.load("m").input.layout == "nchw"

    add(second, place.catalogue, replace=True)
    assert place.catalogue.load("m").input.layout == "nhwc"
    place.prepare(place.catalogue.load("m"))
    assert sorted(path.name for path in place.catalogue.own.iterdir()) == ["m", "m.yaml"]


def test_files_that_cannot_be_copied_leave_nothing_behind(tmp_path: Path) -> None:
    place = installation(tmp_path)
    file = save(tmp_path / "from" / "big.onnx", image_graph(), data="big.weights")
    addition = examine(file, Wishes(), place.cache_dir)
    file.unlink()

    with pytest.raises(ModelError, match="cannot be written below"):
        add(addition, place.catalogue, replace=False)

    assert list(place.catalogue.own.iterdir()) == []


def constant() -> onnx.ModelProto:
    graph = image_graph()
    (weight,) = graph.graph.initializer
    weight.raw_data = np.zeros((3, FEATURES), np.float32).tobytes()
    graph.graph.node.append(helper.make_node("Add", ["maps", "one"], ["same"]))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "one"))
    graph.graph.output[0].name = "same"
    return graph


def not_a_number() -> onnx.ModelProto:
    graph = image_graph()
    (weight,) = graph.graph.initializer
    weight.raw_data = np.full((3, FEATURES), np.nan, np.float32).tobytes()
    return graph


def custom() -> onnx.ModelProto:
    graph = image_graph()
    graph.graph.node[0].domain = "org.example"
    return graph


def outside() -> onnx.ModelProto:
    graph = image_graph()
    (weight,) = graph.graph.initializer
    onnx.external_data_helper.set_external_data(weight, "../secret")
    weight.ClearField("raw_data")
    return graph


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (constant(), "it gives every photo the same vector"),
        (not_a_number(), "not finite"),
        (custom(), "operators of org.example"),
        (outside(), "secret"),
        (image_graph(batch=4), "takes 4 photos at a time"),
    ],
    ids=["constant", "nan", "custom operators", "data outside", "fixed batch"],
)
def test_what_cannot_work_is_refused_with_the_reason_and_leaves_nothing(
    tmp_path: Path, graph: onnx.ModelProto, reason: str
) -> None:
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())

    with pytest.raises(ModelError, match=reason):
        examine(tmp_path / "m.onnx", Wishes(), tmp_path / "cache")

    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


def test_a_wrong_pooling_is_one_sentence(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", image_graph())

    with pytest.raises(ModelError, match=r"where pooling cls takes .*; set --pooling, or another --output"):
        examine(file, Wishes(pooling="cls"), tmp_path / "cache")


def test_a_graph_that_takes_pixels_takes_a_preset(tmp_path: Path) -> None:
    place = installation(tmp_path)
    file = save(tmp_path / "m.onnx", image_graph(dtype=TensorProto.UINT8))

    add(examine(file, Wishes(preset="torchvision"), place.cache_dir), place.catalogue, replace=False)

    fed = place.catalogue.load("m").input
    assert (fed.dtype, fed.scale, fed.resize) == ("uint8", 1, Shortest(rule="shortest", to=18))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    graph = save(tmp_path / "m.onnx", image_graph())
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)

    for file, wishes in (
        (pipe, Wishes()),
        (graph, Wishes(text=pipe, tokenizer=graph)),
        (graph, Wishes(text=graph, tokenizer=pipe)),
    ):
        with pytest.raises(ModelError, match=r"pipe\.onnx is not a regular file"):
            examine(file, wishes, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nosuch.onnx", r"there is no .*nosuch\.onnx"), ("m.pt", r"m\.pt is no \.onnx file, and only ONNX graphs")],
)
def test_a_file_that_is_none_of_onnx_says_so(tmp_path: Path, name: str, reason: str) -> None:
    save(tmp_path / "m.pt", image_graph())

    with pytest.raises(ModelError, match=reason):
        examine(tmp_path / name, Wishes(), tmp_path / "cache")


@pytest.mark.parametrize("name", ["we\nname: evil\x1b[31mird.onnx", "bad\udcff.onnx"])
def test_a_file_of_any_name_can_be_added(tmp_path: Path, name: str) -> None:
    place = installation(tmp_path)
    addition = examine(save(tmp_path / name, image_graph()), Wishes(name="m"), place.cache_dir)

    add(addition, place.catalogue, replace=False)

    assert [path.name for path in (place.catalogue.own / "m").iterdir()] == ["m.onnx"]
    assert addition.yaml.isprintable() or set(filter(lambda c: not c.isprintable(), addition.yaml)) == {"\n"}
    assert Encoder([place.prepare(place.catalogue.load("m"))], threads=1).versions


def test_the_names_of_a_graph_do_not_steer_the_terminal(tmp_path: Path) -> None:
    graph = image_graph()
    graph.graph.output[0].name = graph.graph.node[-1].output[0] = "maps\x1b[31m\n"

    addition = examine(save(tmp_path / "m.onnx", graph), Wishes(), tmp_path / "cache")

    assert all(decision.isprintable() for decision in addition.decisions)


def test_what_gives_more_numbers_than_a_vector_may_have_names_the_options(tmp_path: Path) -> None:
    graph = model(
        [helper.make_node("Flatten", ["pixels"], ["y"])],
        [("pixels", TensorProto.FLOAT, ["batch", 3, 128, 128])],
        [("y", ["batch", 3 * 128 * 128])],
    )

    with pytest.raises(ModelError, match=r"49,152 numbers a photo, and a vector has 1 to 32,768; set --pooling, or"):
        examine(save(tmp_path / "m.onnx", graph), Wishes(), tmp_path / "cache")


@pytest.mark.parametrize("graph", ["constant", "nan"])
def test_advice_names_options_and_no_spec_that_is_not_written(tmp_path: Path, graph: str) -> None:
    file = save(tmp_path / "m.onnx", constant() if graph == "constant" else not_a_number())

    with pytest.raises(ModelError, match="set --preset, --output or --pooling by that") as refused:
        examine(file, Wishes(), tmp_path / "cache")

    assert "spec" not in refused.value.reason


def test_a_shipped_model_is_replaced_only_by_force_unless_its_file_is_to_be_made(tmp_path: Path) -> None:
    place = installation(tmp_path)
    place.catalogue.shipped.mkdir()
    sources = {
        "whole": {"kind": "url", "url": "https://example.org/m.onnx", "sha256": "0" * 64},
        "made": {"kind": "file", "path": "made.onnx"},
    }
    for name, source in sources.items():
        (place.catalogue.shipped / f"{name}.yaml").write_text(spec_text(name, source), encoding="utf-8")
    file = save(tmp_path / "m.onnx", image_graph())
    whole, made = (examine(file, Wishes(name=name), place.cache_dir) for name in sources)

    with pytest.raises(ModelError, match=r"a shipped model is called so; .* with --force"):
        add(whole, place.catalogue, replace=False)
    assert not place.catalogue.own.exists()

    add(whole, place.catalogue, replace=True)
    add(made, place.catalogue, replace=False)
    assert [place.catalogue.find(name).parent for name in sources] == [place.catalogue.own] * 2


def test_what_nobody_says_is_taken_from_the_spec_that_waits_for_the_file() -> None:
    spec = load_spec(shipped("models") / "resnet50-torchvision.yaml")

    taken = Wishes(licence="MIT").completed(spec)

    assert (taken.preset, taken.pooling, taken.metric, taken.licence) == ("torchvision", "none", "cosine", "MIT")
    assert taken.resize == {"rule": "shortest", "to": 232}
    assert Wishes(preset="clip").completed(spec) == Wishes(preset="clip")
