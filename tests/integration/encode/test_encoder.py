"""The encoder over the real runtime: what its vectors promise, and whose turn is first."""

from __future__ import annotations

import dataclasses
import io
import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import sklearn.datasets
from onnx import TensorProto, helper
from PIL import ExifTags, Image

from daemon.encode.encoder import Encoder
from daemon.encode.images import decode
from daemon.encode.models import Model, ModelSpec, prepare
from daemon.encode.session import Session
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def inputs(encoder: Encoder) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    tiles = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(12)]
    return [encoder.preprocess(tile.resize((300, 260), Image.Resampling.BICUBIC)) for tile in tiles]


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def vector(encoder: Encoder, data: bytes, *, min_side: int | None = None) -> np.ndarray:
    photo = decode(data, "photo.jpg", min_side=min_side or encoder.min_side, max_pixels=10**8)
    row: np.ndarray = encoder.encode([encoder.preprocess(photo.image)])[0]
    return row


def test_an_encoder_says_what_it_is(encoder: Encoder, model: Model) -> None:
    assert (encoder.name, encoder.fingerprint) == ("efficientnet-lite0", model.fingerprint)
    assert (encoder.dim, encoder.metric, encoder.min_side) == (1280, "cosine", 256)
    assert encoder.provider == "CPUExecutionProvider"


def test_rows_are_float32_of_length_one(encoder: Encoder, inputs: list[np.ndarray]) -> None:
    rows = encoder.encode(inputs)
    assert rows.shape == (12, 1280)
    assert rows.dtype == np.dtype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_no_inputs_give_no_rows(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 1280)


def test_the_same_photo_gives_the_same_vector_in_any_company(
    encoder: Encoder, inputs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = encoder.encode(inputs)
    np.testing.assert_array_equal(encoder.encode(np.stack(inputs)), rows)
    np.testing.assert_array_equal(encoder.encode_query(inputs[5]), rows[5])
    for size in (2, 5, 12):
        monkeypatch.setattr("daemon.encode.encoder.BATCH", size)
        np.testing.assert_allclose(encoder.encode(inputs), rows, atol=1e-5)


def test_photos_are_counted_and_queries_are_not(model: Model, inputs: list[np.ndarray]) -> None:
    encoder = Encoder(model, threads=1)
    assert encoder.encoded == 0
    encoder.encode(inputs[:3])
    encoder.encode_query(inputs[3])
    assert encoder.encoded == 3


def test_many_threads_get_the_rows_that_one_gets(encoder: Encoder, inputs: list[np.ndarray]) -> None:
    expected = encoder.encode(inputs)
    before = encoder.encoded
    results: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        results[number] = encoder.encode(inputs) if number % 2 else np.stack([encoder.encode_query(x) for x in inputs])

    threads = [threading.Thread(target=work, args=(number,), name=f"encode-{number}") for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for rows in results.values():
        np.testing.assert_array_equal(rows, expected)
    assert encoder.encoded - before == 3 * len(inputs)


def test_bulk_work_waits_while_a_query_runs(
    model: Model, inputs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(model, threads=1)
    query_started, query_may_end = threading.Event(), threading.Event()
    run = encoder._session.run

    def slow(batch: np.ndarray) -> np.ndarray:
        if threading.current_thread().name == "query":
            query_started.set()
            assert query_may_end.wait(30)
        return run(batch)

    monkeypatch.setattr(encoder._session, "run", slow)
    query = threading.Thread(target=encoder.encode_query, args=(inputs[0],), name="query")
    bulk = threading.Thread(target=encoder.encode, args=(inputs,), name="bulk")
    query.start()
    assert query_started.wait(30)
    bulk.start()
    bulk.join(0.2)
    assert (bulk.is_alive(), encoder.encoded) == (True, 0)
    query_may_end.set()
    query.join(30)
    bulk.join(30)
    assert encoder.encoded == len(inputs)


def test_a_query_that_fails_does_not_hold_bulk_work(encoder: Encoder, inputs: list[np.ndarray]) -> None:
    with pytest.raises(ModelError):
        encoder.encode_query(inputs[0][:, :100])
    assert len(encoder.encode(inputs[:1])) == 1


def test_an_input_that_gives_no_vector_is_an_error_and_not_a_row(encoder: Encoder, inputs: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match="no vector"):
        encoder.encode([np.full_like(inputs[0], np.nan)])


def test_reducing_a_jpeg_while_decoding_hardly_moves_its_vector(encoder: Encoder) -> None:
    for name in ("china.jpg", "flower.jpg"):
        sample = Image.fromarray(sklearn.datasets.load_sample_image(name)).resize(
            (2560, 1708), Image.Resampling.LANCZOS
        )
        data = jpeg(sample)
        assert vector(encoder, data) @ vector(encoder, data, min_side=1708) > 0.99


def test_the_same_photo_in_every_exif_orientation_has_the_same_vector(encoder: Encoder) -> None:
    upright = Image.fromarray(sklearn.datasets.load_sample_image("china.jpg")).resize((640, 432))
    stored_as = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    expected = vector(encoder, jpeg(upright))
    for orientation, turns in stored_as.items():
        stored = upright
        for turn in turns:
            stored = stored.transpose(turn)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        found = vector(encoder, jpeg(stored, exif=exif, subsampling=0))
        assert found @ expected > 0.98, orientation


def graph_of(
    nodes: list[onnx.NodeProto], outputs: dict[str, list[int | str]], inputs: tuple[str, ...] = ("x",)
) -> bytes:
    shape = ["batch", 3, 16, 16]
    ins = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in outputs.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ins, outs), ir_version=8, opset_imports=[helper.make_opsetid("", 13)]
    )
    return bytes(model.SerializeToString())


def small_model(directory: Path, graph: bytes, **changes: Any) -> Model:
    path = directory / "small.onnx"
    path.write_bytes(graph)
    described = {
        "name": "small",
        "licence": "MIT",
        "source": {"kind": "file", "path": str(path)},
        "input": {
            "size": 16,
            "resize": {"rule": "exact"},
            "interpolation": "bilinear",
            "layout": "nchw",
            "channels": "rgb",
            "scale": 1.0,
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
            "dtype": "float32",
        },
        "output": {"pooling": "avg", "dim": 3},
        "metric": "ip",
    } | changes
    return prepare(ModelSpec.model_validate(described), directory, directory)


IDENTITY = [helper.make_node("Identity", ["x"], ["y"])]
MAP: dict[str, list[int | str]] = {"y": ["batch", 3, 16, 16]}


@pytest.mark.parametrize(("pooling", "expected"), [("avg", [100.0, 50.0, 0.0]), ("max", [100.0, 50.0, 0.0])])
def test_a_map_of_features_is_pooled_to_a_row(tmp_path: Path, pooling: str, expected: list[float]) -> None:
    encoder = Encoder(small_model(tmp_path, graph_of(IDENTITY, MAP), output={"pooling": pooling, "dim": 3}), threads=1)
    row = encoder.encode([encoder.preprocess(Image.new("RGB", (40, 30), (100, 50, 0)))])[0]
    np.testing.assert_allclose(row, np.array(expected) / np.linalg.norm(expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "outputs", "inputs", "output", "reason"),
    [
        (IDENTITY, MAP, ("x",), {"pooling": "avg", "dim": 4}, "not 4 numbers a photo"),
        (IDENTITY, MAP, ("x",), {"pooling": "none", "dim": 3}, "not 3 numbers a photo"),
        (IDENTITY, MAP, ("x",), {"pooling": "avg", "dim": 3, "name": "z"}, "one of its outputs: y"),
        (
            [*IDENTITY, helper.make_node("Neg", ["x"], ["z"])],
            MAP | {"z": ["batch", 3, 16, 16]},
            ("x",),
            {"pooling": "avg", "dim": 3},
            "one of its outputs: y, z",
        ),
        ([helper.make_node("Sub", ["x", "x"], ["y"])], MAP, ("x",), {"pooling": "avg", "dim": 3}, "all zero"),
        ([helper.make_node("Add", ["x", "w"], ["y"])], MAP, ("x", "w"), {"pooling": "avg", "dim": 3}, "takes 2 inputs"),
    ],
)
def test_a_model_that_gives_no_vector_of_its_spec_is_refused_at_once(
    tmp_path: Path,
    nodes: list[onnx.NodeProto],
    outputs: dict[str, list[int | str]],
    inputs: tuple[str, ...],
    output: dict[str, Any],
    reason: str,
) -> None:
    with pytest.raises(ModelError, match=reason):
        Encoder(small_model(tmp_path, graph_of(nodes, outputs, inputs), output=output), threads=1)


def test_a_model_whose_input_has_another_size_says_where_to_look(tmp_path: Path) -> None:
    model = small_model(tmp_path, graph_of(IDENTITY, MAP))
    larger = model.spec.model_copy(update={"input": model.spec.input.model_copy(update={"size": 20})})
    with pytest.raises(ModelError, match="check 'input' in its spec"):
        Encoder(dataclasses.replace(model, spec=larger), threads=1)


def test_a_graph_that_cannot_be_loaded_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08nothing")
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be loaded"):
        Session("broken", tmp_path / "broken.onnx", threads=1)


def test_a_provider_that_is_not_there_is_said_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = small_model(tmp_path, graph_of(IDENTITY, MAP))
    with caplog.at_level(logging.WARNING):
        session = Session("small", model.graph, threads=1, providers=("NoSuchExecutionProvider",))
    assert session.provider == "CPUExecutionProvider"
    assert "NoSuchExecutionProvider is not available" in caplog.text
