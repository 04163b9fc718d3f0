"""The HTTP interface of an installed daemon, held to its own OpenAPI document: its routes, and hundreds of requests that mean no good."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import warnings
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from starlette.routing import Route

from daemon.api import app, openapi
from daemon.api.reload import Reloads
from daemon.api.transfers import Transfers

with warnings.catch_warnings():
    # On its way in.
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.end_to_end.conftest import Lookalike, Photos

TOKEN = "a-token-of-many-characters"
EXAMPLES = 25
MIB = 2**20
GROWN = 96 * MIB
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


def test_every_route_is_described_and_nothing_else_is() -> None:
    nothing: Any = None
    transfers = Transfers(nothing, nothing, nothing, nothing, nothing)
    application = app.build(
        nothing,
        nothing,
        nothing,
        nothing,
        max_bytes=1,
        default_limit=1,
        more=[*transfers.routes(), *Reloads(nothing).routes()],
    )
    routes = {
        (method.lower(), route.path)
        for route in application.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert routes == {(one.method, one.path) for one in openapi.OPERATIONS}


class Interface:
    """A daemon that answers over TCP, and its document as it serves it."""

    def __init__(self, port: int, process: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.headers = {"Authorization": f"Bearer {TOKEN}"}
        self.process = psutil.Process(process)

    def get(self, path: str) -> Any:
        with urlopen(Request(self.base + path, headers=self.headers), timeout=30) as answer:  # noqa: S310 - it is http
            return json.loads(answer.read())

    def status(self, method: str, target: str, body: Any = None) -> int:
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers | {"Content-Type": "application/json"}
        request = Request(self.base + target, data=data, headers=headers, method=method)  # noqa: S310 - it is http
        try:
            with urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
                return int(answer.status)
        except HTTPError as error:
            with error:
                return error.code

    def memory_bytes(self) -> int:
        return sum(int(one.memory_info().rss) for one in [self.process, *self.process.children(recursive=True)])


@pytest.fixture(scope="module")
def interface(shared_lookalike: Lookalike, photos: Photos) -> Iterator[Interface]:
    one = shared_lookalike
    photos.fill(one.folder, 6)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    file = one.root / "lookalike.yaml"
    file.write_text(
        f"folders: ['{one.folder}']\nmodels: [efficientnet-lite0]\n"
        f"api: {{listen: '127.0.0.1:{port}', admin_token: {TOKEN}}}\nmilvus: {{timeout_seconds: 30}}\n",
        encoding="utf-8",
    )
    one.start("--config", file)
    assert one.command("sync").returncode == 0
    assert one.process is not None
    yield Interface(port, one.process.pid)
    one.stop()
    assert "a request failed" not in one.said()
    assert "Traceback" not in one.said()


ASKED = [
    (one.method.upper(), one.path, mode)
    for one in openapi.OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    # Where nothing is said, nothing can be said wrongly.
    if mode is GenerationMode.POSITIVE or one.body or one.query
]


@pytest.mark.parametrize(("method", "path", "mode"), ASKED)
@pytest.mark.filterwarnings("ignore")
def test_whatever_is_asked_is_answered_as_described(
    interface: Interface, method: str, path: str, mode: GenerationMode
) -> None:
    document = interface.get("/v1/openapi.json")
    operation = schemathesis.openapi.from_dict(document)[path][method]
    before = interface.memory_bytes()

    @seed(5)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if path == "/v1/sync":
            # As long as it is told, it waits.
            case.query = {**(case.query or {}), "timeout": "0.1"}
        response = case.call(base_url=interface.base, headers=interface.headers, timeout=20)
        case.validate_response(response, checks=CHECKS)

    ask()
    assert interface.get("/v1/status")["files"] == 6
    assert interface.memory_bytes() - before < GROWN


IN_OPEN, IN_ACCESS = 0x20, 0x1
"""inotify(7)."""


@contextlib.contextmanager
def noticing(path: Path) -> Iterator[Callable[[], bool]]:
    """Yield what says whether the file has been opened or read by anybody, by the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as events:
        assert libc.inotify_add_watch(events.fileno(), os.fsencode(path), IN_OPEN | IN_ACCESS) > 0
        yield lambda: bool(events.read(4096))


def test_no_request_makes_the_daemon_open_a_file_that_it_names(
    interface: Interface, photos: Photos, tmp_path: Path
) -> None:
    secret = photos.write(tmp_path / "secret.jpg", 77)
    link = tmp_path / "link.jpg"
    link.symlink_to(secret)
    with noticing(secret) as opened:
        for path in (secret, link, tmp_path / "here" / ".." / "secret.jpg"):
            named = {"path": str(path)}
            for target, body in (
                ("/v1/search", named),
                ("/v1/search", {"terms": [named]}),
                ("/v1/sync?timeout=1", named),
                ("/v1/failures/retry", named),
                ("/v1/deletions/approve", {"folder": str(path)}),
                ("/v1/relocate", {"from": str(path), "to": str(path)}),
                ("/v1/relocate", {"from": str(tmp_path), "to": str(tmp_path / "other")}),
            ):
                assert interface.status("POST", target, body) < 500, (target, body)
            assert interface.status("GET", f"/v1/failures?path={path}") < 500
        assert not opened()
        assert secret.read_bytes()
        assert opened(), "it would have been noticed"
