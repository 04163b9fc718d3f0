"""The watched folders as a whole: real events, a real Pending, and an index in memory that follows it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from watchdog.observers.inotify_c import InotifyFD

from daemon import beneath
from daemon.changes import Hint
from daemon.errors import StoreRefused, StoreUnavailable
from daemon.watch import reconcile
from daemon.watch import watcher as module
from daemon.watch.brake import Brake
from daemon.watch.filters import Filters
from daemon.watch.mounts import Mount
from daemon.watch.reconcile import Recording, Walk
from daemon.watch.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


FILTERS = Filters([".*", "@eaDir"], [".jpg"])
NEVER = 1e6


@pytest.fixture
def scene(place: Path, watch_kit: Any) -> Iterator[Any]:
    scene = watch_kit.scene(place)
    yield scene
    scene.stop()


def test_the_first_walk_finds_what_is_there_and_forgets_what_is_not(scene: Any) -> None:
    scene.write("known.jpg")
    scene.index_all()
    scene.write(*(f"{n}/{m}.jpg" for n in range(5) for m in range(5)))
    scene.record("gone.jpg")
    folder = scene.start()
    assert scene.watcher is not None
    scene.settle()
    assert len(scene.indexed) == 26
    assert folder.state == "watching"
    assert folder.note == ""
    assert folder.last is not None
    assert (folder.last.files, folder.last.added, folder.last.removed) == (26, 25, 1)
    assert scene.watcher.walking == ""


def test_what_happens_later_follows_without_another_walk_of_all(scene: Any) -> None:
    scene.write("a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "old/d.jpg")
    folder = scene.start()
    scene.settle()
    first = folder.last
    scene.write("new.jpg", "x/y/z/new.jpg")
    (scene.folder / "a.jpg").write_text("something else")
    (scene.folder / "old").rename(scene.folder / "older")
    shutil.rmtree(scene.folder / "sub")
    scene.until(lambda: scene.indexed == {"a.jpg", "new.jpg", "x/y/z/new.jpg", "older/d.jpg"})
    scene.settle()
    assert folder.last is first


def test_files_deleted_one_by_one_go_however_many_they_are(scene: Any) -> None:
    scene.write(*(f"{n}.jpg" for n in range(50)))
    folder = scene.start(brake=Brake(ratio=0.0, count=0))
    scene.settle()
    for n in range(50):
        (scene.folder / f"{n}.jpg").unlink()
    scene.until(lambda: not scene.index)
    assert folder.held == 0
    assert folder.state == "watching"


@pytest.mark.parametrize("act", ["delete", "move out"])
def test_a_directory_that_goes_takes_its_photos_with_it_however_many_they_are(scene: Any, act: str) -> None:
    scene.write("keep.jpg", *(f"trip/{n}/a.jpg" for n in range(30)))
    folder = scene.start(brake=Brake(ratio=0.0, count=0))
    scene.settle()
    if act == "delete":
        shutil.rmtree(scene.folder / "trip")
    else:
        (scene.folder / "trip").rename(scene.outside / "trip")
    scene.until(lambda: scene.indexed == {"keep.jpg"})
    assert folder.held == 0


def test_more_changes_than_can_be_listed_become_a_walk(scene: Any) -> None:
    folder = scene.start(room=10)
    scene.settle()
    assert scene.watcher is not None
    watcher, first = scene.watcher, folder.last
    scene.write(*(f"{n}.jpg" for n in range(200)))
    scene.eventually(lambda: watcher.busy)
    assert len(scene.pending) == 10
    scene.settle()
    assert len(scene.indexed) == 200
    assert folder.last is not first


def test_a_walk_leaves_room_for_what_happens_meanwhile(scene: Any) -> None:
    scene.write(*(f"{n}/{m}.jpg" for n in range(4) for m in range(500)))
    scene.start(room=1500)
    assert scene.watcher is not None
    watcher = scene.watcher
    scene.eventually(lambda: len(scene.pending) >= 750)
    scene.write("live.jpg")
    scene.eventually(lambda: str(scene.folder / "live.jpg") in scene.pending._entries)
    assert watcher.walking
    scene.settle()
    assert scene.looked[0] != ("live.jpg", Hint.FOUND)
    assert ("live.jpg", Hint.CLOSED) in scene.looked


def test_many_missing_at_once_are_held_until_they_are_back(scene: Any, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{n}.jpg" for n in range(10)]
    scene.write(*names[:3])
    scene.index_all()
    scene.record(*names[3:])
    folder = scene.start(poll=0.2)
    scene.until(lambda: folder.last)
    assert (folder.state, folder.held) == ("held", 7)
    assert folder.note == (
        "7 of 10 photos are missing from it; "
        "they are kept in the index until they are back, or until you decide: lookalike deletions list"
    )
    assert len([record for record in caplog.records if "are missing from it" in record.message]) == 1
    assert scene.indexed == set(names)
    scene.write(*names[3:])
    scene.until(lambda: folder.state == "watching")
    assert (folder.held, folder.note) == (0, "")
    scene.settle()
    assert scene.indexed == set(names)


def test_some_missing_are_let_go(scene: Any) -> None:
    scene.write(*(f"{n}.jpg" for n in range(10)))
    scene.index_all()
    scene.record("a.jpg", "b.jpg")
    folder = scene.start()
    scene.settle()
    assert (folder.state, folder.held) == ("watching", 0)


@pytest.mark.parametrize(
    ("missing", "recorded", "held"),
    [(100, 101, False), (101, 1000, False), (200, 1000, False), (201, 1000, True), (0, 0, False), (101, 101, True)],
)
def test_the_brake_wants_more_than_the_count_and_more_than_the_ratio(missing: int, recorded: int, held: bool) -> None:  # noqa: FBT001
    assert Brake(ratio=0.2, count=100).holds(missing, recorded) is held


def test_an_emptied_folder_is_held_however_few_its_photos_were(scene: Any) -> None:
    scene.record("only.jpg")
    folder = scene.start(brake=Brake(ratio=1.0, count=1000))
    scene.until(lambda: folder.last)
    assert (folder.state, folder.held) == ("held", 1)
    assert scene.indexed == {"only.jpg"}


def test_a_folder_that_is_missing_at_the_start_is_watched_when_it_comes(scene: Any) -> None:
    scene.record("a.jpg")
    scene.folder.rmdir()
    folder = scene.start()
    assert scene.watcher is not None
    watcher = scene.watcher
    scene.until(lambda: not watcher.busy)
    assert folder.state == "missing"
    assert "does not exist" in folder.note
    assert watcher.walked
    assert not watcher.is_reachable(str(scene.folder / "a.jpg"))
    assert scene.indexed == {"a.jpg"}
    scene.write("a.jpg")
    scene.until(lambda: folder.state == "watching")
    scene.settle()
    assert folder.note == ""
    scene.write("sub/b.jpg")
    scene.settle()


def test_a_folder_that_is_removed_and_made_again_heals(scene: Any, watch_kit: Any) -> None:
    scene.write("sub/a.jpg", "b.jpg")
    folder = scene.start()
    scene.settle()
    shutil.rmtree(scene.folder)
    scene.until(lambda: folder.state == "missing")
    scene.write("sub/a.jpg", "b.jpg")
    scene.until(lambda: folder.state == "watching" and folder.watch.armed)
    scene.settle()
    assert watch_kit.held_watches() == 2
    scene.write("sub/c.jpg")
    scene.until(lambda: "sub/c.jpg" in scene.indexed)


def test_a_folder_that_another_one_was_put_in_place_of_is_watched_and_nothing_is_forgotten(scene: Any) -> None:
    scene.write("a.jpg", "sub/b.jpg")
    folder = scene.start()
    scene.settle()
    assert scene.watcher is not None
    watcher = scene.watcher
    scene.folder.rename(scene.outside / "photos")
    scene.folder.mkdir()
    # Asked for before the lost watch is noticed: a walk must not take the new folder for the one that is watched.
    watcher.rescan(str(scene.folder / "sub"), "a test")
    watcher.rescan_all("a test")
    scene.until(lambda: folder.held == 2)
    assert scene.indexed == {"a.jpg", "sub/b.jpg"}
    scene.until(lambda: folder.watch.armed)
    scene.write("new.jpg")
    scene.until(lambda: "new.jpg" in scene.indexed)


def test_watches_are_looked_after_while_walks_are_asked_for_without_end(scene: Any) -> None:
    scene.write("sub/a.jpg")
    folder = scene.start()
    scene.settle()
    assert scene.watcher is not None
    watcher, done = scene.watcher, threading.Event()

    def ask() -> None:
        while not done.wait(0.001):
            watcher.rescan(str(scene.folder / "sub"), "a test")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        scene.folder.rename(scene.outside / "photos")
        scene.until(lambda: folder.state == "missing")
        (scene.outside / "photos").rename(scene.folder)
        scene.until(lambda: folder.state == "watching")
    finally:
        done.set()
        asking.join()


def test_a_folder_that_may_not_be_read_is_kept_and_seen_again(scene: Any, watch_kit: Any) -> None:
    scene.write("a.jpg")
    scene.record("b.jpg")
    scene.folder.chmod(0)
    with watch_kit.unprivileged(scene.folder):
        folder = scene.start()
        scene.until(lambda: folder.state == "unreadable")
        assert "permission denied" in folder.note
        assert scene.indexed == {"b.jpg"}
        scene.folder.chmod(0o755)
        scene.until(lambda: "a.jpg" in scene.indexed)
        assert folder.mode == "events"


def test_a_file_in_place_of_a_folder_is_a_missing_folder(scene: Any) -> None:
    scene.folder.rmdir()
    scene.folder.write_text("not a folder")
    assert scene.start().state == "missing"


def test_a_polled_folder_holds_no_watch_and_is_walked_again_and_again(scene: Any, watch_kit: Any) -> None:
    scene.write("a.jpg")
    folder = scene.start(watch="poll", poll=0.05)
    scene.settle()
    assert (folder.mode, folder.note, watch_kit.held_watches()) == ("poll", "", 0)
    scene.write("sub/b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg")
    scene.settle()
    (scene.folder / "a.jpg").unlink()
    scene.settle()
    assert "a.jpg" not in scene.indexed


def test_what_is_said_of_a_polled_folder_is_said_of_now(
    scene: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene.write("a.jpg", "locked/b.jpg")
    real = beneath.listing_in

    def listing_in(place: int, name: bytes) -> int:
        if name == b"locked":
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return real(place, name)

    with monkeypatch.context() as patch:
        patch.setattr(beneath, "listing_in", listing_in)
        folder = scene.start(watch="poll", poll=0.05)
        for _ in range(4):
            before = folder.last
            scene.until(lambda before=before: folder.last is not before)
        assert folder.note.count("cannot be read") == 1
        assert "1 of the folders" in folder.note
        assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1
    scene.until(lambda: folder.note == "")
    shutil.move(scene.folder, scene.outside)
    scene.until(lambda: folder.state == "missing")
    shutil.move(scene.outside / "photos", scene.folder)
    scene.until(lambda: folder.state == "watching")
    assert folder.note == ""


@pytest.mark.parametrize(("watch", "mode"), [("auto", "poll"), ("events", "events"), ("poll", "poll")])
def test_a_network_file_system_is_polled_unless_events_are_asked_for(
    scene: Any, monkeypatch: pytest.MonkeyPatch, watch: str, mode: str
) -> None:
    monkeypatch.setattr(module, "mount_of", lambda _: Mount("/", "nfs4"))
    folder = scene.start(watch=watch)
    assert folder.mode == mode
    scene.settle()
    assert (folder.note == "nfs4 raises no events for changes made elsewhere, so the folder is polled") is (
        mode == "poll"
    )


def test_a_network_file_system_that_is_mounted_over_a_watched_folder_is_polled(
    scene: Any, monkeypatch: pytest.MonkeyPatch, watch_kit: Any
) -> None:
    folder = scene.start(watch="auto")
    scene.settle()
    assert folder.mode == "events"
    monkeypatch.setattr(module, "mount_of", lambda _: Mount("/", "nfs4"))
    scene.folder.rename(scene.outside / "photos")
    scene.folder.mkdir()
    scene.until(lambda: folder.mode == "poll" and watch_kit.held_watches() == 0)


def test_directories_without_a_watch_are_polled_and_the_note_names_the_setting(
    scene: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene.write("a.jpg", "sub/b.jpg")
    original, root = InotifyFD._get_or_create_watch, os.fsencode(scene.folder)

    def get(self: InotifyFD, path: bytes, mask: Any) -> Any:
        if path == root:
            return original(self, path, mask)
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    with monkeypatch.context() as patch:
        patch.setattr(InotifyFD, "_get_or_create_watch", get)
        folder = scene.start(poll=0.1)
        scene.settle()
        scene.until(lambda: folder.note)
        assert "1 of the folders in it" in folder.note
        assert "sudo sysctl fs.inotify.max_user_watches=524288" in folder.note
        assert folder.note in caplog.text
        scene.write("sub/c.jpg")
        scene.settle()
        assert "sub/c.jpg" in scene.indexed
    scene.until(lambda: folder.note == "")
    assert folder.watch.refused == {}
    assert folder.watch.watches == 2


@pytest.mark.parametrize(
    ("code", "setting"),
    [
        (errno.EMFILE, "fs.inotify.max_user_instances"),
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
        (errno.ENOMEM, "events"),
    ],
)
def test_a_folder_without_a_watch_is_polled_until_there_is_one(
    scene: Any, monkeypatch: pytest.MonkeyPatch, code: int, setting: str
) -> None:
    def refuse(*_: object) -> Any:
        raise OSError(code, os.strerror(code))

    scene.write("a.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(InotifyFD, "_create_inotify_fd" if code == errno.EMFILE else "_get_or_create_watch", refuse)
        folder = scene.start(poll=0.1)
        assert folder.mode == "poll"
        scene.settle()
        assert setting in folder.note
        scene.write("b.jpg")
        scene.settle()
    scene.until(lambda: folder.mode == "events" and folder.watch.armed and folder.note == "")


def test_a_file_that_fails_is_queued_again_when_it_changes_and_not_before(scene: Any) -> None:
    (scene.folder / "bad.jpg").touch()
    scene.write("good.jpg")
    folder = scene.start(watch="poll", poll=0.05)
    bad = str(scene.folder / "bad.jpg")
    scene.until(lambda: bad in scene.failures)
    looks = [name for name, _ in scene.looked]
    first = folder.last
    scene.until(lambda: folder.last is not None and folder.last is not first and folder.last.added == 0)
    assert [name for name, _ in scene.looked] == looks
    (scene.folder / "bad.jpg").chmod(0o600)
    scene.until(lambda: [name for name, _ in scene.looked].count("bad.jpg") > looks.count("bad.jpg"))
    (scene.folder / "bad.jpg").unlink()
    scene.until(lambda: not scene.failures)


def test_a_failing_file_that_is_made_readable_is_looked_at_by_its_event(scene: Any) -> None:
    (scene.folder / "bad.jpg").touch()
    scene.start()
    scene.until(lambda: scene.failures)
    looks = len(scene.looked)
    (scene.folder / "bad.jpg").chmod(0o600)
    scene.until(lambda: len(scene.looked) > looks)


def test_photos_of_a_directory_marked_nomedia_go_and_come_back(scene: Any) -> None:
    scene.write("a.jpg", "private/b.jpg", "private/deep/c.jpg")
    scene.start()
    scene.settle()
    scene.write("private/.nomedia")
    scene.until(lambda: scene.indexed == {"a.jpg"})
    scene.write("private/deep/d.jpg")
    (scene.folder / "private" / ".nomedia").unlink()
    scene.until(lambda: scene.indexed == {"a.jpg", "private/b.jpg", "private/deep/c.jpg", "private/deep/d.jpg"})


def test_failures_of_a_directory_marked_nomedia_go_and_come_back(scene: Any) -> None:
    scene.write("a.jpg", "private/b.jpg")
    (scene.folder / "private" / "bad.jpg").touch()
    scene.start()
    scene.until(lambda: scene.failures)
    scene.write("private/.nomedia")
    scene.until(lambda: not scene.failures)
    (scene.folder / "private" / ".nomedia").unlink()
    scene.until(lambda: scene.failures)


def test_any_number_of_excluded_photos_goes_at_a_start_and_none_of_them_is_missing(scene: Any) -> None:
    kept, ignored, marked = ({f"{name}/{n}.jpg" for n in range(30)} for name in ("kept", "@eaDir", "private"))
    scene.write(*kept, *ignored, *marked, "private/.nomedia")
    scene.index_all()
    scene.record(*ignored, *marked)
    folder = scene.start()
    assert not any(scene.watcher.shows(str(scene.folder / name)) for name in ignored | marked)
    scene.settle()
    assert scene.indexed == kept
    assert (folder.held, folder.state, folder.last.removed) == (0, "watching", 0)


def test_what_is_excluded_lifts_no_hold_on_what_is_missing(scene: Any) -> None:
    scene.write("a.jpg", *(f"@eaDir/{n}.jpg" for n in range(30)))
    scene.index_all()
    scene.record(*(f"@eaDir/{n}.jpg" for n in range(30)), *(f"gone/{n}.jpg" for n in range(5)))
    folder = scene.start()
    scene.until(lambda: folder.state == "held" and len(scene.index) == 6)
    assert folder.held == 5
    assert folder.note.startswith("5 of 6 photos are missing from it")


def test_a_folder_that_is_away_loses_what_its_names_exclude(scene: Any) -> None:
    scene.record("a.jpg", "@eaDir/b.jpg")
    scene.folder.rmdir()
    folder = scene.start()
    scene.until(lambda: folder.state == "missing" and not scene.watcher.busy)
    assert scene.looked == [("@eaDir/b.jpg", Hint.GONE)]


def test_what_a_marker_excludes_is_shown_no_more_as_soon_as_its_event_comes(scene: Any) -> None:
    scene.write("a.jpg", "private/deep/b.jpg")
    scene.start()
    scene.settle()
    path = str(scene.folder / "private/deep/b.jpg")
    assert scene.watcher.shows(path)
    scene.write("private/.nomedia")
    # Nothing is looked at meanwhile: it is still in the index.
    scene.eventually(lambda: not scene.watcher.shows(path))
    assert "private/deep/b.jpg" in scene.indexed
    assert scene.watcher.shows(str(scene.folder / "a.jpg"))
    scene.settle()
    (scene.folder / "private/.nomedia").unlink()
    scene.eventually(lambda: scene.watcher.shows(path))


def test_a_marker_that_another_disk_brought_takes_nothing_out(scene: Any) -> None:
    names = {f"{n}.jpg" for n in range(10)}
    scene.record(*names)
    (scene.folder / ".nomedia").touch()
    folder = scene.start()
    scene.until(lambda: folder.state == "held")
    assert scene.indexed == names
    assert not scene.watcher.shows(str(scene.folder / "0.jpg"))


def test_only_what_lies_in_a_folder_and_is_not_ignored_is_admitted(scene: Any) -> None:
    scene.write("sub/a.jpg", "private/.nomedia")
    watcher = scene.build()
    folder = str(scene.folder)
    assert watcher.admits(f"{folder}/sub/a.jpg")
    for path in (f"{folder}/.git/a.jpg", f"{folder}/private/x/a.jpg", f"{folder}2/a.jpg", f"{folder}/a.txt", "/a.jpg"):
        assert not watcher.admits(path)
    assert watcher.folder_of(folder) is watcher.folders[0]
    assert watcher.folder_of(folder + "2") is None
    assert not watcher.is_reachable("/elsewhere/a.jpg")


def test_photos_behind_a_link_that_took_the_place_of_their_directory_are_gone(scene: Any) -> None:
    scene.write("a.jpg", "sub/b.jpg", "sub/deep/c.jpg")
    scene.start()
    scene.settle()
    (scene.folder / "sub").rename(scene.outside / "sub")
    (scene.folder / "sub").symlink_to(scene.outside / "sub")
    scene.until(lambda: scene.indexed == {"a.jpg"})


def test_walks_by_the_clock_come_at_times_that_vary(scene: Any) -> None:
    folder = scene.start(rescan=1000.0)
    due = []
    for _ in range(5):
        due.append(folder.next_walk - time.monotonic())
        last = folder.last
        scene.watcher.rescan_all("a test")
        scene.until(lambda last=last: folder.last is not last)
    assert len(set(map(round, due[1:]))) > 1
    assert all(899 < seconds < 1101 for seconds in due[1:])


def test_a_walk_that_nobody_waits_for_rests_as_long_as_it_works(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.write(*(f"{n}/{m}.jpg" for n in range(200) for m in range(5)))
    scene.start(rescan=0.5)
    scene.settle()
    rests: list[float] = []
    monkeypatch.setattr(scene.watcher, "_breathe", rests.append)
    monkeypatch.setattr(reconcile, "REST_AFTER_SECONDS", 0.001)
    scene.until(lambda: len(rests) > 3)
    assert all(worked > 0.001 for worked in rests)


def test_a_walk_waits_for_a_store_that_is_away(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTAGE_SECONDS", 0.02)
    scene.write("a.jpg")
    calls = []

    def below(folder: str) -> Iterator[tuple[bytes, str]]:
        calls.append(folder)
        if len(calls) < 4:
            raise StoreUnavailable("Redis", "unix:///x", "does not answer")
        recorded: Iterator[tuple[bytes, str]] = scene.below(folder)
        return recorded

    scene.recording = Recording(below=below, failures=dict, recorded=scene.recording.recorded)
    scene.start()
    scene.settle()
    assert len(calls) == 4


def test_what_ends_the_reconciling_thread_is_raised_by_check(scene: Any) -> None:
    def below(_: str) -> Iterator[tuple[bytes, str]]:
        raise StoreRefused("Redis", "unix:///x", "refuses")

    scene.recording = Recording(below=below, failures=dict, recorded=scene.recording.recorded)
    scene.start()

    def dead() -> bool:
        assert scene.watcher is not None
        try:
            scene.watcher.check()
        except StoreRefused:
            return True
        return False

    scene.eventually(dead)


def test_stopping_ends_a_walk_at_the_next_directory(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(200):
        (scene.folder / str(n)).mkdir()
    scene.record("gone.jpg")
    watcher = scene.build(brake=Brake(1.0, 1000))
    entered, reached, entries = [], threading.Event(), Walk._entries

    def slow(self: Walk, directory: bytes, descriptor: int) -> Any:
        entered.append(directory)
        if len(entered) == 3:
            reached.set()
            watcher._stop.wait(60)
        return entries(self, directory, descriptor)

    monkeypatch.setattr(Walk, "_entries", slow)
    watcher.start()
    assert reached.wait(60)
    watcher.stop()
    assert len(entered) == 3
    assert watcher.folders[0].last is None
    assert len(scene.pending) == 0


def test_stopping_ends_a_walk_that_waits_for_room(scene: Any) -> None:
    scene.write(*(f"{n}.jpg" for n in range(600)))
    scene.start(room=1)
    assert scene.watcher is not None
    scene.eventually(lambda: len(scene.pending) >= 500)
    scene.watcher.stop()
    assert scene.watcher.folders[0].last is None


def test_a_watcher_that_was_never_started_can_be_stopped(scene: Any) -> None:
    scene.build().stop()


def test_a_periodic_walk_finds_what_raised_no_event(scene: Any) -> None:
    scene.write("a.jpg")
    scene.start(rescan=0.1)
    scene.settle()
    # truncate(2) opens and closes nothing.
    os.truncate(scene.folder / "a.jpg", 1)
    scene.settle()


def test_several_folders_are_watched_apart(place: Path, scene: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    other = place / "other"
    other.mkdir()
    scene.watcher = Watcher(
        [(str(scene.folder), "events"), (str(other), "poll"), (str(place / "absent"), "auto")],
        FILTERS,
        scene.pending,
        scene.recording,
        scene.memory,
        brake=Brake(0.2, 2),
        rescan_seconds=NEVER,
        poll_seconds=0.1,
        max_pending=1000,
    )
    scene.watcher.start()
    scene.write("a.jpg")
    (other / "b.jpg").write_text("photo")
    scene.until(lambda: scene.indexed == {"a.jpg", "../other/b.jpg"})
    assert [folder.state for folder in scene.watcher.folders] == ["watching", "watching", "missing"]
    assert caplog.text.count("does not exist") == 1


def test_files_of_one_directory_are_asked_about_at_the_cost_of_one(scene: Any) -> None:
    scene.write("sub/a.jpg", "sub/b.jpg")
    watcher = scene.build()
    a, b = (str(scene.folder / "sub" / name) for name in ("a.jpg", "b.jpg"))
    seen: dict[str, bool] = {}
    assert (watcher.admits(a, seen), watcher.admits(b, seen), seen) == (True, True, {os.path.dirname(a): True})
    (scene.folder / "sub" / ".nomedia").touch()
    # What was found out holds for a moment, and for nobody else.
    assert (watcher.admits(b, seen), watcher.admits(b, {}), watcher.admits(b)) == (True, False, False)
