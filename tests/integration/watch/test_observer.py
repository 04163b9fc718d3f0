"""What the kernel says of a folder, in the listener's words."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest
from watchdog.observers.inotify_c import InotifyFD

from daemon.changes import Hint
from daemon.watch.filters import Filters
from daemon.watch.observer import FolderWatch
from daemon.watch.pending import Pending
from daemon.watch.settle import Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILTERS = Filters([".*", "@eaDir"], [".jpg"])
CREATED, WRITTEN, CLOSED, GONE = Hint.CREATED, Hint.WRITTEN, Hint.CLOSED, Hint.GONE


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes: list[tuple[str, Hint]] = []
        self.rescans: list[tuple[str, str]] = []

    def changed(self, path: str, hint: Hint) -> None:
        self.changes.append((os.path.relpath(path, self.folder), hint))

    def rescan(self, directory: str, reason: str) -> None:
        self.rescans.append((os.path.relpath(directory, self.folder), reason))

    @property
    def directories(self) -> set[str]:
        return {directory for directory, _ in self.rescans}


class Handed:
    """A listener that puts what it is told where it waits for its turn."""

    def __init__(self, pending: Pending) -> None:
        self.changed = pending.put

    def rescan(self, directory: str, reason: str) -> None:
        pass


class Scene:
    def __init__(self, place: Path, kit: Any) -> None:
        self.eventually: Callable[..., None] = kit.eventually
        self.folder, self.outside = place / "photos", place / "outside"
        self.folder.mkdir()
        self.outside.mkdir()
        self.heard = Heard(self.folder)
        self.watch = FolderWatch(str(self.folder), FILTERS, self.heard)
        self.open_files: list[BinaryIO] = []

    def opened(self, file: BinaryIO) -> BinaryIO:
        """Close a file when the test is over, and not before."""
        self.open_files.append(file)
        return file

    def write(self, name: str, content: str = "photo") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def hears(self, *changes: tuple[str, Hint], rescans: tuple[str, ...] = ()) -> None:
        def told() -> bool:
            return set(changes) <= set(self.heard.changes) and set(rescans) <= self.heard.directories

        try:
            self.eventually(told, 30)
        except AssertionError:
            pytest.fail(f"heard only {self.heard.changes} and {self.heard.rescans}")

    def last_hint(self, name: str) -> Hint:
        return next(hint for path, hint in reversed(self.heard.changes) if path == name)

    def mark(self) -> list[tuple[str, Hint]]:
        """Return what was heard before a file that is written now."""
        self.heard.changes = [change for change in self.heard.changes if change[0] != "mark.jpg"]
        self.write("mark.jpg")
        self.hears(("mark.jpg", CLOSED))
        return [change for change in self.heard.changes if change[0] != "mark.jpg"]


@pytest.fixture
def scene(place: Path, watch_kit: Any) -> Iterator[Scene]:
    scene = Scene(place, watch_kit)
    yield scene
    scene.watch.disarm()
    for file in scene.open_files:
        file.close()


def replace_atomically(scene: Scene) -> None:
    os.replace(scene.write(".a.jpg.tmp", "new"), scene.folder / "a.jpg")


def append(scene: Scene) -> None:
    with (scene.folder / "a.jpg").open("a") as file:
        file.write("more")


def truncate(scene: Scene) -> None:
    with (scene.folder / "a.jpg").open("r+") as file:
        file.truncate(1)


def write_and_keep_open(scene: Scene) -> None:
    file = scene.opened((scene.folder / "a.jpg").open("r+b"))
    file.write(b"more")
    file.flush()


def write_through_a_mapping(scene: Scene) -> None:
    with (scene.folder / "a.jpg").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[0] = ord("P")
        mapping.flush()


def rewrite_in_an_editor(scene: Scene) -> None:
    """As vim does when it keeps a backup while it writes."""
    (scene.folder / "a.jpg").rename(scene.folder / "a.jpg~")
    scene.write("a.jpg", "edited").chmod(0o600)
    (scene.folder / "a.jpg~").unlink()


def replace_while_it_is_written(scene: Scene) -> None:
    write_and_keep_open(scene)
    replace_atomically(scene)
    os.write(scene.open_files[0].fileno(), b"to nobody")
    scene.open_files[0].close()


def exchange(scene: Scene) -> None:
    """As renameat2(2) with RENAME_EXCHANGE does."""
    scene.write(".c.jpg", "other")
    here = -100
    names = [os.fsencode(scene.folder / name) for name in (".c.jpg", "a.jpg")]
    assert ctypes.CDLL(None, use_errno=True).renameat2(here, names[0], here, names[1], 2) == 0


def move_out(scene: Scene) -> None:
    (scene.folder / "a.jpg").rename(scene.outside / "a.jpg")


def move_in(scene: Scene) -> None:
    (scene.outside / "b.jpg").write_text("new")
    (scene.outside / "b.jpg").rename(scene.folder / "b.jpg")


A, B = "a.jpg", "b.jpg"


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(lambda s: s.write(B), [(B, CLOSED)], id="written"),
        pytest.param(replace_atomically, [(A, CLOSED)], id="replaced by a rename"),
        pytest.param(append, [(A, CLOSED)], id="appended to"),
        pytest.param(truncate, [(A, CLOSED)], id="truncated"),
        pytest.param(lambda s: os.truncate(s.folder / A, 1), [(A, WRITTEN)], id="truncated by its path"),
        pytest.param(lambda s: os.truncate(s.folder / A, 9999), [(A, WRITTEN)], id="made longer by its path"),
        pytest.param(write_and_keep_open, [(A, WRITTEN)], id="written to and kept open"),
        pytest.param(write_through_a_mapping, [(A, CLOSED)], id="written to through a mapping"),
        pytest.param(rewrite_in_an_editor, [(A, CREATED)], id="saved in an editor"),
        pytest.param(replace_while_it_is_written, [(A, CLOSED)], id="replaced while it is written to"),
        pytest.param(exchange, [(A, GONE)], id="exchanged for another, which is told as two moves"),
        pytest.param(lambda s: os.utime(s.folder / A), [(A, CREATED)], id="touched"),
        pytest.param(lambda s: (s.folder / A).chmod(0o600), [(A, CREATED)], id="made readable or not"),
        pytest.param(lambda s: shutil.copyfile(s.folder / A, s.folder / B), [(B, CLOSED)], id="copied"),
        pytest.param(lambda s: shutil.copy2(s.folder / A, s.folder / B), [(B, CREATED)], id="copied with its times"),
        pytest.param(lambda s: os.link(s.folder / A, s.folder / B), [(B, CREATED)], id="linked"),
        pytest.param(lambda s: (s.folder / A).rename(s.folder / B), [(B, CLOSED), (A, GONE)], id="renamed"),
        pytest.param(
            lambda s: (s.folder / A).rename(s.folder / "A.JPG"), [("A.JPG", CLOSED), (A, GONE)], id="renamed by case"
        ),
        pytest.param(
            lambda s: (s.folder / A).rename(s.folder / "sub" / A), [("sub/a.jpg", CLOSED), (A, GONE)], id="moved down"
        ),
        pytest.param(move_in, [(B, CLOSED)], id="moved in"),
        pytest.param(move_out, [(A, GONE)], id="moved out"),
        pytest.param(lambda s: (s.folder / A).rename(s.folder / ".a.jpg"), [(A, GONE)], id="hidden"),
        pytest.param(lambda s: (s.folder / A).rename(s.folder / "a.jpg.bak"), [(A, GONE)], id="no photo any more"),
        pytest.param(lambda s: (s.folder / A).unlink(), [(A, GONE)], id="deleted"),
    ],
)
def test_what_happens_to_a_file_is_told_by_its_path(
    scene: Scene, act: Callable[[Scene], object], expected: list[tuple[str, Hint]]
) -> None:
    scene.write(A)
    (scene.folder / "sub").mkdir()
    scene.watch.arm()
    act(scene)
    scene.hears(*expected)
    for name, hint in expected:
        scene.eventually(lambda name=name, hint=hint: scene.last_hint(name) is hint)
    assert {name for name, _ in scene.mark()} == {name for name, _ in expected}
    assert not scene.heard.rescans


@pytest.mark.parametrize(
    "name",
    ["two words.jpg", "new\nline.jpg", "été 🌞.jpg", os.fsdecode(b"\xff\xfe.jpg"), "back\\slash.JPG", "'\"*?.jpg"],
)
def test_names_arrive_as_they_are(scene: Scene, name: str) -> None:
    scene.watch.arm()
    scene.write(name)
    scene.hears((name, CLOSED))
    (scene.folder / name).unlink()
    scene.hears((name, GONE))


def test_a_new_tree_with_a_file_in_it_is_found_however_quickly_it_is_made(scene: Scene) -> None:
    scene.watch.arm()
    for n in range(20):
        scene.write(f"{n}/b/c/d/a.jpg")
    scene.hears(rescans=tuple(str(n) for n in range(20)))
    scene.eventually(lambda: scene.watch.watches == 1 + 20 * 4)
    for n in range(20):
        scene.write(f"{n}/b/c/d/later.jpg")
    scene.hears(*[(f"{n}/b/c/d/later.jpg", CLOSED) for n in range(20)])


def test_a_moved_directory_is_rescanned_at_its_new_place_before_its_old_one(scene: Scene) -> None:
    scene.write("old/x/a.jpg")
    scene.watch.arm()
    (scene.folder / "old").rename(scene.folder / "new")
    scene.hears(rescans=("new", "old"))
    directories = [directory for directory, _ in scene.heard.rescans]
    assert directories.index("new") < directories.index("old")
    scene.write("new/x/b.jpg")
    scene.hears(("new/x/b.jpg", CLOSED))


def test_a_directory_that_is_moved_in_is_rescanned_and_watched(scene: Scene) -> None:
    (scene.outside / "trip" / "day").mkdir(parents=True)
    (scene.outside / "trip" / "day" / "a.jpg").write_text("photo")
    scene.watch.arm()
    (scene.outside / "trip").rename(scene.folder / "trip")
    scene.hears(rescans=("trip",))
    scene.write("trip/day/b.jpg")
    scene.hears(("trip/day/b.jpg", CLOSED))


def test_a_directory_that_is_moved_out_is_told_and_watched_no_longer(scene: Scene) -> None:
    scene.write("trip/day/a.jpg")
    scene.watch.arm()
    assert scene.watch.watches == 3
    (scene.folder / "trip").rename(scene.outside / "trip")
    scene.hears(rescans=("trip",))
    scene.eventually(lambda: scene.watch.watches == 1)
    (scene.outside / "trip" / "day" / "b.jpg").write_text("elsewhere")
    assert scene.mark() == []


def test_a_directory_that_takes_the_place_of_one_that_was_moved_out_is_watched(scene: Scene) -> None:
    scene.write("trip/a.jpg")
    scene.watch.arm()
    (scene.folder / "trip").rename(scene.outside / "trip")
    (scene.folder / "trip").mkdir()
    scene.eventually(lambda: ("trip", "a folder went away") in scene.heard.rescans)
    scene.write("trip/b.jpg")
    scene.hears(("trip/b.jpg", CLOSED))


def test_writing_to_what_was_moved_out_says_nothing_of_what_has_its_name_now(scene: Scene) -> None:
    scene.write("trip/day/a.jpg")
    scene.watch.arm()
    (scene.folder / "trip").rename(scene.outside / "trip")
    (scene.folder / "trip" / "day").mkdir(parents=True)
    scene.eventually(lambda: ("trip", "a folder went away") in scene.heard.rescans)
    scene.eventually(lambda: scene.watch.watches == 3)
    (scene.outside / "trip" / "day" / "b.jpg").write_text("elsewhere")
    (scene.outside / "trip" / "day" / "sub").mkdir()
    assert "trip/day/b.jpg" not in {name for name, _ in scene.mark()}
    scene.write("trip/day/c.jpg")
    scene.hears(("trip/day/c.jpg", CLOSED))
    assert scene.watch.watches == 3


def test_directories_that_had_one_path_after_the_other_may_go_in_any_order(scene: Scene) -> None:
    scene.write("trip/a.jpg")
    scene.watch.arm()
    (scene.folder / "trip").rename(scene.outside / "trip")
    (scene.folder / "trip").mkdir()
    (scene.folder / "trip").rmdir()
    shutil.rmtree(scene.outside / "trip")
    scene.mark()
    assert scene.watch.armed


def test_a_directory_that_comes_back_under_another_name_is_watched_there(scene: Scene) -> None:
    scene.write("trip/day/a.jpg")
    scene.watch.arm()
    (scene.folder / "trip").rename(scene.outside / "trip")
    (scene.outside / "trip").rename(scene.folder / "again")
    scene.hears(rescans=("again",))
    scene.write("again/day/b.jpg")
    scene.hears(("again/day/b.jpg", CLOSED))
    scene.eventually(lambda: scene.watch.watches == 3)


def test_everything_below_a_deleted_directory_is_told(scene: Scene) -> None:
    scene.write("trip/a.jpg")
    scene.write("trip/day/b.jpg")
    scene.watch.arm()
    shutil.rmtree(scene.folder / "trip")
    scene.hears(("trip/a.jpg", GONE), ("trip/day/b.jpg", GONE), rescans=("trip", "trip/day"))
    scene.eventually(lambda: scene.watch.watches == 1)


def test_the_mark_that_a_directory_is_no_media_asks_for_a_walk(scene: Scene) -> None:
    scene.write("sub/a.jpg")
    scene.watch.arm()
    scene.write("sub/.nomedia", "")
    scene.hears(rescans=("sub",))
    scene.heard.rescans.clear()
    os.utime(scene.folder / "sub" / ".nomedia")
    scene.mark()
    assert not scene.heard.rescans
    (scene.folder / "sub" / ".nomedia").unlink()
    scene.hears(rescans=("sub",))


def test_below_a_marked_directory_there_is_no_watch_until_the_mark_goes(scene: Scene, watch_kit: Any) -> None:
    for name in ("sub/deep/down/a.jpg", "marked/.nomedia", "marked/deep/down/a.jpg"):
        scene.write(name)
    before = watch_kit.held_watches()
    scene.watch.arm()
    assert watch_kit.held_watches() - before == scene.watch.watches == 1 + 3 + 1

    scene.write("sub/.nomedia", "")
    scene.eventually(lambda: scene.watch.watches == 1 + 1 + 1)
    assert watch_kit.held_watches() - before == 3
    scene.write("sub/new/a.jpg")
    scene.write("marked/new/deep/a.jpg")
    scene.mark()
    assert watch_kit.held_watches() - before == 3

    for name in ("sub", "marked"):
        (scene.folder / name / ".nomedia").rename(scene.outside / name)
    scene.eventually(lambda: scene.watch.watches == 1 + 4 + 5)
    assert watch_kit.held_watches() - before == 10
    for name in ("sub/new/b.jpg", "sub/deep/down/b.jpg", "marked/new/deep/b.jpg"):
        scene.write(name)
        scene.hears((name, CLOSED))


def test_the_watches_are_back_before_anybody_is_told_that_the_mark_went(scene: Scene) -> None:
    scene.write("sub/.nomedia", "")
    scene.write("sub/deep/a.jpg")
    scene.watch.arm()
    seen: list[int] = []
    rescan = scene.heard.rescan

    def count(directory: str, reason: str) -> None:
        seen.append(scene.watch.watches)
        rescan(directory, reason)

    scene.heard.rescan = count  # type: ignore[method-assign]
    (scene.folder / "sub" / ".nomedia").unlink()
    scene.hears(rescans=("sub",))
    assert seen == [3]


def test_a_marked_folder_is_watched_for_its_mark_alone(scene: Scene) -> None:
    scene.write(".nomedia", "")
    scene.write("sub/deep/a.jpg")
    scene.watch.arm()
    assert scene.watch.armed
    assert scene.watch.watches == 1
    (scene.folder / ".nomedia").unlink()
    scene.hears(rescans=(".",))
    scene.write("sub/deep/b.jpg")
    scene.hears(("sub/deep/b.jpg", CLOSED))


def test_what_moves_below_a_mark_loses_its_watches_and_what_moves_away_gets_them(scene: Scene) -> None:
    scene.write("trip/day/a.jpg")
    scene.write("marked/.nomedia", "")
    scene.watch.arm()
    (scene.folder / "trip").rename(scene.folder / "marked" / "trip")
    scene.eventually(lambda: scene.watch.watches == 2)
    (scene.folder / "marked" / "trip").rename(scene.folder / "again")
    scene.hears(rescans=("again",))
    scene.eventually(lambda: scene.watch.watches == 4)
    scene.write("again/day/b.jpg")
    scene.hears(("again/day/b.jpg", CLOSED))


def test_ignored_directories_hold_no_watch(scene: Scene, watch_kit: Any) -> None:
    for name in (".git/objects/00/a.jpg", "@eaDir/x/a.jpg", "sub/@eaDir/a.jpg", "sub/deep/a.jpg"):
        scene.write(name)
    before = watch_kit.held_watches()
    scene.watch.arm()
    assert watch_kit.held_watches() - before == scene.watch.watches == 3
    scene.write("sub/.thumbnails/x/a.jpg")
    scene.write(".git/objects/01/a.jpg")
    assert scene.mark() == []
    assert watch_kit.held_watches() - before == 3
    (scene.outside / "album" / "@eaDir" / "x").mkdir(parents=True)
    (scene.outside / "album").rename(scene.folder / "album")
    scene.eventually(lambda: scene.watch.watches == 4)
    (scene.folder / "album").rename(scene.folder / "sub" / "@eaDir" / "album")
    scene.eventually(lambda: scene.watch.watches == 3)
    (scene.folder / "sub" / "deep").rename(scene.folder / ".deep")
    scene.eventually(lambda: scene.watch.watches == 2)
    assert watch_kit.held_watches() - before == 2
    scene.watch.disarm()
    assert watch_kit.held_watches() == before


def test_a_directory_that_is_renamed_to_an_ignored_name_loses_its_watches_and_back_gets_them(scene: Scene) -> None:
    scene.write("trip/day/a.jpg")
    scene.watch.arm()
    (scene.folder / "trip").rename(scene.folder / ".trip")
    scene.hears(rescans=("trip",))
    scene.eventually(lambda: scene.watch.watches == 1)
    assert ".trip" not in scene.heard.directories
    (scene.folder / ".trip").rename(scene.folder / "trip")
    scene.eventually(lambda: scene.watch.watches == 3)
    scene.write("trip/day/b.jpg")
    scene.hears(("trip/day/b.jpg", CLOSED))


def test_a_write_is_told_under_the_name_that_it_came_through(scene: Scene) -> None:
    scene.write("a.jpg")
    os.link(scene.folder / "a.jpg", scene.folder / "b.jpg")
    os.link(scene.folder / "a.jpg", scene.outside / "c.jpg")
    scene.watch.arm()
    (scene.outside / "c.jpg").write_text("through a link elsewhere")
    assert scene.mark() == []
    scene.write("b.jpg", "through a link here")
    scene.hears(("b.jpg", CLOSED))
    assert {name for name, _ in scene.mark()} == {"b.jpg"}


def test_a_mapped_file_is_told_when_its_mapping_goes_and_not_when_it_is_written(scene: Scene) -> None:
    scene.write("a.jpg")
    scene.watch.arm()
    with (scene.folder / "a.jpg").open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
        mapping[0] = ord("P")
        mapping.flush()
        assert scene.mark() == []
    assert scene.mark() == [], "the mapping keeps the file open"
    mapping.close()
    scene.hears(("a.jpg", CLOSED))


@pytest.mark.parametrize("tool", ["cp -p", "install -m 600", "cp --sparse=always"])
def test_a_copy_is_pending_as_a_closed_file(place: Path, watch_kit: Any, tool: str) -> None:
    folder, pending = place / "photos", Pending(Settle(settle_seconds=600.0, pause_seconds=0.1))
    folder.mkdir()
    (place / "a.jpg").write_bytes(os.urandom(3_000_000))
    watch = FolderWatch(str(folder), FILTERS, Handed(pending))
    watch.arm()
    try:
        subprocess.run([*tool.split(), place / "a.jpg", folder / "a.jpg"], check=True)
        assert [(path, hint) for path, hint, _ in pending.take(1)] == [(str(folder / "a.jpg"), CLOSED)]
    finally:
        watch.disarm()


def test_a_file_that_is_written_in_pieces_is_pending_until_it_is_closed_and_no_longer(place: Path) -> None:
    folder, pending = place / "photos", Pending(Settle(settle_seconds=20.0, pause_seconds=0.1))
    folder.mkdir()
    watch = FolderWatch(str(folder), FILTERS, Handed(pending))
    watch.arm()
    handed_out: list[float] = []

    def take() -> None:
        while batch := pending.take(1):
            (path, hint, _), now = batch[0], time.monotonic()
            if hint is CREATED:
                # As the look does: it was just made, so it is left alone for as long as it may be written.
                pending.later(path, 20.0)
            else:
                assert hint is CLOSED
                handed_out.append(now)
                pending.done(path)

    taker = threading.Thread(target=take)
    taker.start()
    try:
        with (folder / "a.jpg").open("wb", buffering=0) as file:
            for _ in range(40):
                file.write(b"a piece")
                time.sleep(0.05)  # how slowly it comes
        closed = time.monotonic()
        deadline = closed + 15.0
        while not handed_out and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        watch.disarm()
        pending.close()
        taker.join()
    assert len(handed_out) == 1
    assert handed_out[0] >= closed


def test_our_own_reading_of_a_photo_raises_nothing(scene: Scene) -> None:
    path = scene.write("sub/a.jpg")
    scene.watch.arm()
    for _ in range(20):
        path.read_bytes()
        list(os.scandir(path.parent))
    assert scene.mark() == []
    assert not scene.heard.rescans


def test_links_are_not_followed(scene: Scene) -> None:
    (scene.outside / "sub").mkdir()
    (scene.folder / "link").symlink_to(scene.outside)
    (scene.folder / "loop").symlink_to(scene.folder)
    scene.watch.arm()
    (scene.outside / "sub" / "a.jpg").write_text("elsewhere")
    assert scene.mark() == []
    assert scene.watch.watches == 1


def test_a_folder_that_is_named_by_a_link_is_watched(scene: Scene, place: Path) -> None:
    (place / "link").symlink_to(scene.folder)
    heard = Heard(place / "link")
    watch = FolderWatch(str(place / "link"), FILTERS, heard)
    watch.arm()
    try:
        scene.write("a.jpg")
        scene.eventually(lambda: ("a.jpg", CLOSED) in heard.changes)
        assert watch.armed
    finally:
        watch.disarm()


def test_a_removed_folder_disarms_and_can_be_armed_again(scene: Scene) -> None:
    scene.write("a.jpg")
    scene.watch.arm()
    assert scene.watch.armed
    shutil.rmtree(scene.folder)
    scene.eventually(lambda: not scene.watch.armed)
    with pytest.raises(FileNotFoundError):
        scene.watch.arm()
    scene.folder.mkdir()
    scene.watch.arm()
    scene.write("b.jpg")
    scene.hears(("b.jpg", CLOSED))
    assert scene.watch.armed


def test_a_folder_that_another_one_was_put_in_place_of_is_not_armed(scene: Scene) -> None:
    scene.watch.arm()
    scene.folder.rename(scene.outside / "photos")
    assert not scene.watch.armed
    scene.folder.mkdir()
    assert not scene.watch.armed
    assert not scene.watch.folder_is_same()


@pytest.mark.parametrize("part", ["reader", "emitter", "dispatcher"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_disarms(scene: Scene, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: object, **__: object) -> None:
        raise RuntimeError("the thread ends")

    scene.watch.arm()
    observer, emitter = scene.watch._observer, scene.watch._emitter
    assert observer is not None
    assert emitter is not None
    match part:
        case "reader":
            monkeypatch.setattr(observer._inotify_fd, "handle_event", end)
        case "emitter":
            monkeypatch.setattr(emitter, "build_and_queue_event", end)
        case _:
            monkeypatch.setattr(observer, "dispatch_events", end)
    # The first event wakes the thread, which may have been waiting in what it does next.
    scene.write("a.jpg")
    scene.write("b.jpg")
    scene.eventually(lambda: not scene.watch.armed)


def refuse(monkeypatch: pytest.MonkeyPatch, code: int, *, root: bytes = b"") -> None:
    """Have the kernel refuse the watches of all but `root`."""
    original = InotifyFD._get_or_create_watch

    def get(self: InotifyFD, path: bytes, mask: Any) -> Any:
        if path == root:
            return original(self, path, mask)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(InotifyFD, "_get_or_create_watch", get)


def test_directories_that_the_kernel_gives_no_watch_for_are_known_until_it_does(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.write("x/y/a.jpg")
    scene.write("gone/a.jpg")
    with monkeypatch.context() as patch:
        refuse(patch, errno.ENOSPC, root=os.fsencode(scene.folder))
        scene.watch.arm()
        assert set(scene.watch.refused) == {str(scene.folder / name) for name in ("x", "x/y", "gone")}
        assert set(scene.watch.refused.values()) == {errno.ENOSPC}
        assert scene.watch.watches == 1
        assert scene.watch.armed
    shutil.rmtree(scene.folder / "gone")
    scene.watch.watch_refused()
    assert scene.watch.refused == {}
    scene.write("x/y/b.jpg")
    scene.hears(("x/y/b.jpg", CLOSED))


def test_a_directory_that_may_not_be_read_is_known_until_it_may(scene: Scene, watch_kit: Any) -> None:
    scene.write("locked/a.jpg")
    scene.write("locked-too/a.jpg")
    for name in ("locked", "locked-too"):
        (scene.folder / name).chmod(0)
    with watch_kit.unprivileged(scene.folder, scene.folder / "locked", scene.folder / "locked-too"):
        scene.watch.arm()
        assert scene.watch.refused == {
            str(scene.folder / "locked"): errno.EACCES,
            str(scene.folder / "locked-too"): errno.EACCES,
        }
        assert scene.watch.watches == 1
        (scene.folder / "locked").chmod(0o755)
        scene.watch.watch_refused()
        assert list(scene.watch.refused) == [str(scene.folder / "locked-too")]
        scene.write("locked/b.jpg")
        scene.hears(("locked/b.jpg", CLOSED))
        (scene.folder / "locked-too").chmod(0o755)
        scene.hears(rescans=("locked-too",))
        assert scene.watch.refused == {}
        scene.write("locked-too/b.jpg")
        scene.hears(("locked-too/b.jpg", CLOSED))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_a_folder_that_gets_no_watch_is_an_error_and_leaves_nothing_behind(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with monkeypatch.context() as patch:
        refuse(patch, code)
        for _ in range(20):
            with pytest.raises(OSError) as caught:
                scene.watch.arm()
            assert caught.value.errno == code
    assert not scene.watch.armed
    scene.watch.arm()
    assert scene.watch.armed


def test_without_an_inotify_instance_arming_is_an_error(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(_: object) -> int:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(InotifyFD, "_create_inotify_fd", create)
    with pytest.raises(OSError, match="instance limit"):
        scene.watch.arm()
    assert not scene.watch.armed


def test_arming_and_disarming_may_be_repeated(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(scene.watch.disarm)
        for _ in range(10):
            scene.watch.arm()
        scene.mark()
    scene.watch.disarm()
    assert scene.watch.watches == 0
    assert scene.watch.refused == {}
    scene.watch.watch_refused()
