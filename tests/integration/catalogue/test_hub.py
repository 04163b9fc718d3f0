"""The real huggingface_hub against a server that speaks what it asks of the hub: HEAD and GET of /REPOSITORY/resolve/REVISION/FILE."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

import pytest

from daemon.catalogue.download import download
from daemon.catalogue.hub import hub_remote
from daemon.encode.specs import HuggingFaceSource
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.catalogue.conftest import FileServer

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = "/somebody/model/resolve/main/onnx/model.onnx"


@pytest.fixture
def hub(file_server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FileServer:
    """Return a hub whose large files lie elsewhere, as on huggingface.co."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", file_server.address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"{file_server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    elsewhere = file_server.address.replace("127.0.0.1", "localhost")
    file_server.redirects[FILE] = f"{elsewhere}/blob?signature=1"
    file_server.headers[FILE] = {
        "X-Repo-Commit": COMMIT,
        "X-Linked-Etag": f'"{SHA256}"',
        "X-Linked-Size": str(len(CONTENT)),
    }
    file_server.files["/blob"] = CONTENT
    return file_server


def source(sha256: str | None = None, file: str = "onnx/model.onnx", revision: str = "main") -> HuggingFaceSource:
    return HuggingFaceSource(
        kind="huggingface", repository="somebody/model", revision=revision, file=file, sha256=sha256
    )


def ignore(file: str, done: int, total: int | None) -> None:
    pass


def test_a_file_of_the_hub_is_downloaded_and_verified_by_what_the_hub_says(hub: FileServer, tmp_path: Path) -> None:
    remote = hub_remote("m", source(), "onnx/model.onnx")

    assert remote.sha256 == SHA256
    assert download("m", remote, tmp_path / "model.onnx", ignore) == SHA256
    assert (tmp_path / "model.onnx").read_bytes() == CONTENT


def test_the_spec_has_the_last_word_on_the_checksum(hub: FileServer) -> None:
    assert hub_remote("m", source("1" * 64), "onnx/model.onnx").sha256 == "1" * 64


def test_the_checksum_of_the_graph_is_not_that_of_its_data(hub: FileServer) -> None:
    path = "/somebody/model/resolve/main/onnx/model.onnx_data"
    hub.files[path] = b"data"
    hub.headers[path] = {"X-Repo-Commit": COMMIT}

    assert hub_remote("m", source("1" * 64), "onnx/model.onnx_data").sha256 is None


def test_the_token_is_for_the_hub_and_not_for_where_it_keeps_its_files(hub: FileServer, tmp_path: Path) -> None:
    download("m", hub_remote("m", source(), "onnx/model.onnx"), tmp_path / "model.onnx", ignore)

    asked = [
        (method, headers.get("Authorization") or headers.get("authorization")) for method, _, headers in hub.requests
    ]
    assert asked == [("HEAD", "Bearer secret"), ("GET", None)]


def test_a_broken_download_goes_on_although_the_signature_is_another_one(hub: FileServer, tmp_path: Path) -> None:
    hub.cuts = [3000, 0, 0, 0, 0]
    with pytest.raises(ModelError, match="broke off after 3,000 of 7,000 bytes"):
        download("m", hub_remote("m", source(), "onnx/model.onnx"), tmp_path / "model.onnx", ignore)
    hub.cuts.clear()
    hub.requests.clear()
    hub.redirects[FILE] = hub.redirects[FILE].replace("signature=1", "signature=2")

    download("m", hub_remote("m", source(), "onnx/model.onnx"), tmp_path / "model.onnx", ignore)

    assert (tmp_path / "model.onnx").read_bytes() == CONTENT
    assert hub.asked("Range") == ["bytes=3000-"]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("RepoNotFound", r"there is no somebody/model on 127\.0\.0\.1:\d+, or you may not read it"),
        ("RevisionNotFound", "has no revision main; correct 'revision'"),
        ("EntryNotFound", "has no file onnx/other.onnx at revision main; correct 'file'"),
        ("GatedRepo", "accept its terms there"),
        ("SomethingElse", r"has no onnx/other\.onnx \(HTTP status 404\); correct its spec, or HF_ENDPOINT"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub: FileServer, code: str, sentence: str) -> None:
    hub.headers["/somebody/model/resolve/main/onnx/other.onnx"] = {"X-Error-Code": code}

    with pytest.raises(ModelError, match=sentence) as refused:
        hub_remote("m", source(file="onnx/other.onnx"), "onnx/other.onnx")

    assert "\n" not in str(refused.value)


def test_a_hub_that_cannot_be_reached_is_one_sentence(hub: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )

    with pytest.raises(
        ModelError, match=r"127\.0\.0\.1:9 cannot be reached \(Connection refused\); look at the connection"
    ):
        hub_remote("m", source(), "onnx/model.onnx")


def test_a_wish_to_stay_offline_is_heard(hub: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        hub_remote("m", source(), "onnx/model.onnx")


def test_without_the_library_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)

    with pytest.raises(ModelError, match=rf"run `{sys.executable} -m pip install '\.\[text\]'` in a clone"):
        hub_remote("m", source(), "onnx/model.onnx")
