"""Counts of what is watched, where the index holds more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from daemon.changes import Remembered
from daemon.index.mappings import Exclude, Fail, Remove
from daemon.index.tally import Counting, Leftover, Tally

if TYPE_CHECKING:
    from daemon.index.index import Index


def fail(path: str) -> Fail:
    return Fail(path, "it is no image", "1 2 3 4")


def counted(index: Index, *folders: str) -> Tally:
    return Counting(index, lambda: folders)()


def encoded(tally: Tally) -> set[int]:
    return set(tally.encoded.values())


@pytest.fixture
def filled(index: Index, photos: Any) -> Index:
    """Twenty photos of a folder, thirty of another, two that both hold, and failures of both."""
    index.commit([photos.add(f"/in/{n}.jpg", f"in {n}") for n in range(20)])
    index.commit([photos.add(f"/old/{n}.jpg", f"old {n}") for n in range(30)])
    index.commit([photos.bind(f"/{folder}/both {n}.jpg", f"in {n}") for n in range(2) for folder in ("in", "old")])
    index.commit([fail("/in/bad.jpg"), fail("/old/bad.jpg"), fail("/older.jpg")])
    for folder in ("/in", "/old"):
        index.mappings.remember(folder, Remembered())
    return index


def test_where_all_is_watched_all_counts(filled: Index) -> None:
    tally = counted(filled, "/in", "/old", "/older.jpg")
    assert (tally.photos, tally.files, tally.failures) == (50, 54, 3)
    assert tally.below == {"/in": 22, "/old": 32, "/older.jpg": 0}
    assert encoded(tally) == {50}
    assert (tally.other_photos, tally.other_files, tally.other_failures, tally.leftovers) == (0, 0, 0, ())
    assert Counting(filled)().photos == 50


def test_what_is_watched_is_told_from_what_is_not(filled: Index) -> None:
    tally = counted(filled, "/in")
    assert (tally.photos, tally.files, tally.failures) == (20, 22, 1)
    assert encoded(tally) == {20}
    assert (tally.other_photos, tally.other_files, tally.other_failures) == (30, 32, 2)
    assert tally.leftovers == (Leftover("/old", 32),)


def test_a_folder_whose_name_begins_as_a_watched_ones_is_another(filled: Index, photos: Any) -> None:
    filled.commit([photos.add("/in2/a.jpg", "in2"), photos.add("/in.jpg", "in.jpg"), photos.add("/in0", "in0")])
    assert counted(filled, "/in").files == 22


def test_photos_that_lack_a_vector_are_told(filled: Index, photos: Any) -> None:
    name = filled.current[0].name
    filled.mappings.set_encoded(name, absent=[photos.id("in 3"), photos.id("old 3"), photos.id("old 4")])
    assert counted(filled, "/in").encoded[name] == 19
    assert counted(filled, "/in", "/old").encoded[name] == 47


def test_photos_that_are_set_aside_are_known_to_no_model(filled: Index) -> None:
    filled.commit([Exclude(f"/in/{n}.jpg") for n in range(2, 12)])
    tally = counted(filled, "/in", "/old")
    assert (tally.photos, tally.files) == (40, 44)
    assert encoded(tally) == {40}
    assert encoded(counted(filled, "/in")) == {10}


def test_counts_follow_what_changes(filled: Index, photos: Any, kit: Any) -> None:
    counting = Counting(filled, lambda: ["/in"])
    assert counting().photos == 20
    filled.commit([photos.add("/in/new.jpg", "new"), Remove("/in/5.jpg"), Remove("/in/6.jpg")])
    kit.eventually(lambda: (counting().photos, counting().files) == (19, 21))
    filled.commit([Remove("/old/bad.jpg"), fail("/in/worse.jpg")])
    kit.eventually(lambda: (counting().failures, counting().other_failures) == (2, 1))
    filled.mappings.set_encoded(filled.current[0].name, absent=[photos.id("new")])
    kit.eventually(lambda: counting().encoded[filled.current[0].name] == 18)


def test_places_that_were_never_watched_are_named_as_wide_as_can_be_forgotten(index: Index, photos: Any) -> None:
    names = ["/a/b/in/1.jpg", "/a/b/2.jpg", "/a/c/d/3.jpg", "/a/c/4.jpg", "/e/f/5.jpg"]
    index.commit([photos.add(name, name) for name in names])
    assert counted(index, "/a/b/in").leftovers == (
        Leftover("/a/b/2.jpg", 1),
        Leftover("/a/c", 2),
        Leftover("/e", 1),
    )


def test_a_folder_that_was_watched_around_a_watched_one_is_named_in_parts(index: Index, photos: Any) -> None:
    names = ["/a/in/1.jpg", "/a/in/2.jpg", "/a/x/3.jpg", "/a/y/4.jpg"]
    index.commit([photos.add(name, name) for name in names])
    index.mappings.remember("/a", Remembered())
    assert counted(index, "/a/in").leftovers == (Leftover("/a/x", 1), Leftover("/a/y", 1))
