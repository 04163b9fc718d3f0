from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.watch.markers import Markers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "private" / "deep").mkdir(parents=True)
    (tmp_path / "privat").mkdir()
    return tmp_path


def excluded(markers: Markers, top: Path) -> set[str]:
    names = ("a.jpg", "privat/b.jpg", "private/c.jpg", "private/deep/d.jpg")
    return {name for name in names if markers.exclude(str(top), str(top / name))}


def walk(markers: Markers, top: Path, *marked: str) -> None:
    markers.begin_walk()
    markers.end_walk(str(top), [str(top / one) for one in marked], whole=True)


def test_before_the_first_walk_the_disk_is_asked(top: Path) -> None:
    (top / "private" / ".nomedia").touch()
    assert excluded(Markers(), top) == {"private/c.jpg", "private/deep/d.jpg"}


def test_after_a_walk_nothing_but_what_it_found_counts(top: Path) -> None:
    markers = Markers()
    (top / ".nomedia").touch()
    walk(markers, top, "private")
    assert excluded(markers, top) == {"private/c.jpg", "private/deep/d.jpg"}
    walk(markers, top)
    assert excluded(markers, top) == set()


def test_a_marker_in_the_folder_itself_excludes_all_of_it(top: Path) -> None:
    markers = Markers()
    walk(markers, top, "")
    assert len(excluded(markers, top)) == 4


def test_an_event_counts_at_once(top: Path) -> None:
    markers = Markers()
    walk(markers, top)
    (top / "private" / ".nomedia").touch()
    markers.note(str(top / "private"))
    assert excluded(markers, top) == {"private/c.jpg", "private/deep/d.jpg"}
    (top / "private" / ".nomedia").unlink()
    markers.note(str(top / "private"))
    assert excluded(markers, top) == set()


def test_a_walk_that_came_by_before_the_event_does_not_undo_it(top: Path) -> None:
    markers = Markers()
    walk(markers, top)
    markers.begin_walk()
    (top / "private" / ".nomedia").touch()
    markers.note(str(top / "private"))
    markers.end_walk(str(top), [], whole=True)
    assert excluded(markers, top) == {"private/c.jpg", "private/deep/d.jpg"}


def test_a_walk_of_a_part_leaves_the_rest_as_it_was(top: Path) -> None:
    markers = Markers()
    walk(markers, top, "private", "private/deep")
    markers.begin_walk()
    markers.end_walk(str(top / "privat"), [str(top / "privat")], whole=False)
    assert excluded(markers, top) == {"privat/b.jpg", "private/c.jpg", "private/deep/d.jpg"}
