"""The deletion brake on real disks that go away: what is held, what somebody decides about it, and what a restart remembers."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from daemon.changes import Hint, Remembered
from daemon.errors import QueryError, StoreUnavailable
from daemon.watch.brake import Brake
from daemon.watch.mounts import volumes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.watch.folder import WatchedFolder

NAMES = {f"{n}.jpg" for n in range(10)}
LOOSE = Brake(ratio=1.0, count=1000)
"""A brake that no number of missing files trips."""


@pytest.fixture
def scene(place: Path, watch_kit: Any) -> Any:
    scene = watch_kit.scene(place)
    yield scene
    scene.stop()


def held(scene: Any, *, missing: int = 7, **options: Any) -> WatchedFolder:
    """Start with some of ten recorded files missing, and return the folder once they are held."""
    names = sorted(NAMES)
    scene.write(*names[missing:])
    scene.index_all()
    scene.record(*names[:missing])
    folder: WatchedFolder = scene.start(**options)
    scene.until(lambda: folder.state == "held")
    return folder


def test_what_is_held_is_unverified_and_the_rest_is_not(scene: Any) -> None:
    held(scene)
    assert scene.watcher.is_unverified(str(scene.folder / "0.jpg"))
    assert not scene.watcher.is_unverified(str(scene.folder / "9.jpg"))
    assert not scene.watcher.is_unverified("/elsewhere/0.jpg")


def test_a_folder_that_is_away_is_unverified_with_all_that_is_in_it(scene: Any) -> None:
    scene.write(*NAMES)
    folder = scene.start()
    scene.settle()
    scene.folder.rename(scene.outside / "photos")
    scene.until(lambda: folder.state == "missing")
    assert scene.watcher.is_unverified(str(scene.folder / "0.jpg"))
    assert folder.asks
    (scene.outside / "photos").rename(scene.folder)
    scene.until(lambda: folder.state == "watching")
    scene.settle()
    assert not scene.watcher.is_unverified(str(scene.folder / "0.jpg"))
    assert scene.indexed == NAMES


def test_a_look_that_no_event_asked_for_takes_nothing_held_out(scene: Any) -> None:
    held(scene)
    path = str(scene.folder / "0.jpg")
    scene.watcher.compare_again(path)
    scene.until(lambda: not scene.watcher.busy and not len(scene.pending))
    assert scene.indexed == NAMES


def test_a_held_file_that_came_back_and_is_deleted_is_gone(scene: Any) -> None:
    held(scene)
    scene.write("0.jpg")
    scene.until(lambda: ("0.jpg", Hint.CLOSED) in scene.looked)
    (scene.folder / "0.jpg").unlink()
    scene.until(lambda: scene.indexed == NAMES - {"0.jpg"})


def test_approved_deletions_are_carried_out(scene: Any) -> None:
    folder = held(scene)
    scene.watcher.approve(folder)
    scene.until(lambda: folder.state == "watching")
    scene.settle()
    assert scene.indexed == {"7.jpg", "8.jpg", "9.jpg"}
    assert (folder.held, folder.note) == (0, "")


def test_what_was_approved_and_is_back_stays(scene: Any) -> None:
    folder = held(scene)
    scene.write("0.jpg")
    scene.watcher.approve(folder)
    scene.until(lambda: folder.state == "watching")
    scene.settle()
    assert scene.indexed == {"0.jpg", "7.jpg", "8.jpg", "9.jpg"}


def test_an_approval_is_for_what_was_missing_and_not_for_a_disk_that_goes_away_after_it(scene: Any) -> None:
    folder = held(scene, missing=3)
    for name in ("3.jpg", "4.jpg", "5.jpg", "6.jpg", "7.jpg", "8.jpg", "9.jpg"):
        scene.index[os.fsencode(scene.folder / "away" / name)] = "1 2 3"
        (scene.folder / name).unlink()
        scene.pending.take(1)
        scene.pending.done(str(scene.folder / name))
    scene.watcher.approve(folder)
    scene.until(lambda: not scene.watcher.busy)
    assert {name for name in scene.indexed if name.startswith("away")} == {f"away/{n}.jpg" for n in range(3, 10)}
    assert not scene.indexed & {"0.jpg", "1.jpg", "2.jpg"}
    assert folder.state == "held"


def test_a_folder_that_is_away_for_good_is_taken_out_when_somebody_says_so(scene: Any) -> None:
    scene.record(*NAMES)
    scene.folder.rmdir()
    folder = scene.start(room=4)
    scene.until(lambda: folder.state == "missing")
    assert scene.indexed == NAMES
    scene.watcher.approve(folder)
    scene.until(lambda: not scene.index)
    assert folder.state == "missing"
    scene.write("new.jpg")
    scene.until(lambda: folder.state == "watching")
    scene.settle()
    assert scene.indexed == {"new.jpg"}
    assert not folder.view.approved


def test_rejected_deletions_are_kept_without_asking_again_until_the_files_are_back(scene: Any) -> None:
    folder = held(scene, poll=0.2)
    assert folder.asks
    scene.watcher.reject(folder)
    assert (folder.state, folder.asks) == ("kept", False)
    walks = scene.watcher.reconciles
    scene.until(lambda: scene.watcher.reconciles > walks + 1)
    assert (folder.state, folder.note) == (
        "kept",
        "7 of 10 photos are missing from it; they are kept in the index until they are back",
    )
    assert scene.watcher.is_unverified(str(scene.folder / "0.jpg"))
    scene.write(*NAMES)
    scene.until(lambda: folder.state == "watching")
    scene.settle()
    assert scene.indexed == NAMES
    assert scene.memory.recall(folder.path).kept == 0


def test_what_is_kept_stays_when_so_few_are_left_that_nobody_would_ask(scene: Any) -> None:
    folder = held(scene, poll=0.2)
    scene.watcher.reject(folder)
    scene.write(*(f"{n}.jpg" for n in range(1, 7)))
    scene.until(lambda: folder.held == 1)
    assert (folder.state, scene.indexed) == ("kept", NAMES)


def test_more_missing_than_were_kept_are_asked_about(scene: Any) -> None:
    folder = held(scene, poll=0.2, missing=5)
    scene.watcher.reject(folder)
    scene.record("a.jpg", "b.jpg")
    scene.until(lambda: folder.held == 7)
    assert (folder.state, folder.asks) == ("held", True)


def test_a_decision_survives_a_restart(scene: Any) -> None:
    folder = held(scene)
    scene.watcher.reject(folder)
    scene.stop()
    again = scene.start()
    scene.until(lambda: again.last)
    assert (again.state, again.held, again.asks) == ("kept", 7, False)
    assert scene.indexed == NAMES


def test_a_missing_folder_can_be_kept_without_asking(scene: Any) -> None:
    scene.record(*NAMES)
    scene.folder.rmdir()
    folder = scene.start()
    scene.until(lambda: folder.state == "missing" and not scene.watcher.busy)
    scene.watcher.reject(folder)
    assert not folder.asks
    scene.folder.mkdir()
    scene.until(lambda: folder.state == "kept")
    assert (folder.held, scene.indexed) == (10, NAMES)


def test_a_decision_that_cannot_be_written_is_not_made(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = held(scene)

    def away(*_: object) -> None:
        raise StoreUnavailable("Redis", "somewhere", "is away")

    monkeypatch.setattr(scene.memory, "remember", away)
    with pytest.raises(StoreUnavailable):
        scene.watcher.reject(folder)
    assert (folder.state, folder.asks) == ("held", True)


def test_asking_for_a_part_of_a_folder_does_not_go_round_the_brake(scene: Any) -> None:
    scene.write("keep.jpg", *(f"sub/{n}.jpg" for n in range(5)))
    scene.index_all()
    folder = scene.start(watch="poll")
    scene.settle()
    shutil.rmtree(scene.folder / "sub")
    (scene.folder / "sub").mkdir()
    done = scene.watcher.compare_again(str(scene.folder / "sub"))
    scene.until(done.is_set)
    assert (folder.state, folder.held, len(scene.indexed)) == ("held", 5, 6)


def test_what_waits_for_a_part_waits_for_the_whole_that_takes_its_place(scene: Any) -> None:
    scene.write(*(f"sub/{n}.jpg" for n in range(5)), "keep.jpg")
    scene.index_all()
    folder = scene.start(watch="poll")
    scene.settle()
    first = folder.last
    shutil.rmtree(scene.folder / "sub")
    done = scene.watcher.compare_again(str(scene.folder / "sub"))
    scene.until(done.is_set)
    assert folder.last is not first
    assert folder.held


# Disks


@pytest.mark.mounts
def test_an_unmounted_folder_keeps_its_photos_and_they_are_verified_when_it_is_back(scene: Any, watch_kit: Any) -> None:
    with watch_kit.mounted(scene.folder):
        scene.write(*NAMES)
        folder = scene.start(poll=0.2)
        scene.settle()
        watch_kit.unmount(scene.folder)
        scene.until(lambda: folder.state == "held")
        assert scene.indexed == NAMES
        assert folder.note.startswith("no photo is in it any more, and 10 are in the index")
        with watch_kit.mounted(scene.folder):
            scene.write(*NAMES)
            scene.until(lambda: folder.state == "watching")
            scene.settle()
            assert scene.indexed == NAMES


@pytest.mark.mounts
@pytest.mark.parametrize("watch", ["events", "poll"])
def test_a_disk_that_is_unmounted_in_a_folder_costs_none_of_its_photos(scene: Any, watch_kit: Any, watch: str) -> None:
    scene.write("keep.jpg", "disk/x.txt")
    (scene.folder / "disk" / "x.txt").unlink()
    with watch_kit.mounted(scene.folder / "disk"):
        scene.write("disk/a.jpg", "disk/b.jpg")
        folder = scene.start(watch=watch, brake=LOOSE)
        scene.settle()
        watch_kit.unmount(scene.folder / "disk")
        scene.until(lambda: folder.state == "held")
        assert folder.held == 2
        assert folder.note.startswith(
            f"{scene.folder}/disk is not the file system it was, and 2 photos of it are missing"
        )
        assert scene.indexed == {"keep.jpg", "disk/a.jpg", "disk/b.jpg"}
        assert scene.watcher.is_unverified(str(scene.folder / "disk/a.jpg"))
        assert not scene.watcher.is_reachable(str(scene.folder / "disk/a.jpg"))
        assert scene.watcher.is_reachable(str(scene.folder / "keep.jpg"))


@pytest.mark.mounts
def test_a_mount_point_that_goes_with_its_disk_costs_none_of_its_photos(scene: Any, watch_kit: Any) -> None:
    """As where an automounter makes and removes it."""
    (scene.folder / "usb").mkdir()
    with watch_kit.mounted(scene.folder / "usb"):
        scene.write("keep.jpg", "usb/a.jpg")
        folder = scene.start(brake=LOOSE)
        scene.settle()
        watch_kit.unmount(scene.folder / "usb")
        (scene.folder / "usb").rmdir()
        scene.until(lambda: folder.state == "held")
        scene.until(lambda: not scene.watcher.busy and not len(scene.pending))
        assert scene.indexed == {"keep.jpg", "usb/a.jpg"}
        scene.watcher.approve(folder)
        scene.until(lambda: folder.state == "watching")
        scene.settle()
        assert scene.indexed == {"keep.jpg"}


@pytest.mark.mounts
def test_a_disk_that_was_unmounted_while_nobody_looked_costs_none_of_its_photos(scene: Any, watch_kit: Any) -> None:
    (scene.folder / "disk").mkdir()
    with watch_kit.mounted(scene.folder / "disk"):
        scene.write("keep.jpg", "disk/a.jpg")
        scene.start(brake=LOOSE)
        scene.settle()
        scene.stop()
    folder = scene.start(brake=LOOSE)
    scene.until(lambda: folder.last)
    assert (folder.state, folder.held, scene.indexed) == ("held", 1, {"keep.jpg", "disk/a.jpg"})


@pytest.mark.mounts
def test_another_disk_in_the_place_of_one_costs_none_of_its_photos(scene: Any, watch_kit: Any) -> None:
    with watch_kit.mounted(scene.folder):
        scene.write("a.jpg")
        folder = scene.start(brake=LOOSE)
        scene.settle()
        with watch_kit.mounted(scene.folder):
            scene.write("b.jpg")
            scene.until(lambda: folder.state == "held")
            scene.until(lambda: scene.indexed == {"a.jpg", "b.jpg"})
            assert folder.note.startswith(
                f"{scene.folder} is not the file system it was, and 1 photos of it are missing"
            )
        # Now the second disk is away, and the first is back.
        scene.until(lambda: folder.view.held == {str(scene.folder / "b.jpg")})
        assert scene.indexed == {"a.jpg", "b.jpg"}
        assert not scene.watcher.is_unverified(str(scene.folder / "a.jpg"))


@pytest.mark.mounts
def test_a_disk_that_is_mounted_in_a_folder_is_watched_at_once(scene: Any, watch_kit: Any) -> None:
    (scene.folder / "disk").mkdir()
    scene.start()
    scene.settle()
    with watch_kit.mounted(scene.folder / "disk"):
        scene.write("disk/first.jpg")
        scene.until(lambda: "disk/first.jpg" in scene.indexed)
        scene.write("disk/second.jpg")
        scene.until(lambda: ("disk/second.jpg", Hint.CLOSED) in scene.looked)


@pytest.mark.mounts
def test_photos_deleted_on_a_disk_that_is_there_go(scene: Any, watch_kit: Any) -> None:
    (scene.folder / "disk").mkdir()
    with watch_kit.mounted(scene.folder / "disk"):
        scene.write("keep.jpg", "disk/a.jpg", "disk/deep/b.jpg")
        folder = scene.start(brake=LOOSE)
        scene.settle()
        shutil.rmtree(scene.folder / "disk" / "deep")
        scene.until(lambda: scene.indexed == {"keep.jpg", "disk/a.jpg"})
        (scene.folder / "disk" / "a.jpg").unlink()
        scene.until(lambda: scene.indexed == {"keep.jpg"})
        assert folder.state == "watching"


def test_a_disk_with_another_number_and_the_same_photos_is_the_same_disk(scene: Any) -> None:
    """As after a restart, where the number of a disk is that of the order in which disks were found."""
    scene.write("a.jpg", "b.jpg")
    scene.index_all()
    scene.record("gone.jpg")
    kind, _, top = volumes(str(scene.folder))[str(scene.folder)].split(" ")
    scene.memory.remember(str(scene.folder), Remembered({str(scene.folder): f"{kind} another {top}"}))
    folder = scene.start(brake=LOOSE)
    scene.settle()
    assert (folder.state, scene.indexed) == ("watching", {"a.jpg", "b.jpg"})
    assert scene.memory.recall(str(scene.folder)).volumes == volumes(str(scene.folder))


def test_a_hold_is_said_once(scene: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        held(scene, poll=0.1)
        walks = scene.watcher.reconciles
        scene.until(lambda: scene.watcher.reconciles > walks + 2)
    assert len([record for record in caplog.records if "are missing" in record.message]) == 1


# A hold belongs to the volume that went away


def until_walked(scene: Any, times: int = 2) -> None:
    """Wait until so many more walks have gone through, and everything is looked at."""
    walks = scene.watcher.reconciles
    for _ in range(times):
        scene.watcher.rescan_all("a test")
        scene.until(lambda: not scene.watcher.busy and not len(scene.pending))
    assert scene.watcher.reconciles >= walks + times


def paths(scene: Any, *names: str) -> set[str]:
    return {str(scene.folder / name) for name in names}


@pytest.mark.mounts
@pytest.mark.parametrize("watch", ["events", "poll"])
def test_photos_of_another_disk_never_lift_a_hold(scene: Any, watch_kit: Any, watch: str) -> None:
    with watch_kit.mounted(scene.folder):
        scene.write("a.jpg", "b.jpg", "c.jpg")
        folder = scene.start(watch=watch, poll=0.3)
        scene.settle()
        watch_kit.unmount(scene.folder)
        with watch_kit.mounted(scene.folder):
            scene.write("d.jpg", "c.jpg")
            scene.until(lambda: scene.indexed == {"a.jpg", "b.jpg", "c.jpg", "d.jpg"} and folder.held)
            until_walked(scene)
            assert folder.view.held == paths(scene, "a.jpg", "b.jpg")
            assert (folder.state, folder.asks) == ("held", True)
            scene.write("e.jpg")
            (scene.folder / "d.jpg").unlink()
            scene.until(lambda: scene.indexed == {"a.jpg", "b.jpg", "c.jpg", "e.jpg"})
            assert folder.view.held == paths(scene, "a.jpg", "b.jpg")


@pytest.mark.mounts
def test_a_photo_under_the_mount_point_never_lifts_a_hold(scene: Any, watch_kit: Any) -> None:
    (scene.folder / "disk").mkdir()
    scene.write("keep.jpg", "disk/under.jpg")
    with watch_kit.mounted(scene.folder / "disk"):
        scene.write("disk/a.jpg", "disk/b.jpg")
        folder = scene.start(poll=0.3)
        scene.settle()
        watch_kit.unmount(scene.folder / "disk")
        scene.until(lambda: "disk/under.jpg" in scene.indexed)
        until_walked(scene)
        assert folder.view.held == paths(scene, "disk/a.jpg", "disk/b.jpg")
        assert scene.indexed == {"keep.jpg", "disk/under.jpg", "disk/a.jpg", "disk/b.jpg"}


@pytest.mark.mounts
def test_photos_that_a_disk_covers_are_held_until_it_is_unmounted(scene: Any, watch_kit: Any) -> None:
    scene.write("keep.jpg", "disk/under.jpg")
    folder = scene.start(brake=LOOSE)
    scene.settle()
    with watch_kit.mounted(scene.folder / "disk"):
        scene.write("disk/a.jpg")
        scene.until(lambda: folder.view.held == paths(scene, "disk/under.jpg") and "disk/a.jpg" in scene.indexed)
        watch_kit.unmount(scene.folder / "disk")
        scene.until(lambda: folder.view.held == paths(scene, "disk/a.jpg"))
        assert scene.indexed == {"keep.jpg", "disk/under.jpg", "disk/a.jpg"}


def test_a_folder_whose_parent_was_renamed_is_another_volume(place: Path, watch_kit: Any) -> None:
    (place / "parent").mkdir()
    scene = watch_kit.scene(place / "parent")
    try:
        scene.write("a.jpg", "b.jpg")
        folder = scene.start(brake=LOOSE)
        scene.settle()
        (place / "parent").rename(place / "moved")
        scene.write("new.jpg")
        scene.until(lambda: "new.jpg" in scene.indexed and folder.held)
        until_walked(scene)
        assert folder.view.held == paths(scene, "a.jpg", "b.jpg")
        shutil.rmtree(place / "parent")
        (place / "moved").rename(place / "parent")
        scene.until(lambda: folder.view.held == paths(scene, "new.jpg"))
        assert scene.indexed == {"a.jpg", "b.jpg", "new.jpg"}
    finally:
        scene.stop()


@pytest.mark.mounts
def test_a_disk_that_is_swapped_between_two_looks_at_the_mounts_is_noticed(scene: Any, watch_kit: Any) -> None:
    (scene.folder / "disk").mkdir()
    with watch_kit.mounted(scene.folder / "disk"):
        scene.write("keep.jpg", "disk/a.jpg")
        folder = scene.start(brake=LOOSE)
        scene.settle()
        watch_kit.unmount(scene.folder / "disk")
        with watch_kit.mounted(scene.folder / "disk"):
            scene.write("disk/b.jpg")
            scene.until(lambda: "disk/b.jpg" in scene.indexed)
            scene.until(lambda: folder.view.held == paths(scene, "disk/a.jpg"))


@pytest.mark.mounts
def test_a_hold_stands_from_the_first_moment_after_a_restart(scene: Any, watch_kit: Any) -> None:
    with watch_kit.mounted(scene.folder):
        scene.write("a.jpg", "b.jpg")
        folder = scene.start(brake=LOOSE)
        scene.settle()
    scene.write("c.jpg")
    scene.until(lambda: folder.held and "c.jpg" in scene.indexed)
    scene.stop()
    again = scene.start(brake=LOOSE)
    assert (again.view.held, again.state) == (paths(scene, "a.jpg", "b.jpg"), "held")
    until_walked(scene)
    assert again.view.held == paths(scene, "a.jpg", "b.jpg")
    assert scene.indexed == {"a.jpg", "b.jpg", "c.jpg"}


@pytest.mark.mounts
def test_what_was_deleted_on_a_disk_while_it_was_away_is_judged_when_it_is_back(scene: Any, watch_kit: Any) -> None:
    (scene.folder / "disk").mkdir()
    scene.write(*NAMES)
    with watch_kit.mounted(scene.outside), watch_kit.mounted(scene.folder / "disk"):
        scene.write("disk/a.jpg", "disk/b.jpg")
        folder = scene.start()
        scene.settle()
        watch_kit.bind(scene.folder / "disk", scene.outside)
        watch_kit.unmount(scene.folder / "disk")
        scene.until(lambda: folder.held == 2)
        (scene.outside / "a.jpg").unlink()
        watch_kit.bind(scene.outside, scene.folder / "disk")
        scene.until(lambda: scene.indexed == NAMES | {"disk/b.jpg"} and not folder.held)
        watch_kit.unmount(scene.outside)


@pytest.mark.mounts
def test_the_decision_about_one_disk_is_not_about_another(scene: Any, watch_kit: Any) -> None:
    scene.write("keep.jpg")
    for name in ("one", "two"):
        (scene.folder / name).mkdir()
    with watch_kit.mounted(scene.folder / "one"), watch_kit.mounted(scene.folder / "two"):
        scene.write("one/a.jpg", "two/b.jpg")
        folder = scene.start(brake=LOOSE, poll=0.3)
        scene.settle()
        watch_kit.unmount(scene.folder / "one")
        scene.until(lambda: folder.held == 1)
        scene.watcher.reject(folder)
        assert (folder.state, folder.asks) == ("kept", False)
        watch_kit.unmount(scene.folder / "two")
        scene.until(lambda: folder.held == 2)
        assert (folder.state, folder.asks) == ("held", True)
        scene.watcher.approve(folder)
        scene.until(lambda: scene.indexed == {"keep.jpg"} and folder.state == "watching")


def test_photos_that_were_copied_elsewhere_and_deleted_need_no_decision(scene: Any) -> None:
    """As where a folder was moved to another file system, while nobody watched."""
    names = [f"new/{n}.jpg" for n in range(10)]
    scene.write(*names)
    scene.record(*(f"old/{n}.jpg" for n in range(10)))
    for n in range(10):
        scene.copies[str(scene.folder / f"old/{n}.jpg")] = [str(scene.folder / f"new/{n}.jpg")]
    folder = scene.start(poll=0.2)
    scene.until(lambda: folder.last)
    scene.settle()
    assert scene.indexed == set(names)
    assert not folder.held


def test_a_walk_that_overtakes_the_event_of_a_deletion_holds_nothing_for_good(scene: Any) -> None:
    scene.write("keep.jpg", *(f"trip/{n}.jpg" for n in range(10)))
    folder = scene.start()
    scene.settle()
    (scene.folder / "trip").rename(scene.outside / "trip")
    # watchdog keeps the event back for half a second, in case that its other half follows.
    scene.watcher.rescan_all("a test")
    scene.until(lambda: scene.indexed == {"keep.jpg"})
    scene.until(lambda: (folder.state, folder.held) == ("watching", 0))


# Decisions are commands


def test_a_decision_is_in_force_when_it_is_answered_even_while_a_walk_waits_for_room(scene: Any) -> None:
    folder = held(scene)
    scene.write(*(f"more/{n}.jpg" for n in range(50)))
    scene.stop()
    folder = scene.start(room=4)
    scene.eventually(lambda: scene.watcher.walking and len(scene.pending) >= 2)
    scene.watcher.reject(folder)
    assert (folder.state, folder.asks) == ("kept", False)
    scene.watcher.approve(folder)
    assert {hold.decision for hold in scene.memory.recall(folder.path).holds} == {"approved"}
    scene.until(lambda: folder.state == "watching" and not scene.watcher.busy)
    assert not scene.indexed & {"0.jpg", "1.jpg"}


def test_a_decision_says_how_many_files_it_is_about(scene: Any) -> None:
    folder = held(scene)
    assert scene.watcher.reject(folder) == 7
    assert scene.watcher.reject(folder) == 7
    assert scene.watcher.approve(folder) == 7


def test_an_approval_stands_and_whoever_decides_after_it_is_told_so(scene: Any) -> None:
    """No decision says that files are kept that are on their way out of the index."""
    folder = held(scene)
    assert scene.watcher.approve(folder) == 7
    for decide in (scene.watcher.reject, scene.watcher.approve):
        with pytest.raises(QueryError, match=r"was approved before, and is under way") as refused:
            decide(folder)
        assert refused.value.code == "not_held"
    # The scene has carried out no deletion so far. Some are, then.
    for n in range(3):
        del scene.index[os.fsencode(scene.folder / f"{n}.jpg")]
    scene.watcher.noticed([str(scene.folder / f"{n}.jpg") for n in range(3)])
    scene.eventually(lambda: folder.held == 4)
    with pytest.raises(QueryError, match="was approved before"):
        scene.watcher.reject(folder)
    assert {hold.decision for hold in scene.memory.recall(folder.path).holds} == {"approved"}


def test_what_leaves_the_index_while_a_walk_is_under_way_is_not_held(scene: Any) -> None:
    scene.write("there.jpg")
    scene.index_all()
    scene.record(*NAMES)
    below = scene.below

    def leaving(folder: str) -> Iterator[tuple[bytes, str]]:
        yield from below(folder)
        for name in NAMES:
            scene.index.pop(os.fsencode(scene.folder / name), None)

    scene.recording = replace(scene.recording, below=leaving)
    folder = scene.start()
    asked = set()

    def has_walked() -> object:
        asked.add(folder.asks)
        return folder.last

    scene.until(has_walked)
    assert (asked, folder.state, folder.held) == ({False}, "watching", 0)


def test_a_missing_folder_that_was_approved_is_not_kept_after_it(scene: Any) -> None:
    scene.record(*NAMES)
    scene.folder.rmdir()
    folder = scene.start()
    scene.eventually(lambda: folder.state == "missing")
    assert scene.watcher.approve(folder) == 10
    with pytest.raises(QueryError, match="was approved before"):
        scene.watcher.reject(folder)
    scene.until(lambda: not scene.index)


def test_an_approval_is_carried_out_by_the_next_process_if_this_one_was_killed_after_it(scene: Any) -> None:
    folder = held(scene)
    scene.watcher._stop.set()
    scene.watcher._memory.remember(folder.path, scene.watcher._recall(folder))
    scene.watcher._approve(folder)
    scene.stop()
    assert scene.indexed == NAMES
    again = scene.start()
    scene.until(lambda: again.state == "watching")
    scene.settle()
    assert scene.indexed == {"7.jpg", "8.jpg", "9.jpg"}


@pytest.mark.mounts
def test_an_approval_that_comes_while_a_missing_folder_comes_back_does_not_outlive_it(
    scene: Any, watch_kit: Any
) -> None:
    with watch_kit.mounted(scene.folder):
        scene.write(*NAMES)
        folder = scene.start(brake=LOOSE)
        scene.settle()
        (scene.folder.parent / "elsewhere").mkdir()
        watch_kit.bind(scene.folder, scene.folder.parent / "elsewhere")
        watch_kit.unmount(scene.folder)
        scene.folder.rmdir()
        scene.until(lambda: folder.state == "missing")
        scene.folder.mkdir()
        watch_kit.bind(scene.folder.parent / "elsewhere", scene.folder)
        watch_kit.unmount(scene.folder.parent / "elsewhere")
        scene.watcher.approve(folder)
        scene.until(lambda: folder.state == "watching" and not folder.held and not scene.watcher.busy)
        scene.settle()
        assert scene.indexed == NAMES
        watch_kit.unmount(scene.folder)
        scene.until(lambda: folder.held == len(NAMES))
        assert scene.indexed == NAMES


def test_a_watcher_that_stops_answers_what_it_accepted_and_refuses_the_rest(scene: Any) -> None:
    folder = held(scene)
    scene.stop()
    with pytest.raises(QueryError, match="is stopping"):
        scene.watcher.approve(folder)
