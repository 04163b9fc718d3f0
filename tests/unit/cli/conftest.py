"""A daemon's double: a real HTTP server on a Unix socket that speaks schema 1 and remembers what it was asked."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.transfer.frames import DONE, HEAD, MAGIC, PHOTOS, FrameWriter
from tests.unit.cli.forking import Forking

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Request:
    """What arrived; `connection` tells connections apart."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeDaemon:
    """Answers in turn what `answers` holds: (HTTP status, JSON value or bytes)."""

    socket: Path
    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    # Answer after so many bytes of a body, and hang up, or read on without an end.
    body_limit: int | None = None
    reads_on: bool = False

    def will_answer(self, value: Any, status: int = 200) -> None:
        self.answers.append((status, value))

    def will_refuse(self, code: str, message: str, status: int = 404) -> None:
        self.will_answer({"schema": 1, "error": {"code": code, "message": message}}, status)

    def will_find(self, *found: tuple[float, list[str]]) -> None:
        self.will_answer(search_answer(*found))


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        super().__init__(str(daemon.socket), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        limit = self.server.daemon.body_limit
        if limit is None:
            self._answer(self._body())
        else:
            self._answer(self.rfile.read(limit))
            self.close_connection = True
            while self.server.daemon.reads_on and self.rfile.read1():
                pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _chunk(self) -> bytes:
        chunk = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return chunk

    def _answer(self, body: bytes) -> None:
        daemon = self.server.daemon
        daemon.requests.append(Request(id(self), self.command, self.path, dict(self.headers), body))
        status, value = daemon.answers.pop(0)
        raw = value if isinstance(value, bytes) else json.dumps(value).encode("ascii")
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if raw:
            self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture
def socket_directory() -> Iterator[Path]:
    # tmp_path can be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="lookalike-") as directory:
        yield Path(directory)


@pytest.fixture
def daemon(socket_directory: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(socket_directory / "lookalike.sock")
    with _Server(fake) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="fake daemon")
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Lookalike:
    """Runs the command as a process of its own."""

    socket: Path
    directory: Path
    forking: Forking

    def environment(self, **variables: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
        python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return inherited | {"LOOKALIKE_SOCKET": str(self.socket), "PYTHONPATH": python_path} | variables

    def __call__(
        self, *arguments: str | bytes, stdin: bytes = b"", **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        if not variables:
            return self.forking.run([*map(os.fsdecode, arguments)], self.directory, self.environment(), stdin)
        # An interpreter may read them as it starts.
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "cli.main", *arguments],
            input=stdin,
            capture_output=True,
            cwd=self.directory,
            env=self.environment(**variables),
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="session")
def forking() -> Iterator[Forking]:
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    forking = Forking(os.environ | {"PYTHONPATH": python_path})
    yield forking
    forking.close()


@pytest.fixture
def lookalike(socket_directory: Path, tmp_path: Path, forking: Forking) -> Lookalike:
    return Lookalike(socket_directory / "lookalike.sock", tmp_path, forking)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8 the bytes of a photo")
    return path


def search_answer(*found: tuple[float, list[str]]) -> dict[str, Any]:
    return {
        "schema": 1,
        "model": "efficientnet-lite0",
        "metric": "cosine",
        "query": {"by": "bytes", "id": None},
        "took_ms": 12.1,
        "results": [
            {
                "score": score,
                "id": str(index),
                "paths": paths,
                "width": 4000,
                "height": 3000,
                "format": "JPEG",
                "taken_at": "",
                "bytes": 123456,
            }
            for index, (score, paths) in enumerate(found)
        ],
    }


def failure(path: str, reason: str = "It is cut short.") -> dict[str, Any]:
    return {"path": path, "reason": reason, "attempts": 3, "since": "2026-01-01T00:00:00+00:00"}


def deletions(folder: str, **differing: Any) -> dict[str, Any]:
    """Return what is held for `folder`: 12 of 640 files, but for what differs."""
    held = {
        "folder": folder,
        "state": "held",
        "reason": "12 of 640 files are gone at once.",
        "since": "2026-01-01T00:00:00+00:00",
        "files": 12,
        "recorded": 640,
        "paths": [f"{folder}/{number}.jpg" for number in range(12)],
    }
    return held | differing


@pytest.fixture
def verify_answer() -> dict[str, Any]:
    return {
        "schema": 1,
        "took_seconds": 12.3,
        "files": 640,
        "photos": 630,
        "models": [{"name": "efficientnet-lite0", "vectors": 630}],
        "failures": 0,
        "deep": False,
        "sampled": 0,
        "differences": [],
        "at_least": False,
        "repaired": False,
        "mended": 0,
    }


@pytest.fixture
def sync_answer() -> dict[str, Any]:
    return {
        "schema": 1,
        "complete": True,
        "took_seconds": 0.4,
        "files": 1234,
        "pending": 0,
        "reasons": [],
        "held": [],
        "failed": [],
        "failures": 0,
    }


@pytest.fixture
def status_answer() -> dict[str, Any]:
    return {
        "schema": 1,
        "version": "0.1.0",
        "state": "up to date",
        "reasons": [],
        "uptime_seconds": 12.3,
        "library": "default",
        "data_dir": "/home/anna/.local/share/lookalike",
        "folders": [
            {"path": "/home/anna/Pictures", "watch": "events", "state": "watching", "files": 640, "note": ""},
        ],
        "photos": 630,
        "files": 640,
        "pending": 0,
        "oldest_pending_seconds": 0.0,
        "lag_seconds": 0.21,
        "failures": 0,
        "held_deletions": 0,
        "encoded": 630,
        "last_reconcile": {
            "finished_at": "2026-01-01T00:00:00+00:00",
            "seconds": 0.2,
            "files": 640,
            "added": 0,
            "changed": 0,
            "removed": 0,
        },
        "models": [
            {
                "name": "efficientnet-lite0",
                "dim": 1280,
                "metric": "cosine",
                "collection": "default_efficientnet_lite0_0123",
                "photos": 630,
                "provider": "CPUExecutionProvider",
            }
        ],
        "stores": [
            {"name": "Redis", "url": "unix:///run/redis.sock", "embedded": True, "state": "ok", "reason": ""},
            {"name": "Milvus", "url": "unix:/run/milvus.sock", "embedded": True, "state": "ok", "reason": ""},
        ],
    }


TOTALS = {"photos": 2, "files": 3, "failures": 1, "vectors": {"one-1": 2, "two-1": 1}}
IMPORTED = {
    "schema": 1,
    "photos": 2,
    "bound": 1,
    "kept": 0,
    "known": 0,
    "left": 0,
    "vectors": {"one": 2},
    "notes": [],
}
RELOCATED = {
    "schema": 1,
    "files": 12,
    "moved": 12,
    "kept": 0,
    "changed": 0,
    "missing": 0,
    "failures": 0,
    "dry_run": False,
}


def exported(*frames: tuple[bytes, object]) -> bytes:
    writer = FrameWriter()
    return MAGIC + b"".join(writer.frame(kind, json.dumps(value).encode()) for kind, value in frames)


EXPORT = exported((HEAD, {"photos": 2}), (PHOTOS, [{"digest": "a"}, {"digest": "b"}]), (DONE, TOTALS))
