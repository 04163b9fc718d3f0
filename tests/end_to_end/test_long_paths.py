"""Trees deeper than the system takes paths."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from tests.unit.test_long_paths import deep

TOO_LONG = "its path is longer than the 4,095 bytes that the system takes"


def test_a_photo_with_too_long_a_path_is_listed_until_its_tree_has_gone(
    lookalike: Any, photos: Any, wait_for: Any
) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    levels = 4090 // 201
    path = deep(lookalike.folder, levels - len(str(lookalike.folder)) // 201, "n" * 200 + ".jpg")
    assert len(path) > 4095
    lookalike.start()
    lookalike.up_to_date()
    _, listed, _ = lookalike.asked("failures")
    assert (os.path.basename(path) in listed, TOO_LONG in listed) == (True, True)
    # It is no news at the next walk.
    assert lookalike.asked("sync")[0] == 0
    assert lookalike.status()["failures"] == 1
    for entry in lookalike.folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
    wait_for(lambda: lookalike.asked("sync")[0] == 0 and lookalike.status()["failures"] == 0)
    lookalike.assert_equals_disk()
    lookalike.stop()


@pytest.mark.parametrize("name", ["n" * 300 + ".jpg", "/".join(["d" * 200] * 30) + "/a.jpg"], ids=["name", "path"])
def test_no_command_stumbles_over_a_path_that_is_too_long(shared_lookalike: Any, photos: Any, name: str) -> None:
    if shared_lookalike.process is None:
        photos.write(shared_lookalike.folder / "a.jpg", 1)
        shared_lookalike.start()
        shared_lookalike.up_to_date()
    path = str(shared_lookalike.folder / name)
    for words in (["search", path], ["export", str(shared_lookalike.root / name)], ["import", path]):
        status, _, complained = shared_lookalike.asked(*words)
        assert (status, "too long" in complained) == (1, True), complained
    for words in (
        ["sync", path],
        ["failures", "list", path],
        ["failures", "retry", path],
        ["deletions", "list", path],
        ["deletions", "approve", path],
        ["relocate", path, str(shared_lookalike.folder), "--dry-run"],
        ["relocate", "/nowhere", path, "--dry-run"],
    ):
        status, _, complained = shared_lookalike.asked(*words)
        if words[0] == "failures" and "/" in name:
            # The daemon may have met one there.
            assert status == 0, complained
        else:
            assert (status, "too long" in complained) == (1, True), complained
    assert shared_lookalike.status()["state"] == "up to date"
