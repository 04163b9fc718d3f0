from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from cli import photo as photo_module
from cli.client import Client, Query
from cli.errors import CliError
from cli.photo import _exactly, find_similar

if TYPE_CHECKING:
    from tests.unit.cli.conftest import FakeDaemon


@pytest.mark.parametrize("size", [3, 5])
def test_a_file_that_changes_while_it_is_sent_is_an_error(size: int) -> None:
    with pytest.raises(CliError, match=r"^a\.jpg was changed while it was being read$"):
        list(_exactly(iter([b"ab", b"cd"]), size, "a.jpg"))


def test_an_announced_size_is_kept() -> None:
    assert list(_exactly(iter([b"ab", b"cd"]), 4, "a.jpg")) == [b"ab", b"cd"]


def test_an_image_without_permission_is_one_sentence(
    daemon: FakeDaemon, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, mode: str, buffering: int) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    # Root, who may run the tests, may read every file.
    monkeypatch.setattr(Path, "open", refuse)
    daemon.will_refuse("not_in_library", "It is not in the library.")

    with (
        Client(daemon.socket, timeout_seconds=5) as client,
        pytest.raises(CliError, match=r"^/.*/photo\.jpg cannot be read: permission denied$"),
    ):
        find_similar(client, str(photo), Query(10))


def test_a_large_photo_is_sent_in_pieces(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_module, "_CHUNK_BYTES", 7)
    image = tmp_path / "large.jpg"
    image.write_bytes(bytes(range(100)))
    daemon.will_refuse("not_in_library", "It is not in the library.")
    daemon.will_find((0.5, ["/a.jpg"]))

    with Client(daemon.socket, timeout_seconds=5) as client:
        reply = find_similar(client, str(image), Query(10))

    assert reply.answer["results"][0]["paths"] == ["/a.jpg"]
    assert daemon.requests[1].body == image.read_bytes()
