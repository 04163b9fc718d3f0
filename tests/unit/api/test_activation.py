"""The socket that a service manager hands over, in a process that is started with one."""

from __future__ import annotations

import subprocess
import sys

import pytest

STARTED = """
import os, socket, sys
listening = {socket}
listening.listen()
os.dup2(listening.fileno(), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid() + {shift}), LISTEN_FDS={count!r}, LISTEN_FDNAMES="api")
from daemon.api.activation import inherited
found = inherited()
print(found and found.fileno(), found and os.get_inheritable(3), [name for name in os.environ if name.startswith("LISTEN")])
print(inherited())
"""
UNIX = "socket.socket(socket.AF_UNIX); listening.bind('\\0lookalike-activation-%d' % os.getpid())"
TCP = "socket.socket(); listening.bind(('127.0.0.1', 0))"


def started(listening: str = UNIX, *, shift: int = 0, count: str = "1") -> subprocess.CompletedProcess[str]:
    code = STARTED.format(socket=listening, shift=shift, count=count)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_a_socket_is_taken_once_and_its_variables_go_no_further() -> None:
    assert started().stdout.splitlines() == ["3 False []", "None"]


@pytest.mark.parametrize(("shift", "count"), [(1, "1"), (0, "0"), (0, ""), (0, "one")])
def test_a_socket_that_is_meant_for_nobody_here_is_left(shift: int, count: str) -> None:
    assert started(shift=shift, count=count).stdout.splitlines() == ["None None []", "None"]


@pytest.mark.parametrize(
    ("listening", "count", "said"), [(TCP, "1", "has to be a path"), (UNIX, "2", "it has 2 sockets")]
)
def test_a_socket_unit_that_cannot_work_is_a_bad_configuration(listening: str, count: str, said: str) -> None:
    done = started(listening, count=count)
    assert "ConfigError: lookaliked.socket cannot be used" in done.stderr
    assert said in done.stderr
