"""What is known of a folder that is not watched is dropped, and of nothing else."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from daemon.changes import Remembered
from daemon.errors import QueryError, StoreUnavailable
from daemon.index.mappings import Fail
from daemon.transfer import forgetting as module
from daemon.transfer.forgetting import Forgetting
from tests.integration.transfer.conftest import Library, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def left(library: Library, tmp_path: Path) -> Library:
    """A library whose folder `here` is not watched any more; `there` is, and holds two of its photos and a third."""
    there = tmp_path / "there"
    write(there, [0, 1, 20])
    library.watch(there)
    with library.running():
        library.kit.eventually(library.idle)
    library.index.commit([Fail(f"{tmp_path}/here/bad.png", "it is no image", "1 2 3 4")])
    return library


def forgetting(library: Library) -> Forgetting:
    return Forgetting(library.index, library.watcher)


def test_only_what_is_watched_is_left(left: Library, tmp_path: Path) -> None:
    found = forgetting(left).run(f"{tmp_path}/here/", dry_run=False)
    assert (found.files, found.photos, found.failures) == (14, 10, 1)
    left.assert_equals_disk()
    assert list(left.index.mappings.remembered()) == [f"{tmp_path}/there"]


def test_a_dry_run_counts_the_same_and_changes_nothing(left: Library, tmp_path: Path) -> None:
    before = left.paths
    found = forgetting(left).run(f"{tmp_path}/here", dry_run=True)
    assert (found.files, found.photos, found.failures) == (14, 10, 1)
    assert left.paths == before
    assert left.index.mappings.failed_paths() == [f"{tmp_path}/here/bad.png"]


def test_the_folder_need_not_exist(left: Library, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "here")
    assert forgetting(left).run(f"{tmp_path}/here", dry_run=False).files == 14
    left.assert_equals_disk()


def test_a_part_and_a_file_can_be_forgotten_alone(left: Library, tmp_path: Path) -> None:
    assert forgetting(left).run(f"{tmp_path}/here/copy.png", dry_run=False).files == 1
    assert forgetting(left).run(f"{tmp_path}/here/trip", dry_run=False).files == 12
    assert forgetting(left).run(f"{tmp_path}/here/bad.png", dry_run=False).failures == 1
    # The byte that is no UTF-8.
    assert forgetting(left).run(f"{tmp_path}/here", dry_run=False).files == 1
    left.assert_equals_disk()


@pytest.mark.parametrize("place", ["there", "there/trip", "there/not/there", ".", "/"])
def test_what_has_to_do_with_a_watched_folder_is_refused(left: Library, tmp_path: Path, place: str) -> None:
    before = left.paths
    with pytest.raises(QueryError, match=r"is watched[;,]|, which is watched;") as refused:
        forgetting(left).run(str(tmp_path / place), dry_run=False)
    assert refused.value.code == "still_watched"
    assert left.paths == before


def test_a_place_of_which_nothing_is_known_is_refused(left: Library, tmp_path: Path) -> None:
    for place in ("her", "here2", "here/trip/none"):
        with pytest.raises(QueryError, match="the index knows nothing about") as refused:
            forgetting(left).run(str(tmp_path / place), dry_run=False)
        assert refused.value.code == "not_in_library"
    with pytest.raises(QueryError, match="absolute"):
        forgetting(left).run("here", dry_run=False)


def test_what_was_cut_short_is_gone_on_with(left: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    reasons = iter(["", "", "lookaliked is stopping"])
    with pytest.raises(QueryError, match="lookaliked is stopping"):
        forgetting(left).run(f"{tmp_path}/here", dry_run=False, stopped=lambda: next(reasons))
    assert forgetting(left).run(f"{tmp_path}/here", dry_run=False).files == 6
    left.assert_equals_disk()


def test_a_store_that_goes_away_meanwhile_leaves_nothing_half_done(
    left: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    delete, calls = left.index.vectors.delete, list[str]()

    def away(name: str, ids: list[int]) -> None:
        calls.append(name)
        if len(calls) == 3:
            raise StoreUnavailable("Milvus", "unix:///m", "cannot be reached")
        delete(name, ids)

    monkeypatch.setattr(left.index.vectors, "delete", away)
    with pytest.raises(StoreUnavailable):
        forgetting(left).run(f"{tmp_path}/here", dry_run=False)
    left.index.recover()
    forgetting(left).run(f"{tmp_path}/here", dry_run=False)
    left.assert_equals_disk()


def test_a_folder_of_which_only_decisions_are_known_is_forgotten(left: Library, tmp_path: Path) -> None:
    left.index.mappings.remember(f"{tmp_path}/empty", Remembered(kept=3))
    assert forgetting(left).run(f"{tmp_path}/empty", dry_run=False).files == 0
    assert f"{tmp_path}/empty" not in left.index.mappings.remembered()


def test_a_forgotten_folder_that_is_watched_again_is_indexed_anew(left: Library, tmp_path: Path) -> None:
    here = tmp_path / "here"
    forgetting(left).run(str(here), dry_run=False)
    left.watch(tmp_path / "there", here)
    with left.running():
        left.settle()
    left.assert_equals_disk()
