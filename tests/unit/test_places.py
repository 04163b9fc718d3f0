from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from daemon.places import Inode

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_in_place_until_it_is_removed_or_another_one_lies_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    with path.open() as held:
        before = Inode.of(path)
        assert before == Inode.of(held.fileno())
        assert before.is_at(path)
        path.unlink()
        assert not before.is_at(path)
        path.touch()
        assert not before.is_at(path), "what is held keeps its number"


def test_a_file_that_is_reached_by_a_link_is_in_place(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "a", tmp_path / "b"
    path.touch()
    before = Inode.of(path)
    path.rename(elsewhere)
    assert not before.is_at(path)
    path.symlink_to(elsewhere)
    assert before.is_at(path)


def test_a_file_below_what_is_no_directory_any_more_is_not_in_place(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    (directory / "a").touch()
    before = Inode.of(directory / "a")
    directory.rename(tmp_path / "e")
    directory.touch()
    assert not before.is_at(directory / "a")


def test_an_error_that_tells_nothing_of_the_file_does_not_make_it_lost(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    before = Inode.of(path)
    path.unlink()
    # A loop of links stands for any error but those that say that nothing is there: of a disk, or of a permission.
    path.symlink_to(path)
    with pytest.raises(OSError):
        os.stat(path)
    assert before.is_at(path)
