"""A few rounds of the crash drill: what `python -m tests.drills` does a hundred times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.drills import crash, models
from tests.drills.oracle import Differences, Disk, Stored, compare, photo_id
from tests.drills.photos import photo

if TYPE_CHECKING:
    import pytest

ROUNDS, SEED = 3, 2


def test_nothing_is_lost_in_a_few_crashes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crash.run(ROUNDS, SEED, cache), capsys.readouterr().out
    assert f"rounds {ROUNDS}, lost 0, ghosts 0 (--seed {SEED})" in capsys.readouterr().out


def test_nothing_is_lost_while_a_model_changes_in_a_few_crashes(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models.run(ROUNDS, SEED, cache), capsys.readouterr().out
    assert f"rounds {ROUNDS}, lost 0, ghosts 0 (--seed {SEED})" in capsys.readouterr().out


def test_the_drills_are_listed_with_what_they_do() -> None:
    command = [sys.executable, "-m", "tests.drills", "--list"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "crash", "models", "outage", "disks", "decisions", "overflow", "rename", "import",
    ]  # fmt: skip


def stored(photos: dict[str, int], *, vectors: set[int], failures: set[str]) -> Stored:
    holders = {one: frozenset(path for path, other in photos.items() if other == one) for one in photos.values()}
    return Stored(photos, frozenset(photos), holders, {"default_one": frozenset(vectors)}, frozenset(failures))


def test_the_oracle_sees_each_kind_of_difference() -> None:
    data = {seed: photo(Random(seed)) for seed in (1, 2)}
    one, other = photo_id(data[1]), photo_id(data[2])
    disk = Disk.of({"/a.jpg": data[1], "/b.jpg": data[2], "/c.jpg": b"no photo"})
    assert disk == Disk({"/a.jpg": one, "/b.jpg": other}, frozenset({"/c.jpg"}))

    def found(photos: dict[str, int], vectors: set[int], failures: set[str]) -> Differences:
        return compare(disk, stored(photos, vectors=vectors, failures=failures))

    assert not found(disk.photos, {one, other}, {"/c.jpg"})
    assert "/b.jpg" in str(found({"/a.jpg": one}, {one, other}, {"/c.jpg"}).lost)
    assert "no vector" in str(found(disk.photos, {one}, {"/c.jpg"}).lost)
    assert "recorded as" in str(found({"/a.jpg": one, "/b.jpg": one}, {one, other}, {"/c.jpg"}).lost)
    assert "no failure" in str(found(disk.photos, {one, other}, set()).lost)
    assert "/d.jpg" in str(found(disk.photos | {"/d.jpg": one}, {one, other}, {"/c.jpg"}).ghosts)
    assert "no failure" in str(found(disk.photos, {one, other}, {"/c.jpg", "/a.jpg"}).ghosts)
    assert "7" in str(found(disk.photos, {one, other, 7}, {"/c.jpg"}).strays)
