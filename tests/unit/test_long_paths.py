"""Files so deep that no system call takes their paths."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from daemon import beneath

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
    assert beneath.is_there(tmp_path.as_posix(), path)
    assert not beneath.is_there(tmp_path.as_posix(), path + "x")
    assert beneath.lstat(tmp_path.as_posix(), path).st_size == 0
    shutil.rmtree(tmp_path / NAME)
    assert not beneath.is_there(tmp_path.as_posix(), path)
    with pytest.raises(FileNotFoundError):
        beneath.lstat(tmp_path.as_posix(), path)


def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        beneath.lstat(tmp_path.as_posix(), str(tmp_path / ("n" * 300)))
    assert caught.value.errno == errno.ENAMETOOLONG
    assert not beneath.is_there(tmp_path.as_posix(), str(tmp_path / ("n" * 5000)))
    assert not beneath.is_there(tmp_path.as_posix(), f"{tmp_path}/a\0b")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = deep(tmp_path, 60)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        beneath.is_there(tmp_path.as_posix(), path)
        beneath.is_there(tmp_path.as_posix(), path + "/b")
    assert len(os.listdir("/proc/self/fd")) == before
