"""Trees deeper than the system takes paths."""

from __future__ import annotations

import os
import shutil
from typing import Any

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
