"""What no well-behaved client sends, and what the daemon answers when something in it breaks."""

from __future__ import annotations

import http.client
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.api import app, schema
from daemon.api.asking import Picture
from daemon.api.listening import UnixListener, bind
from daemon.api.server import Server
from daemon.errors import ConfigError, ModelError, QueryError, StoreRefused, StoreUnavailable
from daemon.verify.report import Finding, ModelVectors, Report, by_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.api.asking import Question

MAX_BYTES = 1000


class Answers:
    """Stands for the queries, the status and the verifier: raises `error`, or answers nothing."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[str] = []

    def answer(self, question: Question) -> schema.SearchAnswer:
        (term,) = question.terms
        size = len(term.what.data) if isinstance(term.what, Picture) else term.what
        self.asked.append(f"{size} {question.limit} {','.join(question.models)}")
        if self.error:
            raise self.error
        return schema.SearchAnswer(
            model="m", metric="cosine", query=schema.Query(by="bytes", id=None), took_ms=1, results=[]
        )

    def unasked(self, path: str) -> schema.Answer:
        raise AssertionError(path)

    failures = skipped = retry = deletions = approve = reject = unasked

    def health(self) -> schema.HealthAnswer:
        return schema.HealthAnswer(status="ok", reasons=[])

    def run(self, *, deep: bool, repair: bool) -> Report:
        if deep and repair:
            raise QueryError("busy", "another verification is running")
        differences = by_kind([Finding("ghost_path", "/in/latin-\udce9.jpg", 1)])
        models = (ModelVectors("m", 3),)
        return Report(0.5, 4, 3, models, 1, deep, 2, 0, differences, False, repair, 0)


@pytest.fixture
def directory() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="api-"))
    yield place
    shutil.rmtree(place)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def path(directory: Path, answers: Answers) -> Iterator[Path]:
    doubles: Any = answers
    server = Server(
        app.build(doubles, doubles, doubles, doubles, max_bytes=MAX_BYTES, default_limit=10),
        UnixListener(directory / "s"),
    )
    server.start()
    yield directory / "s"
    server.stop()


def ask(path: Path, request: bytes) -> tuple[int, dict[str, Any]]:
    """Send raw bytes and return the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(os.fspath(path))
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        status, body = response.status, response.read()
        response.close()
        return status, json.loads(body)


def post(path: Path, body: bytes, *, kind: str = "image/png", length: int | None = None) -> tuple[int, dict[str, Any]]:
    head = f"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    return ask(
        path, head.encode() + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"path": "/\\ud800"}',
        b'{"path": "/a\\u0000b"}',
        b'{"id": "' + b"9" * 900 + b'"}',
        b'{"id": ' + b"9" * 900 + b"}",
        b'{"id": true}',
        b'{"id": 1.5}',
        b'{"id": "\\u0661"}',
        b'{"path": ["/a"]}',
        b'{"path": "/a", "size": true}',
        b'{"path": "/a", "mtime_ns": 1.5}',
        b"\xff",
        b"NaN",
        b'{"terms": []}',
        b'{"terms": {}}',
        b'{"terms": [{"text": "boat"}], "path": "/a"}',
        b'{"terms": [{"text": "boat", "weight": NaN}]}',
        b'{"terms": [{"text": "boat", "weight": 1e999}]}',
        b'{"terms": [{"path": "/a\\u0000b"}]}',
        b'{"terms": [{"path": "/a//b"}]}',
        b'{"path": "/a/../b"}',
        b'{"path": "a.jpg"}',
    ],
)
def test_json_that_asks_for_nothing_that_can_be_is_a_bad_request(path: Path, answers: Answers, body: bytes) -> None:
    status, answer = post(path, body, kind="application/json; charset=utf-8")
    assert (status, answer["error"]["code"]) == (400, "bad_request")
    assert answers.asked == []


def test_a_body_that_is_declared_too_long_is_refused_before_it_is_sent(path: Path) -> None:
    status, answer = post(path, b"", length=MAX_BYTES + 1)
    assert (status, answer["error"]["code"]) == (413, "too_large")


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_long(path: Path) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (MAX_BYTES, bytes(MAX_BYTES))
    status, answer = ask(path, head + chunk + chunk)
    assert (status, answer["error"]["code"]) == (413, "too_large")


def test_a_body_of_exactly_the_limit_is_taken(path: Path, answers: Answers) -> None:
    assert post(path, bytes(MAX_BYTES))[0] == 200
    assert answers.asked == [f"{MAX_BYTES} 10 "]


@pytest.mark.parametrize(
    ("error", "status", "code", "said"),
    [
        (StoreUnavailable("Milvus", "unix:/m", "is away"), 503, "unavailable", "try again in a moment"),
        (StoreRefused("Milvus", "unix:/m", "refuses a call: no"), 503, "unavailable", "see the daemon's log"),
        (ModelError("m", "it gave no numbers"), 422, "not_an_image", "the query gives no vector"),
        (ZeroDivisionError("oh"), 500, "internal", "its log says why"),
    ],
)
def test_what_goes_wrong_inside_has_a_code_and_a_sentence(
    path: Path, answers: Answers, error: Exception, status: int, code: str, said: str
) -> None:
    answers.error = error
    found, answer = post(path, b"x")
    assert (found, answer["error"]["code"]) == (status, code)
    assert said in answer["error"]["message"]


def test_a_client_that_hangs_up_is_no_news(path: Path, kit: Any, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.fspath(path))
        connection.sendall(b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nhalf")
    kit.eventually(lambda: ask(path, b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_many_may_ask_at_once(path: Path) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(post(path, b"x")[0])) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 30


def test_a_socket_whose_owner_hangs_is_not_taken_over(directory: Path) -> None:
    path = directory / "s"
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as first:
        hung.bind(os.fspath(path))
        hung.listen(0)
        first.connect(os.fspath(path))
        with pytest.raises(ConfigError, match="another daemon answers"):
            bind(path)
        assert path.exists()


def test_a_server_that_cannot_bind_can_be_stopped(directory: Path) -> None:
    doubles: Any = Answers()
    (directory / "s").write_bytes(b"")
    server = Server(
        app.build(doubles, doubles, doubles, doubles, max_bytes=1, default_limit=1), UnixListener(directory / "s")
    )
    with pytest.raises(ConfigError):
        server.start()
    server.stop()
    assert (directory / "s").exists()


def verify(path: Path, body: bytes) -> tuple[int, dict[str, Any]]:
    head = f"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return ask(path, head.encode() + body)


def test_a_verification_answers_with_what_differs(path: Path) -> None:
    status, answer = verify(path, b'{"deep": true}')
    assert (status, answer) == (
        200,
        {
            "schema": 1,
            "took_seconds": 0.5,
            "files": 4,
            "photos": 3,
            "models": [{"name": "m", "vectors": 3}],
            "failures": 1,
            "deep": True,
            "sampled": 2,
            "pending": 0,
            "differences": [
                {
                    "kind": "ghost_path",
                    "count": 1,
                    "what": "files recorded that are not on the disk",
                    "examples": ["/in/latin-\udce9.jpg"],
                }
            ],
            "at_least": False,
            "repaired": False,
            "mended": 0,
        },
    )
    assert verify(path, b'{"repair": true}')[1]["repaired"] is True


@pytest.mark.parametrize("body", [b"", b"[]", b'{"deep": 1}', b'{"deep": null}', b'{"repair": "yes"}', b"{"])
def test_a_verification_that_cannot_be_understood_is_refused(path: Path, body: bytes) -> None:
    status, answer = verify(path, body)
    assert (status, answer["error"]["code"]) == (400, "bad_request")


def test_a_second_verification_is_told_to_wait(path: Path) -> None:
    status, answer = verify(path, b'{"deep": true, "repair": true}')
    assert (status, answer["error"]["code"]) == (409, "busy")


PATH_ROUTES = [
    ("POST", "/v1/sync", "path"),
    ("POST", "/v1/failures/retry", "path"),
    ("GET", "/v1/failures", "path"),
    ("GET", "/v1/skipped", "path"),
    ("GET", "/v1/deletions", "folder"),
    ("POST", "/v1/deletions/approve", "folder"),
    ("POST", "/v1/deletions/reject", "folder"),
]


@pytest.mark.parametrize("name", ["/in//a.jpg", "/in/./a.jpg", "/in/../etc", "/in/..", "//in", "/in/", "in/a.jpg", "."])
def test_a_path_in_any_other_form_is_a_bad_request(path: Path, name: str) -> None:
    for method, route, key in PATH_ROUTES:
        body = json.dumps({key: name}).encode() if method == "POST" else b""
        target = route if method == "POST" else f"{route}?{key}={name}"
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        status, answer = ask(path, head.encode() + body)
        assert (status, answer["error"]["code"]) == (400, "bad_request"), route
        assert answer["error"]["message"].startswith("a path must be")
