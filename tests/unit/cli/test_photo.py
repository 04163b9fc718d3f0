from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from cli import files
from cli.client import Client, Query
from cli.errors import CliError
from cli.photo import find_similar
from cli.terms import Term

if TYPE_CHECKING:
    from tests.unit.cli.conftest import FakeDaemon


@pytest.mark.parametrize("size", [3, 5])
def test_a_file_that_changes_while_it_is_sent_is_an_error(size: int) -> None:
    with pytest.raises(CliError, match=r"^a\.jpg was changed while it was being read$"):
        list(files.exactly(iter([b"ab", b"cd"]), size, "a.jpg"))


def test_an_announced_size_is_kept() -> None:
    assert list(files.exactly(iter([b"ab", b"cd"]), 4, "a.jpg")) == [b"ab", b"cd"]


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
        find_similar(client, [Term("image", str(photo))], Query(10))


def test_a_large_photo_is_sent_in_pieces(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CHUNK_BYTES", 7)
    image = tmp_path / "large.jpg"
    image.write_bytes(bytes(range(100)))
    daemon.will_refuse("not_in_library", "It is not in the library.")
    daemon.will_find((0.5, ["/a.jpg"]))

    with Client(daemon.socket, timeout_seconds=5) as client:
        reply = find_similar(client, [Term("image", str(image))], Query(10))

    assert reply.answer["results"][0]["paths"] == ["/a.jpg"]
    assert daemon.requests[1].body == image.read_bytes()


def test_a_term_that_has_no_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_HELD_BYTES", 2**20)

    with pytest.raises(CliError, match=r"^/dev/zero has more than 1 MiB, and is no photo$"):
        files.held("/dev/zero")


def test_terms_are_asked_for_by_path_and_by_their_bytes_where_one_is_not_known(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.jpg", tmp_path / "b.jpg"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    daemon.will_refuse("not_in_library", "It is not in the library.")
    daemon.will_find((0.5, ["/a.jpg"]))
    terms = [Term("image", str(first)), Term("text", "at night", 2.0), Term("image", str(second), -0.5)]

    with Client(daemon.socket, timeout_seconds=5) as client:
        find_similar(client, terms, Query(3, ("m",)))

    by_path, by_bytes = (json.loads(request.body)["terms"] for request in daemon.requests)
    stat = first.stat()
    assert by_path[0] == {"path": str(first), "size": 5, "mtime_ns": stat.st_mtime_ns, "weight": 1.0}
    assert [term["weight"] for term in by_path] == [1.0, 2.0, -0.5]
    assert by_path[1] == by_bytes[1] == {"text": "at night", "weight": 2.0}
    assert [base64.b64decode(by_bytes[n]["image"]) for n in (0, 2)] == [b"first", b"second"]
    assert {request.target for request in daemon.requests} == {"/v1/search?limit=3&model=m"}
