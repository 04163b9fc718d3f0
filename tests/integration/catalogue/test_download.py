"""Downloads from a real server on its bad days."""

from __future__ import annotations

import hashlib
import random
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from daemon.catalogue import download as module
from daemon.catalogue import partial
from daemon.catalogue.download import download
from daemon.catalogue.partial import Remote
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.catalogue.conftest import FileServer

CONTENT = random.Random(4).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)


@pytest.fixture
def remote(file_server: FileServer) -> Remote:
    file_server.files["/model.onnx"] = CONTENT
    return Remote(file_server.url("/model.onnx"), SHA256)


def ignore(file: str, done: int, total: int | None) -> None:
    pass


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_gets_its_name_whole_and_verified(remote: Remote, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []

    digest = download("m", remote, tmp_path / "new" / "model.onnx", lambda *seen: told.append(seen))

    assert (tmp_path / "new" / "model.onnx").read_bytes() == CONTENT
    assert (digest, names(tmp_path / "new")) == (SHA256, ["model.onnx"])
    assert told[0] == ("model.onnx", 0, len(CONTENT))
    assert told[-1] == ("model.onnx", len(CONTENT), len(CONTENT))


def test_a_cut_connection_is_gone_on_with_where_it_broke(
    file_server: FileServer, remote: Remote, tmp_path: Path
) -> None:
    file_server.cuts = [100_000, 300_000]

    download("m", remote, tmp_path / "model.onnx", ignore)

    assert (tmp_path / "model.onnx").read_bytes() == CONTENT
    assert file_server.asked("Range") == [None, "bytes=100000-", "bytes=400000-"]
    assert file_server.asked("If-Range") == [None, '"1"', '"1"']


def test_the_next_pull_goes_on_where_the_last_one_gave_up(
    file_server: FileServer, remote: Remote, tmp_path: Path
) -> None:
    file_server.cuts = [250_000, 0, 0, 0, 0]
    with pytest.raises(
        ModelError, match=r"broke off after 250,000 of 1,000,000 bytes.* 0\.2 MB are kept; pull it again"
    ):
        download("m", remote, tmp_path / "model.onnx", ignore)
    assert names(tmp_path) == ["model.onnx.part", "model.onnx.part.json"]
    file_server.cuts.clear()
    file_server.requests.clear()

    download("m", remote, tmp_path / "model.onnx", ignore)

    assert (tmp_path / "model.onnx").read_bytes() == CONTENT
    assert file_server.asked("Range") == ["bytes=250000-"]
    assert names(tmp_path) == ["model.onnx"]


def test_a_download_that_was_only_not_named_yet_is_not_begun_again(
    file_server: FileServer, remote: Remote, tmp_path: Path
) -> None:
    file_server.cuts = [250_000, 0, 0, 0, 0]
    with pytest.raises(ModelError):
        download("m", remote, tmp_path / "model.onnx", ignore)
    (tmp_path / "model.onnx.part").write_bytes(CONTENT)
    file_server.requests.clear()

    assert download("m", remote, tmp_path / "model.onnx", ignore) == SHA256
    assert (file_server.requests, names(tmp_path)) == ([], ["model.onnx"])


def test_a_file_that_changed_meanwhile_is_downloaded_anew(
    file_server: FileServer, remote: Remote, tmp_path: Path
) -> None:
    file_server.cuts = [250_000, 0, 0, 0, 0]
    with pytest.raises(ModelError):
        download("m", Remote(remote.url), tmp_path / "model.onnx", ignore)
    file_server.cuts.clear()
    file_server.etag, file_server.files["/model.onnx"] = '"2"', CONTENT[::-1]

    download("m", Remote(remote.url), tmp_path / "model.onnx", ignore)

    assert (tmp_path / "model.onnx").read_bytes() == CONTENT[::-1]


def test_what_was_begun_under_another_identity_is_not_gone_on_with(
    file_server: FileServer, remote: Remote, tmp_path: Path
) -> None:
    file_server.cuts = [250_000, 0, 0, 0, 0]
    with pytest.raises(ModelError):
        download("m", Remote(remote.url, identity="a"), tmp_path / "model.onnx", ignore)
    file_server.cuts.clear()
    file_server.requests.clear()

    download("m", Remote(remote.url, identity="b"), tmp_path / "model.onnx", ignore)

    assert file_server.asked("Range") == [None]


@pytest.mark.parametrize("habit", ["ignores ranges", "has no validator", "has a weak one"])
def test_a_server_that_cannot_go_on_starts_anew(
    file_server: FileServer, remote: Remote, tmp_path: Path, habit: str
) -> None:
    file_server.ranges = habit != "ignores ranges"
    if not habit.startswith("ignores"):
        file_server.etag = None if habit == "has no validator" else 'W/"1"'
    file_server.cuts = [250_000]

    download("m", remote, tmp_path / "model.onnx", ignore)

    assert (tmp_path / "model.onnx").read_bytes() == CONTENT


def test_the_time_of_the_last_change_serves_where_there_is_no_tag(
    file_server: FileServer, remote: Remote, tmp_path: Path
) -> None:
    file_server.etag, file_server.last_modified = None, "Wed, 21 Oct 2015 07:28:00 GMT"
    file_server.cuts = [250_000]

    download("m", remote, tmp_path / "model.onnx", ignore)

    assert file_server.asked("If-Range")[1] == file_server.last_modified
    assert (tmp_path / "model.onnx").read_bytes() == CONTENT


def test_a_file_that_became_shorter_is_downloaded_anew(file_server: FileServer, remote: Remote, tmp_path: Path) -> None:
    file_server.cuts = [250_000, 0, 0, 0, 0]
    with pytest.raises(ModelError):
        download("m", Remote(remote.url), tmp_path / "model.onnx", ignore)
    file_server.cuts.clear()
    file_server.files["/model.onnx"] = CONTENT[:1000]

    download("m", Remote(remote.url), tmp_path / "model.onnx", ignore)

    assert (tmp_path / "model.onnx").read_bytes() == CONTENT[:1000]


def test_a_wrong_checksum_leaves_nothing_behind(file_server: FileServer, tmp_path: Path) -> None:
    file_server.files["/model.onnx"] = b"an error page"

    with pytest.raises(ModelError, match=r"has the SHA-256 [0-9a-f]{64} where 0{64} was expected, and was thrown away"):
        download("m", Remote(file_server.url("/model.onnx"), "0" * 64), tmp_path / "model.onnx", ignore)

    assert names(tmp_path) == []


def test_a_file_of_unannounced_length_is_downloaded(file_server: FileServer, remote: Remote, tmp_path: Path) -> None:
    file_server.announce = False

    download("m", remote, tmp_path / "model.onnx", ignore)

    assert (tmp_path / "model.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, 4), (429, 4)])
def test_only_what_may_pass_is_tried_again(
    file_server: FileServer, remote: Remote, tmp_path: Path, status: int, tries: int
) -> None:
    file_server.statuses = [status] * 10

    with pytest.raises(ModelError, match=f"HTTP status {status}"):
        download("m", remote, tmp_path / "model.onnx", ignore)

    assert (len(file_server.requests), names(tmp_path)) == (tries, [])


def test_a_server_that_stumbles_once_costs_nothing(file_server: FileServer, remote: Remote, tmp_path: Path) -> None:
    file_server.statuses = [502]

    assert download("m", remote, tmp_path / "model.onnx", ignore) == SHA256


def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be downloaded \(Connection refused\); pull it again"):
        download("m", Remote("http://127.0.0.1:9/model.onnx"), tmp_path / "model.onnx", ignore)


def test_a_silent_server_is_given_up(
    file_server: FileServer, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(module, "_ATTEMPTS", 1)
    file_server.gate = threading.Event()

    with pytest.raises(ModelError, match=r"the server was silent for 0 s\); 0\.5 MB are kept"):
        download("m", remote, tmp_path / "model.onnx", ignore)


def test_an_interrupt_leaves_what_there_is(file_server: FileServer, remote: Remote, tmp_path: Path) -> None:
    def interrupt(file: str, done: int, total: int | None) -> None:
        if done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download("m", remote, tmp_path / "model.onnx", interrupt)
    file_server.requests.clear()

    download("m", remote, tmp_path / "model.onnx", ignore)

    (asked,) = file_server.asked("Range")
    assert asked is not None
    assert int(asked.removeprefix("bytes=").removesuffix("-")) > 500_000


def test_two_at_once_are_not_mixed(file_server: FileServer, remote: Remote, tmp_path: Path) -> None:
    file_server.gate = threading.Event()
    begun = threading.Event()
    first = threading.Thread(
        target=download, args=("m", remote, tmp_path / "model.onnx", lambda *_: begun.set()), name="first"
    )
    first.start()
    assert begun.wait(30)

    with pytest.raises(ModelError, match=r"another command is downloading model\.onnx"):
        download("m", remote, tmp_path / "model.onnx", ignore)

    file_server.gate.set()
    first.join()
    assert (tmp_path / "model.onnx").read_bytes() == CONTENT


def test_a_file_that_is_too_large_is_not_begun(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "MAX_BYTES", 999_999)

    with pytest.raises(ModelError, match="which no model here may be"):
        download("m", remote, tmp_path / "model.onnx", ignore)

    assert names(tmp_path) == []


def test_a_file_that_grows_too_large_on_the_way_is_thrown_away(
    file_server: FileServer, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_server.announce = False
    monkeypatch.setattr(partial, "MAX_BYTES", 500_000)

    with pytest.raises(ModelError, match="which no model here may be"):
        download("m", remote, tmp_path / "model.onnx", ignore)

    assert names(tmp_path) == []


def test_a_full_disk_is_noticed_before_the_first_byte(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=999_999))

    with pytest.raises(ModelError, match=r"needs another 0\.00 GB, and .* free; free some, or set 'data_dir'"):
        download("m", remote, tmp_path / "model.onnx", ignore)

    assert names(tmp_path) == []


def test_credentials_do_not_follow_a_redirect(file_server: FileServer, remote: Remote, tmp_path: Path) -> None:
    file_server.redirects["/start"] = remote.url

    download(
        "m",
        Remote(file_server.url("/start"), SHA256, {"Authorization": "Bearer secret"}),
        tmp_path / "model.onnx",
        ignore,
    )

    assert file_server.asked("Authorization") == ["Bearer secret", None]


def test_a_directory_that_cannot_be_written_is_one_sentence(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ModelError, match=r"cannot be written \(.*\); free space there, or allow it\."):
        download("m", remote, tmp_path / "file" / "model.onnx", ignore)
