"""The HTTP interface as a client sees it: a real server on a Unix socket, before real stores and the real model."""

from __future__ import annotations

import functools
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from daemon.api import app
from daemon.api.listening import UnixListener, bind
from daemon.api.queries import Queries
from daemon.api.server import Server
from daemon.encode.images import decode
from daemon.errors import ConfigError, StoreUnavailable
from daemon.index.index import Encoded, Index
from daemon.index.search import Search
from tests.integration.api.conftest import Client, library_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daemon.encode.encoder import Encoder
    from daemon.encode.models import Model

MAX_BYTES = 1_000_000
UNVERIFIED = {"/in/5.jpg", "/in/5 again.jpg"}


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((300, 260)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def library(stores: Any, models: dict[str, Model], kit: Any) -> Iterator[Index]:
    index = library_of(stores, [models["efficientnet-lite0"]])
    index.recover()
    yield index
    kit.drop(index)


class Unasked:
    """Stands where no test of this module asks for the status, a sync or a decision; the commands' tests do."""


def served(index: Index, encoders: Sequence[Encoder], directory: Path, is_shown: Callable[[str], bool]) -> Server:
    search, others = Search(index, is_shown), Unasked()
    queries = Queries(
        index,
        search,
        {version: encoder for encoder in encoders for version in encoder.versions},
        {},
        lambda path: path in UNVERIFIED,
        text_models=(),
        text_candidates=dict,
        max_limit=50,
        decode=functools.partial(decode, max_pixels=10**7),
    )
    application = app.build(queries, others, others, others, max_bytes=MAX_BYTES, default_limit=10)  # type: ignore[arg-type]
    return Server(application, UnixListener(directory / "s"))


@pytest.fixture
def client(library: Index, encoders: list[Encoder], directory: Path) -> Iterator[Client]:
    server = served(library, encoders, directory, lambda path: not path.startswith("/outside/"))
    server.start()
    yield Client(directory / "s")
    server.stop()
    assert not (directory / "s").exists()


@pytest.fixture
def filled(library: Index, photos: Any) -> Index:
    names = [f"/in/{n}.jpg" for n in range(20)] + ["/in/latin-\udce9.jpg", "/outside/x.jpg"]
    for name in names:
        content = name.encode("utf-8", "backslashreplace").decode()
        add = photos.add(name, content, models=1)
        collection = library.collections[0]
        library.commit([Encoded(add.add, {collection.version: photos.vector(content, collection.dim)})])
    return library


def test_a_file_of_the_library_is_asked_about_by_path_or_by_id(client: Client, filled: Index) -> None:
    record = filled.mappings.files(["/in/3.jpg"])[0]
    assert record is not None
    status, answer = client.asked(path="/in/3.jpg", size=record.stat.size, mtime_ns=record.stat.mtime_ns)
    assert (status, answer["query"]) == (200, {"by": "path", "id": str(record.photo)})
    assert answer["results"][0]["paths"] == ["/in/3.jpg"]
    assert len(answer["results"]) == 10
    status, by_id = client.asked(id=str(record.photo))
    assert (status, by_id["results"]) == (200, answer["results"])
    assert client.code(path="/in/3.jpg", size=record.stat.size + 1) == (404, "not_in_library")
    assert client.code(path="/in/3.jpg", mtime_ns=1) == (404, "not_in_library")


def test_any_image_is_asked_about_by_its_bytes(client: Client, filled: Index) -> None:
    status, answer = client("POST", "/v1/search?limit=3&model=efficientnet-lite0", png(1))
    assert (status, answer["query"], len(answer["results"])) == (200, {"by": "bytes", "id": None}, 3)
    assert filled.mappings.counts().files == 22


def test_folders_that_are_no_longer_watched_are_not_shown(client: Client, filled: Index) -> None:
    _, answer = client("POST", "/v1/search?limit=50", png(1))
    shown = [path for result in answer["results"] for path in result["paths"]]
    assert len(shown) == 21
    assert "/outside/x.jpg" not in shown
    assert client.code(path="/outside/x.jpg") == (404, "not_in_library")


def test_names_that_are_no_utf_8_travel_both_ways(client: Client, filled: Index) -> None:
    status, answer = client.asked(path="/in/latin-\udce9.jpg")
    assert (status, os.fsencode(answer["results"][0]["paths"][0])) == (200, b"/in/latin-\xe9.jpg")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (("POST", "/v1/search", b"text"), (422, "not_an_image")),
        (("POST", "/v1/search", b""), (422, "not_an_image")),
        (("POST", "/v1/search", bytes(MAX_BYTES + 1)), (413, "too_large")),
        (("POST", "/v1/search", iter([bytes(600_000)] * 3)), (413, "too_large")),
        (("POST", "/v1/search?limit=0", png(1)), (400, "bad_request")),
        (("POST", "/v1/search?limit=51", png(1)), (400, "bad_request")),
        (("POST", "/v1/search?limit=ten", png(1)), (400, "bad_request")),
        (("POST", "/v1/search?model=other", png(1)), (404, "unknown_model")),
        (("POST", "/v1/search", b"{", "application/json"), (400, "bad_request")),
        (("POST", "/v1/search", b"[]", "application/json"), (400, "bad_request")),
        (("POST", "/v1/search", b"{}", "application/json"), (400, "bad_request")),
        (("POST", "/v1/search", b'{"path": "/a", "id": "1"}', "application/json"), (400, "bad_request")),
        (("POST", "/v1/search", b'{"path": "/a\\u0000"}', "application/json"), (400, "bad_request")),
        (("POST", "/v1/search", b'{"path": "/a", "size": "1"}', "application/json"), (400, "bad_request")),
        (("POST", "/v1/search", b'{"id": "-1"}', "application/json"), (400, "bad_request")),
        (("POST", "/v1/search", b'{"id": "99999999999999999999"}', "application/json"), (400, "bad_request")),
        (("POST", "/v1/search", b'{"id": 5}', "application/json"), (404, "not_in_library")),
        (("POST", "/v1/search", b"[" * 100_000, "application/json"), (400, "bad_request")),
        (("GET", "/v1/search"), (405, "method_not_allowed")),
        (("GET", "/v2"), (404, "not_found")),
    ],
)
def test_a_question_that_cannot_be_answered_has_its_code(
    client: Client, request_: tuple[Any, ...], expected: tuple[int, str]
) -> None:
    assert client.code(*request_) == expected


def test_what_cannot_be_told_to_be_there_is_marked(client: Client, filled: Index, photos: Any) -> None:
    filled.commit([photos.bind("/in/5 copy.jpg", "/in/5.jpg"), photos.bind("/in/5 again.jpg", "/in/5.jpg")])
    _, answer = client.asked(path="/in/5.jpg")
    assert answer["results"][0]["paths"] == ["/in/5 again.jpg", "/in/5 copy.jpg", "/in/5.jpg"]
    assert answer["results"][0]["unverified"] == ["/in/5 again.jpg", "/in/5.jpg"]
    assert answer["results"][1]["unverified"] == []


def test_a_store_that_is_away_is_said(library: Index, encoders: list[Encoder], directory: Path, kit: Any) -> None:
    def away(name: str) -> None:
        if name == "search":
            raise StoreUnavailable("Milvus", "unix:/m", "cannot be reached")

    broken = Index(library.mappings, kit.recorded(library.vectors, before=away), library.collections)
    server = served(broken, encoders, directory, lambda _: True)
    server.start()
    status, answer = Client(directory / "s")("POST", "/v1/search", png(1))
    assert (status, answer["error"]["code"]) == (503, "unavailable")
    assert answer["error"]["message"] == "Milvus at unix:/m cannot be reached; try again in a moment"
    server.stop()


def test_only_its_owner_may_open_the_socket(client: Client) -> None:
    assert stat.S_IMODE(client.path.stat().st_mode) == 0o600


def test_a_dead_daemon_s_socket_is_replaced_and_a_live_one_is_not(directory: Path) -> None:
    path = directory / "s"
    dead = bind(path)
    dead.close()
    live = bind(path)
    with pytest.raises(ConfigError, match="another daemon answers"):
        bind(path)
    live.close()
    path.unlink()
    path.write_text("no socket", encoding="utf-8")
    with pytest.raises(ConfigError, match="no socket is in the way"):
        bind(path)


def test_a_socket_s_path_that_is_too_long_is_refused(directory: Path) -> None:
    with pytest.raises(ConfigError, match="at most 107 bytes"):
        bind(directory / ("x" * 120))


def test_every_error_code_is_documented() -> None:
    document = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")
    for code, status in app.ERRORS.items():
        assert f"| `{code}` | {status} |" in document
