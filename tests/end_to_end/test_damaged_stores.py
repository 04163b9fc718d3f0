"""Files of a store that are damaged cost the user one sentence, and the daemon the work of making them again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Wait = Callable[..., Any]

PHOTOS = 12
SEGMENTS = "milvus/collections/*/partitions/*/data/*.parquet"
LOGS = "valkey/appendonlydir/*.incr.aof"


def damage(lookalike: Any, pattern: str) -> None:
    files: list[Path] = list(lookalike.data_dir.glob(pattern))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2 :] = os.urandom(len(content) // 2)
        file.write_bytes(content)


def sentence_of_damage(lookalike: Any) -> str:
    (said,) = [line for line in lookalike.said().splitlines() if "damaged (" in line]
    (aside,) = lookalike.data_dir.glob("*.damaged-*")
    assert str(aside) in said
    return str(said)


def is_whole(status: dict[str, Any]) -> bool:
    """Whether a store was started again after its damage, and every photo is in both."""
    restarted = max(store["restarts"] for store in status["stores"]) >= 2
    held = [status["photos"], *(model["photos"] for model in status["models"])]
    return restarted and status["state"] == "up to date" and set(held) == {PHOTOS}


@pytest.fixture
def indexed(lookalike: Any, photos: Any) -> Any:
    photos.fill(lookalike.folder, PHOTOS)
    assert lookalike.once().returncode == 0
    return lookalike


@pytest.mark.parametrize(("pattern", "encoded"), [(SEGMENTS, PHOTOS), (LOGS, 0)], ids=["milvus", "valkey"])
def test_a_store_found_damaged_at_the_start_is_made_again_from_the_other(
    indexed: Any, pattern: str, encoded: int
) -> None:
    damage(indexed, pattern)
    done = indexed.once()
    assert done.returncode == 0, done.stderr
    said = done.stderr.decode()
    assert said.count("damaged (") == 1
    assert f"encoded {encoded} photos" in said
    indexed.start()
    indexed.up_to_date()
    indexed.assert_equals_disk()
    assert indexed.stop() == 0


@pytest.mark.parametrize(("pattern", "name"), [(SEGMENTS, "milvus_lite_server"), (LOGS, "valkey")])
def test_a_store_found_damaged_while_the_daemon_runs_is_made_again(
    indexed: Any, wait_for: Wait, pattern: str, name: str
) -> None:
    indexed.start()
    indexed.up_to_date()
    (store,) = [child for child in indexed.children if any(name in word for word in child.cmdline())]
    damage(indexed, pattern)
    store.kill()
    wait_for(lambda: "damaged (" in indexed.said(), "the damage is noticed")
    wait_for(lambda: is_whole(indexed.status()), "the store is whole again")
    indexed.children += psutil.Process(indexed.process.pid).children(recursive=True)
    indexed.assert_equals_disk()
    assert indexed.process.poll() is None
    sentence_of_damage(indexed)
    assert indexed.stop() == 0
