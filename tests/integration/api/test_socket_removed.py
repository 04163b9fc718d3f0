"""Whoever removes the daemon's socket, or puts something else in its place, keeps nobody from asking for longer than seconds."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import socket
import stat
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from daemon.api import app
from daemon.api.listening import PassedListener, UnixListener
from daemon.api.schema import HealthAnswer
from daemon.api.server import Server
from tests.integration.api.conftest import Client, Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from daemon.api.listening import Listener

WITHIN_SECONDS = 5.0


@contextmanager
def served(listener: Listener, **options: Any) -> Iterator[Server]:
    status: Any = SimpleNamespace(health=lambda: HealthAnswer(status="ok", reasons=[]))
    server = Server(app.build(status, status, status, status, max_bytes=1000, default_limit=1), listener, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def answers(path: Path) -> bool:
    try:
        return Client(path)("GET", "/v1/health")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def soon(server: Server, condition: Callable[[], bool]) -> bool:
    """Return whether the condition comes true while the server is looked after, as the daemon does it."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline:
        server.check()
        if condition():
            return True
        time.sleep(0.05)
    return False


def unlink(path: Path) -> None:
    path.unlink()


def remove_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


def rename_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def put_file(path: Path) -> None:
    path.unlink()
    path.write_text("mine")


def put_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "mine").touch()


def put_dead_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def put_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nothing"))


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "run" / "s"


@pytest.mark.parametrize(
    "take_away",
    [unlink, remove_directory, rename_directory, put_file, put_directory, put_dead_socket, put_dangling_link],
)
def test_whoever_takes_the_socket_away_the_daemon_listens_again(
    path: Path, take_away: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with served(UnixListener(path)) as server:
        for time_ in range(2):
            assert answers(path)
            take_away(path)
            assert not answers(path)
            assert soon(server, lambda: answers(path)), f"time {time_ + 1}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            shutil.rmtree(path.parent.with_name("elsewhere"), ignore_errors=True)
    assert not path.exists()
    assert caplog.text.count("was removed or replaced; lookaliked listens on it again") == 2


@pytest.mark.parametrize("put", [put_file, put_directory])
def test_what_took_the_place_of_the_socket_is_put_aside_and_not_deleted(
    path: Path, put: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with served(UnixListener(path)) as server:
        put(path)
        assert soon(server, lambda: answers(path))
        (aside,) = path.parent.glob("s.aside-*")
        assert aside.read_text() == "mine" if aside.is_file() else (aside / "mine").exists()
    assert f"is now {aside}" in caplog.text


def test_connections_in_progress_go_on(path: Path) -> None:
    with served(UnixListener(path)) as server, socket.socket(socket.AF_UNIX) as busy:
        kept = Connection(path)
        kept.request("GET", "/v1/health")
        assert kept.getresponse().read()
        busy.connect(str(path))
        busy.settimeout(WITHIN_SECONDS)
        busy.sendall(b"GET /v1/health HTTP/1.1\r\nHo")
        path.unlink()
        assert soon(server, lambda: answers(path))
        busy.sendall(b"st: a\r\n\r\n")
        assert busy.recv(15) == b"HTTP/1.1 200 OK"
        kept.request("GET", "/v1/health")
        assert kept.getresponse().status == 200
        kept.close()


def test_nothing_is_left_of_the_sockets_before(path: Path) -> None:
    with served(UnixListener(path)) as server:
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        for _ in range(5):
            path.unlink()
            assert soon(server, path.exists)
        assert answers(path)
        assert soon(server, lambda: len(os.listdir("/proc/self/fd")) <= before[0])
        # Requests are answered by threads that stay for the next one.
        assert threading.active_count() <= before[1] + 1


def test_connections_of_the_socket_before_count(path: Path) -> None:
    with served(UnixListener(path), max_connections=2) as server:
        first, second = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        first.connect(str(path))
        first.settimeout(10)
        assert answers(path)
        path.unlink()
        assert soon(server, path.exists)
        second.connect(str(path))
        # The third connection takes the place of the one that has waited longest.
        assert soon(server, lambda: answers(path))
        assert first.recv(1) == b""
        first.close()
        second.close()


def test_another_daemon_s_socket_is_left_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(UnixListener(path)) as server:
        path.unlink()
        with served(UnixListener(path)):
            theirs = path.stat().st_ino
            assert soon(server, lambda: "another daemon answers on this socket" in caplog.text)
            assert path.stat().st_ino == theirs
        assert soon(server, lambda: answers(path))
    with served(UnixListener(path)) as server:
        path.unlink()
        with served(UnixListener(path)):
            server.stop()
            assert answers(path), "it does not remove what is not its own"


def test_a_directory_that_cannot_be_made_is_waited_for(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(UnixListener(path)) as server:
        shutil.rmtree(path.parent)
        path.parent.write_text("in the way")
        assert soon(server, lambda: "lookaliked cannot listen for commands and keeps trying" in caplog.text)
        path.parent.unlink()
        assert soon(server, lambda: answers(path))


def test_a_socket_that_systemd_passed_is_systemd_s_to_make_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    passed = socket.socket(socket.AF_UNIX)
    passed.bind(str(path))
    passed.listen()
    with served(PassedListener(passed)) as server:
        server.check()
        assert caplog.text == ""
        path.unlink()
        assert soon(server, lambda: "systemctl --user restart lookaliked.socket" in caplog.text)
        server._look_at = 0.0
        server.check()
        assert not path.exists()
        assert caplog.text.count("systemd has to make it again") == 1


def test_an_abstract_socket_has_no_file_that_could_be_removed(caplog: pytest.LogCaptureFixture) -> None:
    passed = socket.socket(socket.AF_UNIX)
    passed.bind(f"\0lookalike-test-{os.getpid()}")
    listener = PassedListener(passed)
    assert listener.reopen() is None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    passed.close()
