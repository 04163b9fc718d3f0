"""Export, import and relocation over HTTP: what they do to a client, and a client to them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.api import app
from daemon.api.listening import UnixListener
from daemon.api.server import Server
from daemon.api.transfers import Transfers
from daemon.lifecycle import Turns
from daemon.transfer import exporter
from daemon.transfer.exporter import Exporter
from daemon.transfer.forgetting import Forgetting
from daemon.transfer.importer import Importer
from daemon.transfer.relocation import Relocation
from tests.integration.transfer.conftest import FILTERS, Library

if TYPE_CHECKING:
    from collections.abc import Iterator


class Unasked:
    """Stands where no test of this module asks for anything."""


class Served:
    """The routes before a library, on a socket."""

    def __init__(self, library: Library, path: Path) -> None:
        self.turns = Turns()
        self._path = path
        routes = Transfers(
            Exporter(library.index, "test"),
            Importer(library.index, library.watcher, FILTERS, library.indexer),
            Relocation(library.index, library.watcher, library.indexer),
            Forgetting(library.index, library.watcher),
            self.turns,
        ).routes()
        others: Any = Unasked()
        application = app.build(others, others, others, others, max_bytes=1000, default_limit=10, more=routes)
        self.server = Server(application, UnixListener(path))

    def connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(os.fspath(self._path))
        return connection

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, bytes]:
        connection = self.connection()
        try:
            connection.request(method, target, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def refused(self, method: str, target: str, body: Any = None) -> tuple[int, str]:
        status, raw = self.ask(method, target, body)
        return status, json.loads(raw)["error"]["code"]


@pytest.fixture
def served(standing: Library) -> Iterator[Served]:
    directory = Path(tempfile.mkdtemp(prefix="http-"))
    one = Served(standing, directory / "s")
    one.server.start()
    yield one
    one.server.stop()
    shutil.rmtree(directory)


def test_an_export_comes_in_pieces_and_is_as_long_as_it_is(served: Served, standing: Library) -> None:
    status, body = served.ask("GET", "/v1/export")
    assert status == 200
    # But for the time at which it was made, and the digests behind it.
    assert len(body) == len(standing.export())
    status, raw = served.ask("POST", "/v1/import", body)
    assert status == 200, "a body may be longer than a query"
    assert json.loads(raw) == {
        "schema": 1,
        "photos": 12,
        "bound": 0,
        "kept": 0,
        "known": 14,
        "left": 0,
        "vectors": {},
        "notes": [],
    }


def test_a_client_that_leaves_in_the_middle_does_no_harm(
    served: Served, standing: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporter, "PAGE", 1)
    data = standing.export()
    connection = served.connection()
    connection.request("GET", "/v1/export")
    connection.getresponse().read(100)
    connection.close()
    connection = served.connection()
    connection.putrequest("POST", "/v1/import")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[: len(data) // 2])
    connection.close()

    def is_free() -> bool:
        return served.ask("POST", "/v1/import", data)[0] == 200

    standing.kit.eventually(is_free)
    assert caplog.records == []


def test_who_sends_nothing_is_not_waited_for_when_the_daemon_stops(served: Served, standing: Library) -> None:
    data = standing.export()
    connection = served.connection()
    connection.putrequest("POST", "/v1/import")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[:2000])
    standing.kit.eventually(
        lambda: served.refused("POST", "/v1/relocate", b'{"from": "/a", "to": "/b"}') == (409, "busy")
    )
    stopping = threading.Thread(target=served.server.stop)
    stopping.start()
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    stopping.join(30)
    assert (response.status, answer["error"]["code"]) == (503, "unavailable")
    assert "lookaliked is stopping" in answer["error"]["message"]


def test_what_goes_through_all_of_the_index_takes_turns(served: Served, standing: Library) -> None:
    with served.turns.take("a verification"):
        assert served.refused("POST", "/v1/import", standing.export()) == (409, "busy")
        assert served.refused("POST", "/v1/relocate", b'{"from": "/a", "to": "/b"}') == (409, "busy")
        assert served.ask("GET", "/v1/export")[0] == 200


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/import?from=/a", b""),
        ("/v1/import?from=a&to=/b", b""),
        ("/v1/import?from=/a&to=", b""),
        ("/v1/import?from=/a%00&to=/b", b""),
        ("/v1/relocate", b""),
        ("/v1/relocate", b'{"from": "/a"}'),
        ("/v1/relocate", b'{"from": "a", "to": "b"}'),
        ("/v1/relocate", b'{"from": "/a", "to": "/b", "dry_run": 1}'),
        ("/v1/relocate", b'{"from": "/a\\u0000", "to": "/b"}'),
    ],
)
def test_what_cannot_be_understood_is_a_bad_request(served: Served, target: str, body: bytes) -> None:
    assert served.refused("POST", target, body) == (400, "bad_request")


def test_what_is_no_export_is_said_and_a_request_that_is_too_long_as_well(served: Served) -> None:
    assert served.refused("POST", "/v1/import", b"a photo, perhaps") == (422, "not_an_export")
    assert served.refused("POST", "/v1/import", b"") == (422, "not_an_export")
    assert served.refused("POST", "/v1/relocate", b" " * 100_000) == (413, "too_large")
    assert served.refused("GET", "/v1/import") == (405, "method_not_allowed")


@pytest.mark.parametrize("name", ["/in//a", "/in/./a", "/in/../etc", "//in", "/in/", "in"])
def test_a_path_in_any_other_form_is_a_bad_request(served: Served, name: str) -> None:
    for route, asked in [
        ("/v1/relocate", {"from": name, "to": "/there", "dry_run": True}),
        ("/v1/relocate", {"from": "/here", "to": name, "dry_run": True}),
        ("/v1/forget", {"path": name, "dry_run": True}),
    ]:
        assert served.refused("POST", route, json.dumps(asked)) == (400, "bad_request")
    for moved in (f"from={name}&to=/there", f"from=/here&to={name}", "from=&to=/there"):
        assert served.refused("POST", f"/v1/import?{moved}", b"") == (400, "bad_request")
