"""Somebody cleans up behind a daemon that runs: its sockets, its runtime directory, its data. It mends that itself, and says so once."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Wait = Callable[..., Any]


@pytest.fixture
def indexed(lookalike: Any, photos: Any) -> Any:
    photos.fill(lookalike.folder, 3)
    lookalike.start()
    lookalike.up_to_date()
    return lookalike


def answers(lookalike: Any) -> bool:
    return bool(lookalike.command("status").returncode == 0)


def assert_no_line_repeats(lookalike: Any) -> None:
    """Assert that no line of the log is there twice, whenever it was written, but with a count."""
    lines = [re.sub(r"^[\d-]+ [\d:]+ ", "", line) for line in lookalike.said().splitlines()]
    twice = {line for line, number in Counter(lines).items() if number > 1 and "more in the last" not in line}
    assert twice == set()


def test_a_removed_socket_is_there_again_within_seconds_twice(indexed: Any, wait_for: Wait) -> None:
    for _ in range(2):
        indexed.socket.unlink()
        refused = indexed.command("status")
        if refused.returncode:
            told = f"{indexed.data_dir} is locked by process {indexed.process.pid} (lookaliked run {indexed.folder}"
            assert told in refused.stderr.decode()
        wait_for(lambda: answers(indexed), "the daemon answers again")
    assert indexed.status()["state"] == "up to date"
    assert indexed.stop() == 0
    assert not indexed.socket.exists()


def test_an_emptied_runtime_directory_and_a_store_that_ends_are_survived(
    indexed: Any, photos: Any, wait_for: Wait
) -> None:
    shutil.rmtree(indexed.root / "run")
    (indexed.root / "run").mkdir()
    psutil.Process(int((indexed.data_dir / "valkey.pid").read_text().split()[0])).kill()
    wait_for(lambda: answers(indexed), "the daemon answers again")
    photos.write(indexed.folder / "new.jpg", 77)
    wait_for(lambda: indexed.status()["files"] == 4 and indexed.status()["state"] == "up to date", "all is indexed")
    indexed.assert_equals_disk()
    assert_no_line_repeats(indexed)


def whole(lookalike: Any) -> None:
    shutil.rmtree(lookalike.data_dir)


def replaced(lookalike: Any) -> None:
    lookalike.data_dir.rename(lookalike.root / "elsewhere")
    lookalike.data_dir.mkdir(mode=0o700)


@pytest.mark.parametrize("take_away", [whole, replaced])
def test_a_data_directory_that_is_taken_away_is_made_again_and_filled_from_the_photos(
    indexed: Any, photos: Any, wait_for: Wait, take_away: Callable[[Any], None]
) -> None:
    take_away(indexed)
    photos.write(indexed.folder / "new.jpg", 77)
    wait_for(lambda: (indexed.data_dir / "valkey.pid").exists() and (indexed.data_dir / "lock").exists(), "made again")
    wait_for(lambda: indexed.status()["files"] == 4 and indexed.status()["state"] == "up to date", "all is indexed")
    indexed.assert_equals_disk()
    lines = [line for line in indexed.said().splitlines() if "removed or replaced while lookaliked ran" in line]
    assert len(lines) == 1
    assert_no_line_repeats(indexed)


def test_a_removed_lock_file_lets_no_second_daemon_in(indexed: Any, wait_for: Wait) -> None:
    lock: Path = indexed.data_dir / "lock"
    lock.unlink()
    wait_for(lock.exists, "it is made again")
    time.sleep(0.1)
    second = indexed.daemon("run", indexed.folder)
    assert second.returncode == 1
    assert b"is locked by process" in second.stderr
    assert indexed.status()["state"] == "up to date"
