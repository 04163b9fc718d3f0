from __future__ import annotations

import pytest

from daemon.config import Watch
from daemon.encode.images import EXTENSIONS
from daemon.watch.filters import Filters

FILTERS = Filters(Watch().ignore, EXTENSIONS)


@pytest.mark.parametrize(
    "path", ["a.jpg", "A.JPEG", "x/y/z.HeIc", "2024/été 🌞/b.png", "a b\n.webp", "byte\udcff.avif"]
)
def test_photos_anywhere_below_a_folder_are_admitted(path: str) -> None:
    assert FILTERS.admits(path)


@pytest.mark.parametrize(
    "path",
    ["a.txt", "jpg", ".jpg", ".hidden.jpg", "._a.jpg", ".git/a.jpg", "x/@eaDir/a.jpg", "#recycle/a.jpg", "x/.thumbs/y/a.jpg",
     "Thumbs.db", "__MACOSX/a.jpg", "a.jpg.part", "a.nef", "a.eps", ""],
)  # fmt: skip
def test_what_is_hidden_ignored_or_no_photo_is_not_admitted(path: str) -> None:
    assert not FILTERS.admits(path)


def test_a_directory_is_admitted_when_no_part_of_its_path_is_ignored() -> None:
    assert FILTERS.admits_directory("")
    assert FILTERS.admits_directory("2024/holiday")
    assert not FILTERS.admits_directory("2024/.cache/holiday")


def test_patterns_of_the_user_replace_the_default_ones() -> None:
    filters = Filters(["raw*", "?.jpg"], EXTENSIONS)
    assert filters.admits(".hidden/ab.jpg")
    assert not filters.admits("raw files/ab.jpg")
    assert not filters.admits("a.jpg")


def test_without_patterns_nothing_is_ignored() -> None:
    assert Filters([], EXTENSIONS).admits(".git/a.jpg")
