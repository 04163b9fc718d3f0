"""The words for a file: what identifies it and its content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from daemon.changes import FileStat, Hint, PhotoInfo, photo_id, signature

if TYPE_CHECKING:
    from pathlib import Path


def test_the_latest_event_tells_how_a_path_is_and_neither_a_walk_nor_a_new_mode_does() -> None:
    for hint in Hint:
        assert hint.followed_by(Hint.FOUND) is hint
        for latest in (Hint.WRITTEN, Hint.CLOSED, Hint.GONE):
            assert hint.followed_by(latest) is latest
    assert [hint.followed_by(Hint.CREATED) for hint in (Hint.FOUND, Hint.CREATED, Hint.GONE)] == [Hint.CREATED] * 3
    assert [hint.followed_by(Hint.CREATED) for hint in (Hint.WRITTEN, Hint.CLOSED)] == [Hint.WRITTEN, Hint.CLOSED]


def test_a_stat_describes_where_and_what_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    result = path.stat()
    assert FileStat.of(result) == FileStat(5, 1_700_000_000_123_456_789, result.st_dev, result.st_ino)


@pytest.mark.parametrize(
    ("other", "unchanged"),
    [
        (FileStat(1, 2, 3, 4), True), (FileStat(1, 2, 99, 4), True),
        (FileStat(9, 2, 3, 4), False), (FileStat(1, 9, 3, 4), False), (FileStat(1, 2, 3, 9), False),
    ],
)  # fmt: skip
def test_a_file_is_unchanged_by_another_device_number_alone(other: FileStat, unchanged: bool) -> None:  # noqa: FBT001
    assert FileStat(1, 2, 3, 4).unchanged(other) is unchanged


def test_a_signature_tells_a_change_of_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.touch(mode=0o644)
    before = path.stat()
    assert signature(before) == signature(path.stat())
    path.chmod(0o600)
    assert FileStat.of(path.stat()) == FileStat.of(before)
    after = path.stat()
    assert after.st_ctime_ns == before.st_ctime_ns or signature(after) != signature(before)


@pytest.mark.parametrize(
    ("digest", "number"),
    [("0" * 64, 0), ("f" * 64, 2**63 - 1), ("0000000000000002" + "f" * 48, 1), ("8000000000000000" + "0" * 48, 2**62)],
)
def test_an_id_is_the_first_63_bits_of_the_digest(digest: str, number: int) -> None:
    assert photo_id(digest) == number
    assert PhotoInfo(digest, 1, 1, "JPEG", "", 1).id == number
