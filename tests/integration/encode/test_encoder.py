"""The encoder over the real runtime: what its vectors promise, and whose turn is first."""

from __future__ import annotations

import dataclasses
import gc
import io
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sklearn.datasets
from onnx import TensorProto, helper
from PIL import ExifTags, Image

from daemon.encode.encoder import Encoder, load_encoders
from daemon.encode.images import decode
from daemon.encode.session import Session
from daemon.errors import ModelError
from tests.integration.encode.small_models import IDENTITY, INPUT, MAP, SIDE, Shape, graph_of, small_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx

    from daemon.encode.models import Model


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
    row: np.ndarray = only(encoder.encode([encoder.preprocess(photo.image)]))[0]
    return row


def only(vectors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the rows of the one model there is."""
    (rows,) = vectors.values()
    return rows


def test_an_encoder_says_what_it_is(encoder: Encoder, model: Model) -> None:
    assert encoder.models == (model,)
    assert encoder.versions == (f"efficientnet-lite0-{model.fingerprint}",)
    assert encoder.min_side == 256
    assert encoder.provider == "CPUExecutionProvider"


def test_rows_are_float32_of_length_one(encoder: Encoder, inputs: list[np.ndarray]) -> None:
    rows = only(encoder.encode(inputs))
    assert rows.shape == (12, 1280)
    assert rows.dtype == np.dtype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_no_inputs_give_no_rows(encoder: Encoder) -> None:
    assert only(encoder.encode([])).shape == (0, 1280)


def test_the_same_photo_gives_the_same_vector_in_any_company(
    encoder: Encoder, inputs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = only(encoder.encode(inputs))
    np.testing.assert_array_equal(only(encoder.encode(np.stack(inputs))), rows)
    np.testing.assert_array_equal(only(encoder.encode_query(inputs[5])), rows[5])
    for size in (2, 5, 12):
        monkeypatch.setattr("daemon.encode.encoder.BATCH", size)
        np.testing.assert_allclose(only(encoder.encode(inputs)), rows, atol=1e-5)


def test_photos_are_counted_and_queries_are_not(model: Model, inputs: list[np.ndarray]) -> None:
    encoder = Encoder([model], threads=1)
    assert encoder.encoded == 0
    encoder.encode(inputs[:3])
    encoder.encode_query(inputs[3])
    assert encoder.encoded == 3


def test_many_threads_get_the_rows_that_one_gets(encoder: Encoder, inputs: list[np.ndarray]) -> None:
    expected = only(encoder.encode(inputs))
    before = encoder.encoded
    results: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        bulk = number % 2 == 1
        results[number] = (
            only(encoder.encode(inputs)) if bulk else np.stack([only(encoder.encode_query(x)) for x in inputs])
        )

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
    encoder = Encoder([model], threads=1)
    query_started, query_may_end = threading.Event(), threading.Event()
    run = encoder._session.run

    def slow(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        if threading.current_thread().name == "query":
            query_started.set()
            assert query_may_end.wait(30)
        return run(inputs, outputs)

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
    assert len(only(encoder.encode(inputs[:1]))) == 1


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


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_map_of_features_is_pooled_to_a_row(tmp_path: Path, pooling: str) -> None:
    encoder = Encoder([small_model(tmp_path, output={"pooling": pooling, "dim": 3})], threads=1)
    row = colour(encoder, (100, 50, 0))
    np.testing.assert_allclose(row, np.array([100, 50, 0]) / np.linalg.norm([100, 50, 0]), rtol=1e-6)


def colour(encoder: Encoder, rgb: tuple[int, int, int], version: str | None = None) -> np.ndarray:
    """Return the vector of a photo of one colour."""
    vectors = encoder.encode_query(encoder.preprocess(Image.new("RGB", (40, 30), rgb)))
    return vectors[version] if version else only(vectors)


def test_models_of_one_graph_share_one_run_of_it_and_each_has_its_own_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of([*IDENTITY, helper.make_node("Neg", ["x"], ["z"])], MAP | {"z": MAP["y"]})
    mean, matrix = np.full(3, 10, np.float32), np.array([[1, 0], [0, 2], [0, 0]], np.float32)
    models = [
        small_model(tmp_path, graph, name="by-name", output={"name": "z", "pooling": "avg", "dim": 3}),
        small_model(tmp_path, graph, name="by-position", output={"name": 0, "pooling": "max", "dim": 3}),
        small_model(
            tmp_path,
            graph,
            name="projected",
            output={"name": 0, "pooling": "avg", "dim": 2},
            arrays={"mean": mean, "matrix": matrix},
            **AFFINE,
        ),
    ]
    (encoder,) = load_encoders(models, threads=1)
    assert encoder.versions == tuple(model.version for model in models)
    runs: list[Sequence[str]] = []
    run = encoder._session.run

    def counted(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        runs.append(outputs)
        return run(inputs, outputs)

    monkeypatch.setattr(encoder._session, "run", counted)
    photo = encoder.preprocess(Image.new("RGB", (30, 30), (13, 12, 10)))
    vectors = encoder.encode([photo, photo])
    assert ([sorted(outputs) for outputs in runs], encoder.encoded) == ([["y", "z"]] * 2, 2)
    expected = {models[0].version: [-13, -12, -10], models[1].version: [13, 12, 10], models[2].version: [3, 4]}
    for version, row in expected.items():
        np.testing.assert_allclose(vectors[version], [np.array(row) / np.linalg.norm(row)] * 2, rtol=1e-5)


AFFINE: dict[str, Any] = {"projection": {"kind": "affine", "source": {"kind": "file", "path": "pca.npz"}}}


def test_models_share_a_session_where_graph_and_input_are_equal_and_only_there(tmp_path: Path) -> None:
    one, other = graph_of(), graph_of([helper.make_node("Neg", ["x"], ["y"])])
    bgr = INPUT | {"channels": "bgr"}
    models = [
        small_model(tmp_path, one, name="first"),
        small_model(tmp_path, one, name="bgr", input=bgr),
        small_model(tmp_path, other, name="other"),
        small_model(tmp_path, one, name="twin", output={"pooling": "max", "dim": 3}),
    ]
    encoders = load_encoders(models, threads=1)
    assert [[model.spec.name for model in encoder.models] for encoder in encoders] == [
        ["first", "twin"],
        ["bgr"],
        ["other"],
    ]
    assert colour(encoders[1], (0, 0, 9)).tolist() == [1, 0, 0]


def test_an_error_names_the_model_at_fault_and_not_the_one_it_shares_a_graph_with(tmp_path: Path) -> None:
    models = [
        small_model(tmp_path, name="good"),
        small_model(tmp_path, name="bad", output={"pooling": "avg", "dim": 4}),
    ]
    with pytest.raises(ModelError, match=r"Model bad: .* not 4 numbers a photo"):
        load_encoders(models, threads=1)


@pytest.mark.parametrize(("dtype", "onnx_dtype"), [("float16", TensorProto.FLOAT16), ("uint8", TensorProto.UINT8)])
def test_a_graph_is_fed_the_dtype_it_takes(tmp_path: Path, dtype: str, onnx_dtype: int) -> None:
    cast = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    encoder = Encoder(
        [small_model(tmp_path, graph_of(cast, dtype=onnx_dtype), input=INPUT | {"dtype": dtype})], threads=1
    )
    np.testing.assert_allclose(colour(encoder, (30, 40, 0)), [0.6, 0.8, 0], atol=1e-6)


def test_an_output_of_half_precision_becomes_a_float32_row(tmp_path: Path) -> None:
    half = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)]
    encoder = Encoder([small_model(tmp_path, graph_of(half, output_dtype=TensorProto.FLOAT16))], threads=1)
    row = colour(encoder, (30, 40, 0))
    assert row.dtype == np.dtype(np.float32)
    np.testing.assert_allclose(row, [0.6, 0.8, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("onnx_dtype", "said", "reason"),
    [
        (
            TensorProto.FLOAT16,
            "float32",
            "takes float16 where its spec says float32; set 'input.dtype' in its spec to float16",
        ),
        (TensorProto.FLOAT, "uint8", "takes float32 where its spec says uint8"),
        (TensorProto.DOUBLE, "float32", "takes double, which is none of float32, float16, uint8"),
    ],
)
def test_a_graph_that_takes_another_dtype_than_its_spec_says_is_refused_with_both(
    tmp_path: Path, onnx_dtype: int, said: str, reason: str
) -> None:
    graph = graph_of(dtype=onnx_dtype, output_dtype=onnx_dtype)
    with pytest.raises(ModelError, match=reason):
        Encoder([small_model(tmp_path, graph, input=INPUT | {"dtype": said})], threads=1)


@pytest.mark.parametrize(
    ("shape", "layout", "reason"),
    [
        ([8, 3, SIDE, SIDE], "nchw", "takes 8 photos at a time"),
        (
            ["batch", 3, 20, 20],
            "nchw",
            "photos of 20 x 20 pixels where its spec says 16; set 'input.size' in its spec to 20",
        ),
        (["batch", 20, SIDE, 3], "nhwc", "photos of 16 x 20 pixels where its spec says 16; export it for a square"),
        (["batch", 3, SIDE, SIDE], "nhwc", "16 channels in the layout nhwc, not 3; check 'input.layout'"),
        (["batch", 3, 256], "nchw", "not the four axes of a batch of photos"),
    ],
)
def test_a_graph_that_takes_photos_of_another_shape_is_refused_with_both(
    tmp_path: Path, shape: Shape, layout: str, reason: str
) -> None:
    model = small_model(tmp_path, graph_of(IDENTITY, {"y": shape}, {"x": shape}), input=INPUT | {"layout": layout})
    with pytest.raises(ModelError, match=reason):
        Encoder([model], threads=1)


@pytest.mark.parametrize("shape", [[1, 3, SIDE, SIDE], ["batch", 3, "height", "width"], ["batch", "c", SIDE, SIDE]])
def test_a_graph_whose_axes_are_free_or_fixed_as_its_spec_says_is_taken(tmp_path: Path, shape: Shape) -> None:
    encoder = Encoder([small_model(tmp_path, graph_of(IDENTITY, {"y": shape}, {"x": shape}))], threads=1)
    photo = encoder.preprocess(Image.new("RGB", (SIDE, SIDE), (0, 9, 0)))
    np.testing.assert_array_equal(only(encoder.encode([photo] * 3)), [[0, 1, 0]] * 3)


@pytest.mark.parametrize(
    ("nodes", "outputs", "output", "reason"),
    [
        (IDENTITY, MAP, {"pooling": "avg", "dim": 4}, "not 4 numbers a photo"),
        (IDENTITY, MAP, {"pooling": "none", "dim": 3}, "check 'output' in its spec"),
        (IDENTITY, MAP, {"pooling": "cls", "dim": 3}, "check 'output' in its spec"),
        (IDENTITY, MAP, {"pooling": "avg", "dim": 3, "name": "z"}, "one of its outputs: y"),
        (IDENTITY, MAP, {"pooling": "avg", "dim": 3, "name": 1}, "one of its outputs: y"),
        (
            [*IDENTITY, helper.make_node("Neg", ["x"], ["z"])],
            MAP | {"z": MAP["y"]},
            {"pooling": "avg", "dim": 3},
            "one of its outputs: y, z",
        ),
        ([helper.make_node("Sub", ["x", "x"], ["y"])], MAP, {"pooling": "avg", "dim": 3}, "all zero"),
        ([helper.make_node("Log", ["x"], ["y"])], MAP, {"pooling": "avg", "dim": 3}, "not finite"),
        ([helper.make_node("Cos", ["zero"], ["y"])], MAP, {"pooling": "avg", "dim": 3}, "every photo the same vector"),
        (
            [helper.make_node("Nowhere", ["x"], ["y"], domain="org.example")],
            MAP,
            {"pooling": "avg", "dim": 3},
            "cannot be loaded",
        ),
    ],
)
def test_a_model_that_gives_no_vector_of_its_spec_is_refused_at_once(
    tmp_path: Path, nodes: list[onnx.NodeProto], outputs: dict[str, Shape], output: dict[str, Any], reason: str
) -> None:
    zeros = {"zero": np.zeros((1, 3, SIDE, SIDE), np.float32)}
    with pytest.raises(ModelError, match=reason):
        Encoder([small_model(tmp_path, graph_of(nodes, outputs, weights=zeros), output=output)], threads=1)


def test_an_output_that_holds_whole_numbers_is_refused(tmp_path: Path) -> None:
    cast = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64)]
    with pytest.raises(ModelError, match="its output y holds int64, of which no vector is made"):
        Encoder([small_model(tmp_path, graph_of(cast, output_dtype=TensorProto.INT64))], threads=1)


def test_a_graph_with_two_inputs_is_refused_by_their_names(tmp_path: Path) -> None:
    both = graph_of([helper.make_node("Add", ["x", "w"], ["y"])], MAP, {"x": MAP["y"], "w": MAP["y"]})
    with pytest.raises(ModelError, match=r"takes 2 inputs \(x, w\)"):
        Encoder([small_model(tmp_path, both)], threads=1)


def test_numbers_beyond_what_squares_of_float32_hold_are_a_vector_still(tmp_path: Path) -> None:
    for name, factor in (("large", 1e30), ("small", 1e-30)):
        nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
        graph = graph_of(nodes, weights={"factor": np.array(factor, np.float32)})
        encoder = Encoder([small_model(tmp_path, graph, name=name)], threads=1)
        np.testing.assert_allclose(colour(encoder, (30, 40, 0)), [0.6, 0.8, 0], atol=1e-6)


def test_a_black_photo_that_a_model_answers_with_nothing_is_an_error_and_not_a_row(tmp_path: Path) -> None:
    encoder = Encoder([small_model(tmp_path)], threads=1)
    with pytest.raises(ModelError, match="all zero"):
        colour(encoder, (0, 0, 0))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"mean": np.zeros(3), "matrix": np.eye(3)[:, :2]}, "gives 2 numbers where its spec says 3"),
        ({"mean": np.zeros(4), "matrix": np.eye(4)[:, :3]}, "not 4 numbers a photo"),
        ({"mean": np.zeros(2), "matrix": np.eye(3)}, "cannot be used"),
        ({"matrix": np.eye(3)}, "has no array 'mean'"),
        ({"mean": np.zeros(3), "matrix": np.full((3, 3), np.nan)}, "its matrix holds numbers that are not finite"),
        ({"mean": np.array([{}] * 3), "matrix": np.eye(3)}, "cannot be used"),
    ],
)
def test_a_projection_that_does_not_fit_is_refused_with_the_reason(
    tmp_path: Path, arrays: dict[str, np.ndarray], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        Encoder([small_model(tmp_path, arrays=arrays, **AFFINE)], threads=1)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_a_damaged_projection_is_refused(tmp_path: Path, content: bytes) -> None:
    model = small_model(tmp_path, **AFFINE)
    assert model.projection
    model.projection.write_bytes(content)
    with pytest.raises(ModelError, match="its projection cannot be used"):
        Encoder([model], threads=1)


def test_a_model_whose_input_has_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    larger = model.spec.model_copy(update={"input": model.spec.input.model_copy(update={"size": 20})})
    with pytest.raises(ModelError, match="of 16 x 16 pixels where its spec says 20"):
        Encoder([dataclasses.replace(model, spec=larger)], threads=1)


def test_a_closed_encoder_gives_its_memory_back_and_says_that_it_is_not_loaded(tmp_path: Path) -> None:
    encoder = Encoder([small_model(tmp_path)], threads=1)
    held = weakref.ref(encoder._session._session)
    encoder.close()
    gc.collect()
    assert held() is None
    with pytest.raises(ModelError, match="no longer loaded"):
        colour(encoder, (1, 2, 3))
    encoder.close()


def test_a_graph_that_cannot_be_loaded_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08nothing")
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be loaded"):
        Session("broken", tmp_path / "broken.onnx", threads=1)
