"""Queries by files that never answer, and by names that no file can have."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import FakeDaemon, Lookalike

SECONDS = 1.0
SAID = b"cannot be read: nothing has come from it for 1 seconds\n"


@pytest.fixture
def silent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A path of something that can be opened, or not even that, and says nothing."""
    path = tmp_path / "silent.jpg"
    kept = []
    if request.param == "terminal":
        kept = list(pty.openpty())
        path.symlink_to(os.ttyname(kept[1]))
    else:
        os.mkfifo(path)
        if request.param == "pipe with a silent writer":
            # A reader as well, so that opening it does not wait.
            kept = [os.open(path, os.O_RDWR)]
    yield str(path)
    for descriptor in kept:
        os.close(descriptor)


@pytest.mark.parametrize("silent", ["pipe without a writer", "pipe with a silent writer", "terminal"], indirect=True)
@pytest.mark.parametrize("command", ["search", "compare", "search with a text", "search by standard input"])
def test_a_query_ends_after_the_timeout_when_its_file_says_nothing(
    lookalike: Lookalike, daemon: FakeDaemon, silent: str, command: str
) -> None:
    words = {
        "search": ["search", silent],
        "compare": ["compare", silent],
        "search with a text": ["search", "boat", "+", silent],
        "search by standard input": ["search", "-"],
    }[command]
    began = time.monotonic()
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE) as writer:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words, "--timeout", str(SECONDS)],
            env=lookalike.environment(),
            stdin=writer.stdout,
            capture_output=True,
            timeout=60,
            check=False,
        )
        writer.kill()
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.endswith(SAID)
    assert len(done.stderr.splitlines()) == 1
    assert SECONDS <= time.monotonic() - began < 30


def test_a_file_that_comes_slowly_is_waited_for(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_find((0.9, ["/a.jpg"]))
    with subprocess.Popen(
        ["sh", "-c", "for i in 1 2 3 4; do printf aaaa; sleep 0.5; done"], stdout=subprocess.PIPE
    ) as writer:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "search", "-", "--timeout", "1.5"],
            env=lookalike.environment(),
            stdin=writer.stdout,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert daemon.requests[0].body == b"aaaa" * 4


def test_a_socket_is_no_photo(lookalike: Lookalike, daemon: FakeDaemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(lookalike.socket) + ".jpg")
        done = lookalike("search", str(lookalike.socket) + ".jpg")
    assert (done.returncode, b"cannot be read" in done.stderr) == (1, True)


@pytest.mark.parametrize("command", [["search"], ["search", "a boat", "+"], ["compare"], ["import"]], ids=" ".join)
@pytest.mark.parametrize("name", ["n" * 300 + ".jpg", "/".join(["d" * 200] * 30) + "/a.jpg"], ids=["name", "path"])
def test_a_path_that_is_too_long_is_told_as_that(
    lookalike: Lookalike, daemon: FakeDaemon, command: list[str], name: str
) -> None:
    done = lookalike(*command, name)
    assert done.returncode == 1
    assert b"too long" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_long_text_is_a_text(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_find((0.9, ["/a.jpg"]))
    assert lookalike("search", "a boat " * 100).returncode == 0
