"""What was known in one place is known in another, without a file being read."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from daemon.changes import Remembered
from daemon.errors import QueryError, StoreUnavailable
from tests.integration.transfer.conftest import Library, copied, png, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def moved(library: Library, tmp_path: Path) -> Library:
    """The photos of the library lie on another disk now, and that is what is watched; nothing is under way."""
    here, there = library.folders[0], tmp_path / "there"
    copied(here, there)
    shutil.rmtree(here)
    library.watch(there)
    return library


def relocate(library: Library, tmp_path: Path, *, dry_run: bool = False) -> Any:
    return library.relocation.run(str(tmp_path / "here"), str(tmp_path / "there"), dry_run=dry_run)


def test_no_file_is_read_and_the_index_equals_the_disk(
    moved: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = moved.asked
    found = relocate(moved, tmp_path)
    assert (found.files, found.moved, found.changed, found.missing) == (14, 14, 0, 0)
    moved.assert_equals_disk()

    read: list[str] = []
    monkeypatch.setattr("daemon.indexer.read_whole", lambda path, _: read.append(path))
    with moved.running():
        moved.settle()
    assert read == []
    assert moved.asked == asked
    moved.assert_equals_disk()


def test_a_dry_run_changes_nothing(moved: Library, tmp_path: Path) -> None:
    before = moved.paths
    assert relocate(moved, tmp_path, dry_run=True).moved == 14
    assert moved.paths == before


def test_what_a_walk_has_not_come_to_is_spared_and_what_it_has_found_is_forgotten_in_the_old_place(
    moved: Library, tmp_path: Path
) -> None:
    asked = moved.asked
    with moved.running():
        moved.settle()
        assert len(moved.paths) == 28, "what is known of a folder stays when it is no longer watched"
        assert relocate(moved, tmp_path).moved == 14
        moved.settle()
    assert moved.asked == asked
    moved.assert_equals_disk()


def test_relocating_while_the_first_walk_is_under_way(moved: Library, tmp_path: Path) -> None:
    asked = moved.asked
    with moved.running():
        assert relocate(moved, tmp_path).moved == 14
        moved.settle()
    assert moved.asked == asked
    moved.assert_equals_disk()


def test_files_that_wait_to_be_read_are_not_read_once_they_are_relocated(
    moved: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr("daemon.indexer.read_whole", lambda path, _: read.append(path))
    # The bulk is kept waiting, so that all of it waits.
    with moved.running(importing=True):
        moved.kit.eventually(lambda: len(moved.pending) == 14 and not moved.watcher.busy)
        relocate(moved, tmp_path)
    assert read == []
    moved.assert_equals_disk()


def test_files_that_differ_or_are_missing_are_left_in_the_old_place(moved: Library, tmp_path: Path) -> None:
    there = tmp_path / "there"
    os.utime(there / "copy.png")
    (there / "trip" / "03.png").unlink()
    (there / "trip" / "04.png").write_bytes(png(400))
    asked = moved.asked
    found = relocate(moved, tmp_path)
    assert (found.moved, found.changed, found.missing) == (11, 2, 1)
    assert [path for path in moved.paths if path.startswith(f"{tmp_path}/here/")] == [
        f"{tmp_path}/here/copy.png",
        f"{tmp_path}/here/trip/03.png",
        f"{tmp_path}/here/trip/04.png",
    ]
    with moved.running():
        moved.settle()
        # Only what is new.
        assert moved.asked == asked + 2
        (there / "trip" / "03.png").write_bytes(png(3))
        moved.kit.eventually(lambda: f"{there}/trip/03.png" in moved.paths)
        moved.settle()
        assert moved.asked == asked + 2


def test_a_relocation_that_was_cut_short_is_completed_by_another(
    moved: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.transfer.relocation.BATCH", 4)
    calls = 0
    chosen = moved.index.commit_chosen

    def cut_short(choose: Any) -> list[bool]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise StoreUnavailable("Redis", "unix:x", "cannot be reached")
        return chosen(choose)

    monkeypatch.setattr(moved.index, "commit_chosen", cut_short)
    with pytest.raises(StoreUnavailable):
        relocate(moved, tmp_path)
    counts = moved.index.mappings.counts()
    # Four are moved; four are known in both places, for they were not yet forgotten in the old one.
    assert (counts.photos, counts.files) == (12, 18)
    monkeypatch.undo()
    assert relocate(moved, tmp_path).moved == 10
    moved.assert_equals_disk()


def test_failures_move_along_and_are_not_tried_again(library: Library, tmp_path: Path) -> None:
    here, there = library.folders[0], tmp_path / "there"
    (here / "bad.png").write_bytes(b"no photo")
    with library.running():
        library.settle()
    before = library.index.mappings.failure(str(here / "bad.png"))
    assert before is not None
    copied(here, there)
    shutil.rmtree(here)
    library.watch(there)
    assert relocate(library, tmp_path).failures == 1
    with library.running():
        library.settle()
    (after,) = library.index.mappings.failures().values()
    assert (after.path, after.reason, after.attempts, after.since) == (
        str(there / "bad.png"),
        before.reason,
        before.attempts,
        before.since,
    )
    library.assert_equals_disk(failed=[there / "bad.png"])


def test_files_that_it_was_decided_to_keep_are_kept_in_the_new_place(moved: Library, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "trip" / "07.png").rename(tmp_path / "07.png")
    moved.index.mappings.remember(str(tmp_path / "here"), Remembered(kept=1))
    asked = moved.asked
    with moved.running():
        found = relocate(moved, tmp_path)
        assert (found.moved, found.kept, found.missing) == (13, 1, 0)
        moved.settle()
        assert moved.watcher.folders[0].state == "kept"
        (tmp_path / "07.png").rename(there / "trip" / "07.png")
        moved.kit.eventually(lambda: not moved.watcher.folders[0].held)
        moved.settle()
    assert moved.asked == asked
    moved.assert_equals_disk()


def test_walks_in_between_leave_what_was_decided_of_missing_files(
    moved: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / "trip" / "07.png").unlink()
    moved.index.mappings.remember(str(tmp_path / "here"), Remembered(kept=1))
    chosen = moved.index.commit_chosen

    def walk_before(choose: Any) -> list[bool]:
        moved.watcher.rescan_all("in between")
        moved.kit.eventually(lambda: not moved.watcher.busy)
        return chosen(choose)

    with moved.running():
        moved.settle()
        monkeypatch.setattr(moved.index, "commit_chosen", walk_before)
        assert relocate(moved, tmp_path).kept == 1
        monkeypatch.undo()
        moved.settle()
        assert (moved.watcher.folders[0].state, moved.watcher.folders[0].held) == ("kept", 1)
        assert moved.index.mappings.remembered()[str(tmp_path / "there")].forgiven == 1


def test_a_walk_that_an_outage_cuts_short_leaves_what_was_decided_of_missing_files(
    moved: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / "trip" / "07.png").unlink()
    moved.index.mappings.remember(str(tmp_path / "here"), Remembered(kept=1))
    chosen, calls = moved.index.commit_chosen, 0

    def is_away(*_: object) -> None:
        nonlocal calls
        calls += 1
        monkeypatch.undo()
        raise StoreUnavailable("Redis", "unix:x", "cannot be reached")

    def lose_redis_after(choose: Any) -> list[bool]:
        found = chosen(choose)
        monkeypatch.setattr(moved.index.mappings, "remember", is_away)
        return found

    with moved.running():
        moved.settle()
        monkeypatch.setattr(moved.index, "commit_chosen", lose_redis_after)
        assert relocate(moved, tmp_path).kept == 1
        moved.settle()
        assert (calls, moved.watcher.folders[0].state, moved.watcher.folders[0].held) == (1, "kept", 1)


def test_a_folder_below_the_library_may_be_relocated_too(library: Library, tmp_path: Path) -> None:
    here, there = library.folders[0], tmp_path / "there"
    there.mkdir()
    copied(here / "trip", there / "journey")
    shutil.rmtree(here / "trip")
    library.watch(here, there)
    asked = library.asked
    found = library.relocation.run(f"{here}/trip", f"{there}/journey", dry_run=False)
    assert (found.files, found.moved) == (12, 12)
    with library.running():
        library.settle()
    assert library.asked == asked
    library.assert_equals_disk()


def test_photos_that_are_still_in_a_watched_place_are_not_relocated(library: Library, tmp_path: Path) -> None:
    there = tmp_path / "there"
    copied(library.folders[0], there)
    library.watch(library.folders[0], there)
    with pytest.raises(
        QueryError, match=r"14 of the photos are still below .*/here, which is watched; move them"
    ) as caught:
        relocate(library, tmp_path)
    assert caught.value.code == "still_there"
    # A copy is a move where the old place is no longer watched.
    library.watch(there)
    assert relocate(library, tmp_path).moved == 14
    library.assert_equals_disk()


def test_what_cannot_be_meant_is_refused(moved: Library, tmp_path: Path) -> None:
    before = moved.paths
    for old, new, code in [
        ("here", "nowhere", "not_watched"),
        ("here", "there/missing", "not_there"),
        ("unknown", "there", "not_in_library"),
        ("there", "there", "bad_request"),
        ("there", "there/trip", "bad_request"),
        ("there/trip", "there", "bad_request"),
    ]:
        with pytest.raises(QueryError) as caught:
            moved.relocation.run(str(tmp_path / old), str(tmp_path / new), dry_run=False)
        assert caught.value.code == code
    with pytest.raises(QueryError, match="absolute"):
        moved.relocation.run("here", "there", dry_run=True)
    assert moved.paths == before


def test_a_name_that_only_begins_alike_is_left_alone(library: Library, tmp_path: Path) -> None:
    here, beside = library.folders[0], tmp_path / "here 2"
    write(beside, range(20, 22))
    library.watch(here, beside)
    with library.running():
        library.settle()
    copied(here, tmp_path / "there")
    shutil.rmtree(here)
    library.watch(beside, tmp_path / "there")
    assert relocate(library, tmp_path).files == 14
    library.assert_equals_disk()
