"""What a service manager is told: real datagrams on real sockets."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from typing import TYPE_CHECKING

import pytest

from daemon.sdnotify import notify

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.settimeout(30)
        yield server


@pytest.fixture
def directory() -> Iterator[str]:
    # pytest's own directories can be too long for a socket.
    directory = tempfile.mkdtemp(prefix="notify-")
    yield directory
    shutil.rmtree(directory)


def test_states_arrive_as_one_datagram(server: socket.socket, directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server.bind(f"{directory}/notify")
    monkeypatch.setenv("NOTIFY_SOCKET", f"{directory}/notify")
    notify("READY=1", "STATUS=up to date ✓")
    notify("STOPPING=1")
    assert server.recv(1000) == "READY=1\nSTATUS=up to date ✓".encode()
    assert server.recv(1000) == b"STOPPING=1"


def test_an_abstract_socket_is_reached(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"lookalike-test-{os.getpid()}"
    server.bind("\0" + name)
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
    notify("READY=1")
    assert server.recv(1000) == b"READY=1"


@pytest.mark.parametrize("address", ["/nowhere/notify", "@nobody-listens-here", "/" + "x" * 200])
def test_a_manager_that_went_away_is_no_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    before = len(os.listdir("/proc/self/fd"))
    notify("READY=1")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("address", [None, ""])
def test_without_a_manager_nothing_is_opened(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)

    def refuse(*_: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    notify("READY=1")
