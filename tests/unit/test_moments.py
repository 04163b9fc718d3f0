"""A time is one that exists, in one form, for whoever brings it."""

from __future__ import annotations

import pytest

from daemon.changes import PhotoInfo
from daemon.encode.images import _iso_time
from daemon.moments import moment
from daemon.transfer.parsing import read_photos
from daemon.transfer.records import photo_text, photos_bytes

NONE = [
    "9999-99-99T99:99:99", "2023-02-29T00:00:00", "0000-01-01T00:00:00", "2024-01-01T24:00:00", "2024-01-01T00:00:60",
    "2024-01-01", "2024-01-01 00:00:00", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00+01:00", "2024-01-01T00:00:00.5",
    "20240101T000000", "2024-W01-1T00:00:00", "٢٠٢٤-01-01T00:00:00", " 2024-01-01T00:00:00", "2024-01-01T00:00:00\n",
    "yesterday", "\0",
]  # fmt: skip


@pytest.mark.parametrize("text", ["", "2024-02-29T23:59:59", "0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_a_time_stays_as_it_is(text: str) -> None:
    assert moment(text) == text


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        moment(text)


@pytest.mark.parametrize("text", [*NONE, "2024-02-29T23:59:59"])
def test_whatever_a_library_holds_for_a_time_its_export_can_be_imported(text: str) -> None:
    info = PhotoInfo("0" * 64, 1, 1, "JPEG", text, 1)
    (photo,) = read_photos(photos_bytes([photo_text(info, [])]))
    assert photo.info.taken_at in {text, ""}


@pytest.mark.parametrize(
    "text", ["2024:02:30 00:00:00", "9999:99:99 99:99:99", "2024:02:29 23:59:59\0", "٢٠٢٤:01:01 00:00:00"]
)
def test_a_camera_cannot_say_what_is_no_time(text: str) -> None:
    found = _iso_time(text)
    assert moment(found) == found
