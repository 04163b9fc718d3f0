"""Photos while they are being written: not before they are whole, and then at once."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Wait = Callable[..., Any]


def test_a_photo_that_comes_in_pieces_is_indexed_once_when_it_is_whole(
    lookalike: Any, photos: Any, wait_for: Wait
) -> None:
    query = photos.write(lookalike.root / "query.jpg", 1)
    photos.write(lookalike.folder / "other.jpg", 2)
    lookalike.start()
    before = lookalike.up_to_date()
    slow, data = lookalike.folder / "slow.jpg", query.read_bytes()
    with slow.open("wb", buffering=0) as file:
        for n in range(20):
            file.write(data[n * len(data) // 20 : (n + 1) * len(data) // 20])
            time.sleep(0.2)  # how slowly it comes
    wait_for(lambda: lookalike.holders(query) == [str(slow)])
    assert lookalike.up_to_date()["encoded"] == before["encoded"] + 1
    assert "is not indexed" not in lookalike.said(), "nobody tried to read half of it"


def test_a_photo_that_is_cut_short_by_its_path_is_a_failure_until_it_is_whole(
    lookalike: Any, photos: Any, wait_for: Wait
) -> None:
    photo = photos.write(lookalike.folder / "a.jpg", 1)
    photos.write(lookalike.folder / "b.jpg", 2)
    query = shutil.copyfile(photo, lookalike.root / "query.jpg")
    lookalike.start()
    lookalike.up_to_date()
    os.truncate(photo, photo.stat().st_size // 2)
    wait_for(lambda: lookalike.status()["failures"] == 1)
    assert lookalike.holders(query) == []
    shutil.copyfile(query, photo)
    wait_for(lambda: lookalike.holders(query) == [str(photo)])
    assert lookalike.up_to_date()["failures"] == 0
    lookalike.assert_equals_disk()
