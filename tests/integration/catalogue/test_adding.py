from __future__ import annotations

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
from daemon.encode.text import TextEncoder
from daemon.errors import ModelError
from tests.integration.catalogue.graphs import FEATURES, SIDE, image_graph, installation, model, save

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
    table = np.random.default_rng(2).normal(size=(4, FEATURES)).astype(np.float32)
    text = model(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        [("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [("last_hidden_state", ["batch", "tokens", FEATURES])],
        {"table": table},
    )
    save(tmp_path / "from" / "text.onnx", text)
    words = WordLevel({"[UNK]": 0, "cat": 1, "sea": 2, "ships": 3}, unk_token="[UNK]")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "from" / "tokenizer.json"))
    wishes = Wishes(text=tmp_path / "from" / "text.onnx", tokenizer=tmp_path / "from" / "tokenizer.json")

    addition = examine(file, wishes, place.cache_dir)
    add(addition, place.catalogue, replace=False)

    spec = place.catalogue.load("clip")
    assert spec.text is not None
    assert spec.text.output.pooling == "mean-of-tokens"
    assert TextEncoder(place.prepare(spec), threads=1).encode("cat").shape == (FEATURES,)


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


@pytest.mark.parametrize("name", ["My Model", "2021"])
def test_a_name_that_no_model_can_have_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="at 'name'"):
        examine(save(tmp_path / "m.onnx", image_graph()), Wishes(name=name), tmp_path / "cache")
