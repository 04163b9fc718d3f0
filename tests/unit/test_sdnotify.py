"""What a service manager is told: real datagrams on real sockets."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from daemon import sdnotify
from daemon.sdnotify import LONGEST_STATUS, ServiceManager, notify, watchdog_seconds

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


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager(server: socket.socket, directory: str, clock: Clock) -> ServiceManager:
    server.bind(f"{directory}/notify")
    environment = {
        "NOTIFY_SOCKET": f"{directory}/notify",
        "WATCHDOG_USEC": "10000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    return ServiceManager(environment, clock)


def told(server: socket.socket) -> list[str]:
    """Return every datagram that has arrived."""
    server.setblocking(False)
    datagrams = []
    while True:
        try:
            datagrams.append(server.recv(10_000).decode())
        except BlockingIOError:
            return datagrams


def test_the_watchdog_is_fed_at_half_its_time(server: socket.socket, manager: ServiceManager, clock: Clock) -> None:
    for _ in range(100):
        manager.alive()
        clock.now += 0.2
    # At 0, 5, 10 and 15 of 20 seconds.
    assert told(server) == ["WATCHDOG=1"] * 4


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_only_the_process_that_is_watched_feeds_the_watchdog(environment: dict[str, str], seconds: float) -> None:
    assert watchdog_seconds(environment) == seconds


def test_without_a_watchdog_nothing_is_fed(server: socket.socket, directory: str) -> None:
    server.bind(f"{directory}/notify")
    ServiceManager({"NOTIFY_SOCKET": f"{directory}/notify"}).alive()
    assert told(server) == []


def test_running_numbers_are_told_once_a_second(server: socket.socket, manager: ServiceManager, clock: Clock) -> None:
    for done in range(100):
        manager.status(f"indexing: {done} of 100")
        clock.now += 1 / 64
    assert told(server) == ["STATUS=indexing: 0 of 100", "STATUS=indexing: 64 of 100"]


def test_what_has_not_changed_is_not_told_again(server: socket.socket, manager: ServiceManager, clock: Clock) -> None:
    for _ in range(3):
        manager.status("up to date")
        clock.now += 60
    assert told(server) == ["STATUS=up to date"]


def test_a_status_is_one_line_of_bounded_length(server: socket.socket, manager: ServiceManager) -> None:
    manager.status("degraded: first\nREADY=1\udcff" + "x" * 1000)
    (datagram,) = told(server)
    assert datagram.startswith("STATUS=degraded: first READY=1\\xffx")
    assert len(datagram) < LONGEST_STATUS + 20


def test_a_reload_says_when_it_began(server: socket.socket, manager: ServiceManager) -> None:
    before = time.monotonic_ns() // 1000
    manager.reloading()
    manager.ready()
    manager.stopping()
    reloading, *others = told(server)
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert before <= int(reloading.rpartition("=")[2]) <= time.monotonic_ns() // 1000
    assert others == ["READY=1", "STOPPING=1"]


def test_a_manager_that_does_not_read_is_not_waited_for_without_end(
    server: socket.socket, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdnotify, "SEND_SECONDS", 0.001)
    for _ in range(1000):
        manager.ready()
    assert 0 < len(told(server)) < 1000
