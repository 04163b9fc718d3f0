"""Files so deep that no system call takes their paths."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from daemon import long_paths

if TYPE_CHECKING:
    from pathlib import Path

NAME = "d" * 200


def deep(top: Path, levels: int, name: str = "a.jpg") -> str:
    """Make a file so many directories down, one after the other, and return its path."""
    directory = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(NAME, dir_fd=directory)
        below = os.open(NAME, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    return os.path.join(top, *[NAME] * levels, name)


@pytest.mark.parametrize("levels", [1, 19, 20, 21, 60])
def test_a_file_is_found_however_deep_it_lies_and_no_more_when_its_tree_has_gone(tmp_path: Path, levels: int) -> None:
    path = deep(tmp_path, levels)
    assert long_paths.is_there(path)
    assert not long_paths.is_there(path + "x")
    assert long_paths.lstat(path).st_size == 0
    shutil.rmtree(tmp_path / NAME)
    assert not long_paths.is_there(path)
    with pytest.raises(FileNotFoundError):
        long_paths.lstat(path)


def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        long_paths.lstat(str(tmp_path / ("n" * 300)))
    assert long_paths.is_too_long(caught.value)
    assert not long_paths.is_there(str(tmp_path / ("n" * 5000)))
    assert not long_paths.is_there("a\0b")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = deep(tmp_path, 60)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        long_paths.is_there(path)
        long_paths.is_there(path + "/b")
    assert len(os.listdir("/proc/self/fd")) == before
