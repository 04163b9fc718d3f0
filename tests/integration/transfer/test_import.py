"""An export is taken into an index that is in use: nothing is encoded, nothing is damaged, and afterwards it equals the disk."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from daemon.changes import FileStat, Remembered
from daemon.errors import ExportError, StoreUnavailable
from daemon.index.mappings import Fail
from daemon.transfer import frames
from tests.integration.transfer.conftest import Library, altered, copied, frames_of, png, write

if TYPE_CHECKING:
    from pathlib import Path


def test_files_that_are_as_they_were_exported_are_known_without_being_read(library: Library, fresh: Library) -> None:
    here, there = library.folders[0], fresh.folders[0]
    copied(here, there)
    # Nothing runs that could read them.
    imported = fresh.take(library.export(), [(here, there)])
    assert (imported.photos, imported.bound, imported.kept, imported.known, imported.left) == (12, 14, 0, 0, 0)
    assert imported.vectors == {"one": 12, "two": 12}
    fresh.assert_equals_disk()
    for photo in library.index.mappings.all_photos():
        for ours, theirs in zip(fresh.index.collections, library.index.collections, strict=True):
            stored = library.index.vectors.get(theirs.name, photo)
            assert stored is not None
            assert np.array_equal(stored, np.asarray(fresh.index.vectors.get(ours.name, photo)))
    with fresh.running():
        fresh.settle()
        assert fresh.asked == 0
    fresh.assert_equals_disk()


def test_files_that_lie_elsewhere_are_read_and_not_encoded(library: Library, fresh: Library) -> None:
    copied(library.folders[0], fresh.folders[0])
    for path in fresh.folders[0].rglob("*.png"):
        os.utime(path)
    imported = fresh.take(library.export())
    assert (imported.bound, imported.left) == (0, 14)
    assert fresh.index.vectors.ids(fresh.index.current[0].name) == library.index.mappings.all_photos()
    with fresh.running():
        fresh.settle()
        assert fresh.asked == 0
    fresh.assert_equals_disk()


def test_an_import_while_a_walk_is_under_way_encodes_nothing_that_it_brings(library: Library, fresh: Library) -> None:
    here, there = library.folders[0], fresh.folders[0]
    copied(here, there)
    extra = write(there, range(100, 104))
    data = library.export()
    with fresh.running(importing=True):
        fresh.kit.eventually(lambda: len(fresh.pending) >= 18)
        imported = fresh.take(data, [(here, there)])
    assert imported.bound == 14
    assert fresh.asked == len(fresh.models) * len(extra)
    fresh.assert_equals_disk()


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_photos_may_come_after_the_import(library: Library, fresh: Library, exists: bool) -> None:  # noqa: FBT001
    here, there = library.folders[0], fresh.folders[0]
    if exists:
        there.mkdir()
    with fresh.running():
        imported = fresh.take(library.export(), [(here, there)])
        assert imported.kept == 14
        fresh.settle()
        assert len(fresh.paths) == 14, "a folder that is away or empty costs nothing"
        assert all(fresh.watcher.is_unverified(path) for path in fresh.paths)
        shutil.copytree(here, there, dirs_exist_ok=True)
        fresh.kit.eventually(lambda: fresh.idle() and not any(map(fresh.watcher.is_unverified, fresh.paths)))
        assert fresh.asked == 0
    fresh.assert_equals_disk()


def test_what_an_import_was_writing_when_a_store_went_away_is_finished_once_it_is_back(
    library: Library, fresh: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = fresh.index.vectors.upsert

    def write_and_hear_nothing(*arguments: Any) -> None:
        monkeypatch.undo()
        write(*arguments)
        raise StoreUnavailable("Milvus", "unix:x", "does not answer in time")

    with fresh.running():
        monkeypatch.setattr(fresh.index.vectors, "upsert", write_and_hear_nothing)
        with pytest.raises(StoreUnavailable):
            fresh.take(library.export(), [(library.folders[0], fresh.folders[0])])
        assert fresh.index.mappings.intents()
        fresh.kit.eventually(lambda: not fresh.index.mappings.intents() and not fresh.indexer.outage.reason)
        assert fresh.indexer.outage.count == 1


def test_vectors_that_no_file_is_found_for_are_collected_behind_the_walk(library: Library, fresh: Library) -> None:
    there = fresh.folders[0]
    write(there, [50])
    with fresh.running():
        fresh.kit.eventually(fresh.idle)
        with fresh.indexer.importing():
            assert fresh.take(library.export()).left == 14
            name = fresh.index.current[0].name
            assert len(fresh.index.vectors.ids(name)) == 13
        fresh.settle()
        assert len(fresh.index.vectors.ids(name)) == 1
    fresh.assert_equals_disk()


def test_what_the_index_knows_already_is_left_as_it_is(library: Library) -> None:
    data = altered(library.export(), frames.PHOTOS, lambda photos: [one | {"width": 1} for one in photos])
    before = library.index.mappings.photos(sorted(library.index.mappings.all_photos()))
    asked = library.asked
    with library.running():
        imported = library.take(data)
        library.settle()
        assert library.asked == asked
    assert (imported.known, imported.bound, imported.vectors) == (14, 0, {})
    assert library.index.mappings.photos(sorted(library.index.mappings.all_photos())) == before
    library.assert_equals_disk()


def test_an_old_export_brings_nothing_back_that_is_gone_and_hides_nothing_that_is_new(library: Library) -> None:
    here = library.folders[0]
    data = library.export()
    with library.running():
        (here / "trip" / "03.png").unlink()
        (here / "trip" / "04.png").write_bytes(png(200))
        (here / "trip" / "05.png").rename(here / "renamed.png")
        library.settle()
        library.kit.eventually(lambda: len(library.paths) == 13)
        asked = library.asked
        library.take(data)
        library.settle()
        assert library.asked == asked
    library.assert_equals_disk()


def test_a_file_that_was_rewritten_with_its_old_size_and_another_time_is_read(library: Library, fresh: Library) -> None:
    here, there = library.folders[0], fresh.folders[0]
    copied(here, there)
    rewritten = there / "copy.png"
    size = rewritten.stat().st_size
    rewritten.write_bytes(png(300)[:size].ljust(size, b"\0"))
    with fresh.running(importing=True):
        imported = fresh.take(library.export(), [(here, there)])
    assert imported.left >= 1
    fresh.assert_equals_disk()


def test_vectors_of_another_version_are_not_used_and_it_is_said(library: Library, fresh: Library) -> None:
    here, there = library.folders[0], fresh.folders[0]
    copied(here, there)

    def changed(head: dict[str, Any]) -> dict[str, Any]:
        head["models"][1]["version"] = "two-0ther"
        head["models"].append({"model": "three", "version": "three-1", "dim": 3, "metric": "l2"})
        return head

    imported = fresh.take(altered(library.export(), frames.HEAD, changed), [(here, there)])
    with fresh.running():
        fresh.settle()
    assert imported.notes == [
        "two: its vectors are of another version, and are not used; they will be encoded again",
        "three: it is not configured here, so its vectors are not used",
    ]
    assert imported.vectors == {"one": 12}
    assert [model.asked for model in fresh.models] == [0, 12]
    fresh.assert_equals_disk()


def test_an_export_without_a_vector_that_could_be_used_changes_nothing(library: Library, fresh: Library) -> None:
    here, there = library.folders[0], fresh.folders[0]
    copied(here, there)
    data = altered(library.export(), frames.HEAD, lambda head: head | {"models": [
        one | {"version": f"{one['version']}-old"} for one in head["models"]
    ]})  # fmt: skip
    imported = fresh.take(data, [(here, there)])
    assert (imported.photos, imported.left, fresh.paths) == (0, 14, [])


def test_a_failure_stays_one_on_the_same_disk_and_is_tried_again_on_another(library: Library, fresh: Library) -> None:
    here, there = library.folders[0], fresh.folders[0]
    bad = here / "bad.png"
    bad.write_bytes(b"no photo")
    with library.running():
        library.settle()
    data = library.export()
    copied(here, there)
    failure = library.index.mappings.failure(str(bad))
    assert failure is not None
    fresh.take(data, [(here, there)])
    assert fresh.index.mappings.failures() == {}
    fresh.watch(here)
    with fresh.running():
        fresh.take(data)
        assert fresh.index.mappings.failure(str(bad)) == failure
        fresh.settle()


def test_files_that_it_was_decided_to_keep_are_kept_where_the_export_is_taken(
    library: Library, fresh: Library, tmp_path: Path
) -> None:
    here, there = library.folders[0], fresh.folders[0]
    for name in ("07", "08"):
        (here / "trip" / f"{name}.png").rename(tmp_path / f"{name}.png")
    library.index.mappings.remember(str(here), Remembered(kept=2))
    data = library.export()
    copied(here, there)
    with fresh.running():
        with fresh.indexer.importing():
            imported = fresh.take(data, [(here, there)])
        assert imported.kept == 2
        fresh.settle()
        assert fresh.watcher.folders[0].state == "kept"
        assert len(fresh.paths) == 14
        for name in ("07", "08"):
            (tmp_path / f"{name}.png").rename(there / "trip" / f"{name}.png")
        fresh.kit.eventually(lambda: not fresh.watcher.folders[0].held)
        fresh.settle()
        assert fresh.asked == 0
    fresh.assert_equals_disk()


# What is damaged, cut short, or meant to do harm


def test_a_file_that_ends_early_is_refused_and_importing_it_whole_completes_it(
    library: Library, fresh: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daemon.transfer import exporter

    monkeypatch.setattr(exporter, "PAGE", 5)
    here, there = library.folders[0], fresh.folders[0]
    copied(here, there)
    data = library.export()
    ends = [at for at in range(len(data)) if data.startswith(b"VECT", at)]
    with fresh.running(importing=True):
        with pytest.raises(ExportError, match=r"it ends early, after [\d,]+ bytes; 5 of its photos were taken"):
            fresh.take(data[: ends[2] + 100], [(here, there)])
        assert fresh.take(data, [(here, there)]).photos == 12
    assert fresh.asked == 0
    fresh.assert_equals_disk()


def test_a_photo_with_the_id_of_another_one_is_left_out(library: Library) -> None:
    def forged(photos: Any) -> Any:
        return [one | {"digest": one["digest"][:-1] + ("0" if one["digest"][-1] != "0" else "1")} for one in photos]

    before = library.index.mappings.photos(sorted(library.index.mappings.all_photos()))
    imported = library.take(altered(library.export(), frames.PHOTOS, forged))
    assert imported.photos == 0
    assert imported.notes == ["12 photos have the id of another one, and are left out"]
    assert library.index.mappings.photos(sorted(library.index.mappings.all_photos())) == before


def test_a_path_outside_of_the_folders_or_behind_a_link_is_never_bound(
    library: Library, fresh: Library, tmp_path: Path
) -> None:
    here, there = library.folders[0], fresh.folders[0]
    there.mkdir()
    write(there, [50])
    (there / "link").symlink_to(here)
    (there / "file.png").symlink_to(here / "copy.png")
    for moved in ([], [(here, there / "link")], [(here / "copy.png", there / "file.png")], [(here, tmp_path / "x")]):
        assert fresh.take(library.export(), moved).bound == 0
    assert fresh.paths == []


def test_an_export_has_no_more_than_one_page_in_memory_and_one_file_of_many_paths_in_parts(
    library: Library, fresh: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daemon.transfer import exporter

    for name, value in (("PAGE", 5), ("FILES", 1), ("TEXT_BYTES", 400)):
        monkeypatch.setattr(exporter, name, value)
    here, there = library.folders[0], fresh.folders[0]
    copied(here, there)
    data = library.export()
    kinds = [one.kind for one in frames_of(data)]
    assert kinds.count(frames.VECTORS) == 6
    assert kinds.count(frames.PHOTOS) == 14
    assert fresh.take([data[at : at + 7] for at in range(0, len(data), 7)], [(here, there)]).bound == 14
    fresh.assert_equals_disk()


def test_the_totals_of_an_export_are_those_of_the_library(library: Library) -> None:
    library.index.commit([Fail("/here/bad.png", "no photo", "1 2 3 4")])
    first, *_, last = frames_of(library.export("mine"))
    head, totals = json.loads(first.payload), json.loads(last.payload)
    assert (head["library"], head["photos"], head["files"]) == ("mine", 12, 14)
    assert [one["version"] for one in head["models"]] == ["one", "two"]
    assert totals == {"photos": 12, "files": 14, "failures": 1, "vectors": {"one": 12, "two": 12}}


def test_a_stat_that_looks_recorded_is_of_the_disk_and_not_of_the_export(library: Library, fresh: Library) -> None:
    here, there = library.folders[0], fresh.folders[0]
    copied(here, there)
    fresh.take(library.export(), [(here, there)])
    for path, record in zip(fresh.paths, fresh.index.mappings.files(fresh.paths), strict=True):
        assert record is not None
        assert record.stat == FileStat.of(os.stat(path))
