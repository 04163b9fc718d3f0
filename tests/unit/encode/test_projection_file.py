"""The arrays of a projection and the names of classes: what is taken, and what is refused."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from daemon.encode import projection_file
from daemon.encode.projection_file import check_affine, class_names, words
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

MEAN = np.zeros(3, np.float32)
MATRIX = np.ones((3, 2), np.float32)


def saved(directory: Path, **arrays: Any) -> Path:
    path = directory / "pca.npz"
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_mean_and_a_matrix_of_floats_are_taken(tmp_path: Path, dtype: type[np.floating[Any]]) -> None:
    check_affine("tiny", saved(tmp_path, mean=MEAN.astype(dtype), matrix=MATRIX.astype(dtype), more=MEAN), 2)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (
            {"mean": MEAN, "matrix": MATRIX.T},
            r"cannot give 2 numbers: 'mean' has the shape \(3,\) and 'matrix' \(2, 3\)",
        ),
        ({"mean": MEAN[:2], "matrix": MATRIX}, "cannot give 2 numbers"),
        ({"mean": MEAN[np.newaxis], "matrix": MATRIX}, "cannot give 2 numbers"),
        ({"mean": MEAN, "matrix": MATRIX[:, :1]}, "cannot give 2 numbers"),
        ({"mean": MEAN, "matrix": MATRIX.astype(np.int32)}, "no finite float"),
        ({"mean": MEAN.astype("S8"), "matrix": MATRIX}, "no finite float"),
        ({"mean": MEAN.astype(np.complex64), "matrix": MATRIX}, "no finite float"),
        ({"mean": MEAN + np.nan, "matrix": MATRIX}, "no finite float"),
        ({"mean": MEAN, "matrix": MATRIX * np.inf}, "no finite float"),
        ({"mean": MEAN}, "not an .npz file of 'mean' and 'matrix'"),
        ({"mean": MEAN, "matrix": MATRIX.astype(object)}, "not an .npz file of 'mean' and 'matrix'"),
    ],
)
def test_arrays_that_project_nothing_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        check_affine("tiny", saved(tmp_path, **arrays), 2)


@pytest.mark.parametrize("data", [b"", b"mean", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pca.npz").write_bytes(data)
    with pytest.raises(ModelError, match=r"not an \.npz file"):
        check_affine("tiny", tmp_path / "pca.npz", 2)


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_archive_is_refused_or_read_and_nothing_else(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = saved(tmp_path, mean=MEAN, matrix=MATRIX)
    damaged = bytearray(path.read_bytes())
    for _ in range(3):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    path.write_bytes(damaged)
    try:
        check_affine("tiny", path, 2)
    except ModelError as error:
        assert error.reason.endswith(".")  # noqa: PT017 - to be read is as good an outcome


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection_file, "MAX_ARRAYS_BYTES", 1 << 20)
    bomb = saved(tmp_path, mean=np.zeros(1 << 20, np.float32), matrix=MATRIX)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(ModelError, match="unpacks to 4 MiB"):
        check_affine("tiny", bomb, 2)


def test_an_array_of_more_elements_than_there_is_memory_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 60,)})
    with zipfile.ZipFile(tmp_path / "pca.npz", "w") as archive:
        archive.writestr("mean.npy", header.getvalue())
        archive.writestr("matrix.npy", header.getvalue())
    with pytest.raises(ModelError, match=r"not an \.npz file"):
        check_affine("tiny", tmp_path / "pca.npz", 2)


@pytest.mark.parametrize("document", [["cat", "dog"], {"0": "cat", "1": "dog"}, {"1": "dog", "0": "cat"}])
def test_names_are_a_list_or_an_object_by_class(document: object) -> None:
    assert class_names("tiny", json.dumps(document).encode(), 2) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"cat, dog", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'"cat"', "neither a list of strings nor an object"),
        (b'["cat", 2]', "neither a list of strings nor an object"),
        (b'["cat", " "]', "neither a list of strings nor an object"),
        (b'{"0": "cat", "2": "dog"}', "neither a list of strings nor an object"),
        (b'{"cat": "0", "dog": "1"}', "neither a list of strings nor an object"),
        (b'["cat"]', "1 class names for a classifier of 2 classes"),
        (b'["cat", "dog", "cow"]', "3 class names for a classifier of 2 classes"),
    ],
)
def test_names_that_are_not_those_of_the_classes_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        class_names("tiny", content, 2)


def test_words_are_kept_as_the_encoder_multiplies_them() -> None:
    weight, bias = np.arange(6, dtype=np.float64).reshape(2, 3), np.array([0.5, -0.5])
    vectors = np.eye(2, 4, dtype=np.float32)
    with np.load(io.BytesIO(words("tiny", (weight, bias), vectors, 4)), allow_pickle=False) as arrays:
        assert {key: arrays[key].dtype for key in arrays} == dict.fromkeys(("weight", "bias", "vectors"), np.float32)
        np.testing.assert_array_equal(arrays["weight"], weight.T)
        np.testing.assert_array_equal(arrays["bias"], bias)
        np.testing.assert_array_equal(arrays["vectors"], vectors)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (np.eye(2, 5), "gives vectors of 5 numbers and 'output.dim' is 4"),
        (np.eye(2, 4) * 2, "no unit vector"),
        (np.zeros((2, 4)), "no unit vector"),
        (np.full((2, 4), np.nan), "no unit vector"),
    ],
)
def test_words_without_unit_vectors_are_refused(vectors: np.ndarray, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        words("tiny", (np.ones((2, 3)), np.ones(2)), vectors, 4)
