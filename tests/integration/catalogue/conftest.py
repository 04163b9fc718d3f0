"""A real HTTP server for files, which can be told to behave as servers on a bad day do."""

from __future__ import annotations

import socketserver
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class FileServer:
    """Serves `files` by path, in parts too where `ranges` says so; `requests` are what it was asked, with headers."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"1"'
    last_modified: str | None = None
    ranges: bool = True
    announce: bool = True
    # Hang up after so many bytes of each answer in turn.
    cuts: list[int] = field(default_factory=list)
    # Answer with these instead, each once.
    statuses: list[int] = field(default_factory=list)
    # Headers by path, of HEAD requests, and where a path redirects to.
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    # Set when an answer may go on after its first half.
    gate: threading.Event | None = None
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}{path}"

    def asked(self, header: str) -> list[str | None]:
        """Return a header of each GET request in turn."""
        return [headers.get(header) for method, _, headers in self.requests if method == "GET"]


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True

    def __init__(self, behaviour: FileServer) -> None:
        self.behaviour = behaviour
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hangs up: some tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        behaviour = self.server.behaviour
        path = self.path.partition("?")[0]
        behaviour.requests.append((self.command, self.path, dict(self.headers)))
        if with_body and behaviour.statuses:
            self._empty(behaviour.statuses.pop(0))
        elif path in behaviour.redirects:
            self._empty(302, {"Location": behaviour.redirects[path], **behaviour.headers.get(path, {})})
        elif path not in behaviour.files:
            self._empty(404, behaviour.headers.get(path, {}))
        else:
            self._file(path, behaviour, with_body=with_body)

    def end_headers(self) -> None:
        # A client that keeps its connection would keep the server from ending.
        self.send_header("Connection", "close")
        super().end_headers()

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path: str, behaviour: FileServer, *, with_body: bool) -> None:
        content, start = behaviour.files[path], self._start(behaviour)
        if start and start >= len(content):
            self._empty(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        headers = {"ETag": behaviour.etag, "Last-Modified": behaviour.last_modified} | behaviour.headers.get(path, {})
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self._send(content[start:], behaviour, with_body=with_body)

    def _start(self, behaviour: FileServer) -> int:
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if not behaviour.ranges or not wanted or condition not in (behaviour.etag, behaviour.last_modified):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _send(self, content: bytes, behaviour: FileServer, *, with_body: bool) -> None:
        if behaviour.announce:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not with_body:
            return
        if behaviour.cuts:
            content = content[: behaviour.cuts.pop(0)]
        if behaviour.gate is not None:
            half = len(content) // 2
            self.wfile.write(content[:half])
            behaviour.gate.wait(60)
            content = content[half:]
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    behaviour = FileServer()
    with _Server(behaviour) as server:
        behaviour.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="file server")
        thread.start()
        try:
            yield behaviour
        finally:
            if behaviour.gate is not None:
                behaviour.gate.set()
            server.shutdown()
            thread.join()
