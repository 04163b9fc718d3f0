"""Models that join, change and leave while a library is in use."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from daemon import paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Wait = Callable[..., Any]

COUNT = 150
"""Photos enough that a model needs seconds for them."""


@pytest.fixture
def library(lookalike: Any, photos: Any) -> Any:
    """A library that the default model knows."""
    for seed in range(COUNT):
        photos.write(lookalike.folder / f"{seed:03}.jpg", seed)
    shutil.copy(lookalike.folder / "000.jpg", lookalike.folder / "copy.jpg")
    lookalike.start(lookalike.folder, "--model", "efficientnet-lite0")
    lookalike.up_to_date()
    lookalike.stop()
    return lookalike


def of(lookalike: Any, name: str) -> dict[str, Any]:
    """Return what the status says of a model."""
    found: dict[str, Any] = next(model for model in lookalike.status()["models"] if model["name"] == name)
    return found


def own_spec(place: Path, size: int) -> Path:
    """Write a spec of the default model's weights that is fed smaller photos."""
    text = (paths.shipped("models") / "efficientnet-lite0.yaml").read_text(encoding="utf-8")
    file = place / "mine.yaml"
    text = text.replace("\nname: efficientnet-lite0\n", "\nname: mine\n").replace(
        "    padding: 32\n", f"    padding: {size}\n"
    )
    file.write_text(text, encoding="utf-8")
    return file


def slow_spec(place: Path) -> Path:
    """Write a model that takes some tenths of a second for a photo: rotations of its mean colours, one after the other."""
    size, rounds = 2048, 240
    random = np.random.default_rng(0)
    weights = {
        "spread": random.normal(size=(3, size)).astype(np.float32),
        "turn": (random.normal(size=(size, size)) / np.sqrt(size)).astype(np.float32),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colours"], axis=1),
        helper.make_node("MatMul", ["colours", "spread"], ["turned0"]),
        *(helper.make_node("MatMul", [f"turned{n}", "turn"], [f"turned{n + 1}"]) for n in range(rounds)),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 64, 64])
    row = helper.make_tensor_value_info(f"turned{rounds}", TensorProto.FLOAT, ["n", size])
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "slow", [image], [row], initializers)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), place / "slow.onnx")
    (place / "slow.yaml").write_text(
        "{name: slow, licence: MIT, source: {kind: file, path: slow.onnx}, input: {preset: torchvision, size: 64},"
        f" output: {{pooling: none, dim: {size}}}, metric: cosine}}"
    )
    return place / "slow.yaml"


def begun(lookalike: Any, name: str, state: str) -> dict[str, Any]:
    """Return the status of a model that has come part of its way."""
    model = of(lookalike, name)
    return model if model["state"] == state and 0 < model["built"] < COUNT else {}


def test_a_model_that_joins_is_filled_behind_what_is_there_and_says_how_far_it_is(
    library: Any, photos: Any, wait_for: Wait
) -> None:
    models = ("--model", "efficientnet-lite0", "--model", slow_spec(library.root))
    library.start(library.folder, *models)
    wait_for(lambda: begun(library, "slow", "filling"))
    assert of(library, "efficientnet-lite0")["state"] == "complete"
    assert "up to date, and encoding what a model still lacks" in library.command("status").stdout.decode()
    # The first model answers as before, a new photo goes before the old ones, and a sync does not wait for these.
    new = photos.write(library.folder / "new.jpg", 1000)
    assert library.command("sync").returncode == 0
    assert library.holders(new) == [str(new)]
    partial = library.command("search", new, "--model", "slow")
    assert str(new).encode() in partial.stdout
    assert b"slow knows " in partial.stderr
    assert of(library, "slow")["state"] == "filling"
    # Wherever it is cut short, it goes on there.
    library.stop()
    library.start(library.folder, *models)
    library.up_to_date()
    model = of(library, "slow")
    assert (model["state"], model["photos"], model["of"]) == ("complete", COUNT + 1, COUNT + 1)
    assert library.search(new, "--model", "slow")["results"][0]["paths"] == [str(new)]
    assert library.status()["encoded"] < COUNT


def test_a_changed_model_is_built_behind_its_earlier_version(library: Any, photos: Any, wait_for: Wait) -> None:
    spec = own_spec(library.root, 32)
    library.start(library.folder, "--model", spec)
    first = library.up_to_date()["models"][0]
    library.stop()
    own_spec(library.root, 100)
    library.start(library.folder, "--model", spec)
    model = wait_for(lambda: begun(library, "mine", "rebuilding"))
    assert (model["collection"], model["photos"]) == (first["collection"], COUNT)
    # All are found by the earlier version, an image from elsewhere too, and so is what is new.
    elsewhere = photos.write(library.root / "elsewhere.jpg", 2000)
    answer = library.search(elsewhere)
    assert (answer["models"][0]["photos"], len(answer["results"])) == (COUNT, 10)
    new = photos.write(library.folder / "new.jpg", 1000)
    assert library.command("sync").returncode == 0
    assert library.holders(new) == [str(new)]
    library.stop()
    library.start(library.folder, "--model", spec)
    library.up_to_date()
    model = of(library, "mine")
    assert (model["state"], model["photos"]) == ("complete", COUNT + 1)
    assert model["collection"] != first["collection"]
    # It is said once it is so.
    wait_for(lambda: "the changed model is complete, and answers from now on" in library.said())
    assert library.holders(new) == [str(new)]
    collections = os.listdir(library.data_dir / "milvus" / "collections")
    assert model["collection"] in collections
    assert first["collection"] not in collections
    assert json.loads(library.command("verify", "--json").stdout)["differences"] == []


def configured(library: Any, *models: object, poll_seconds: float) -> Path:
    file: Path = library.root / "lookalike.yaml"
    file.write_text(
        f"folders: [{{path: {library.folder}, watch: poll}}]\n"
        f"models: [{', '.join(map(str, models))}]\n"
        f"watch: {{poll_seconds: {poll_seconds}, max_delete_count: 10}}\n"
    )
    return file


def test_photos_that_vanish_like_a_disk_while_a_model_is_filled_are_held(library: Any, wait_for: Wait) -> None:
    slow = slow_spec(library.root)
    library.start("--config", configured(library, "efficientnet-lite0", slow, poll_seconds=3600))
    wait_for(lambda: begun(library, "slow", "filling"))
    for path in library.folder.glob("*.jpg"):
        path.unlink()
    wait_for(lambda: library.status()["state"] == "up to date", "filling ends although nothing is left to be read")
    assert library.status()["photos"] == COUNT
    assert library.command("sync").returncode == 0
    status = library.status()
    assert (status["state"], status["photos"], status["held_deletions"]) == ("degraded", COUNT, COUNT + 1)


def test_a_sync_waits_for_what_a_disk_that_came_back_owes_a_new_model(library: Any, wait_for: Wait) -> None:
    away = library.root / "away"
    library.folder.rename(away)
    library.start("--config", configured(library, own_spec(library.root, 32), "efficientnet-lite0", poll_seconds=1))
    wait_for(lambda: library.status()["folders"][0]["state"] == "missing")
    assert of(library, "mine")["photos"] == 0
    away.rename(library.folder)
    wait_for(lambda: library.status()["folders"][0]["state"] == "watching")
    assert library.command("sync").returncode == 0
    model = of(library, "mine")
    assert (model["state"], model["photos"]) == ("complete", COUNT)
    assert library.status()["photos"] == COUNT


def test_verification_counts_what_a_new_model_lacks_as_owed(library: Any, wait_for: Wait) -> None:
    library.start(library.folder, "--model", "efficientnet-lite0", "--model", slow_spec(library.root))
    wait_for(lambda: begun(library, "slow", "filling"))
    answer = json.loads(library.command("verify", "--json").stdout)
    assert answer["differences"] == []


def test_a_model_that_is_taken_out_keeps_its_vectors_until_it_is_removed(library: Any) -> None:
    configuration = configured(library, "words", poll_seconds=60)
    library.start("--config", configuration)
    library.up_to_date()
    (retired,) = library.status()["retired_models"]
    assert (retired["name"], retired["photos"]) == ("efficientnet-lite0", COUNT)
    assert b"lookalike models remove efficientnet-lite0 frees them" in library.command("status").stdout
    removed = library.command("models", "remove", "efficientnet-lite0", "--yes", "--config", configuration)
    assert removed.returncode == 0, removed.stderr
    assert library.status()["retired_models"] == []
    collections = os.listdir(library.data_dir / "milvus" / "collections")
    assert retired["collection"] not in collections
    refused = library.command("models", "remove", "words", "--yes", "--config", configuration)
    assert refused.returncode == 1
    assert (
        b"the model words is live; take it out of 'models' in the configuration, and `lookalike reload`"
        in refused.stderr
    )
