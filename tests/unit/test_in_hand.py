"""What was in hand at a crash: whom it makes suspect, what is noted of it, and how a photo is had alone."""

from __future__ import annotations

import json
import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from daemon import in_hand as module
from daemon.in_hand import DIRECTORY, InHand, Photo, Stage, Suspect, suspected

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

A, B, UNKNOWN = Photo("/a", "10 5 7"), Photo("/b", "20 6 8"), Photo("/a")
OTHER = Photo("/a", "11 9 7")
ONCE = {"/a": Suspect(1, A.state, "work")}
Notes = list[tuple[Stage, list[Photo]]]


@pytest.mark.parametrize(
    ("before", "notes", "after"),
    [
        ({}, [], {}),
        ({}, [("work", [A])], ONCE),
        ({}, [("work", [A]), ("look", [B])], ONCE | {"/b": Suspect(1, B.state, "look")}),
        (ONCE, [], ONCE),
        (ONCE, [("work", [A])], {"/a": Suspect(2, A.state, "work", is_blamed=True)}),
        (ONCE, [("work", [A, B])], {"/a": Suspect(2, A.state, "work"), "/b": Suspect(1, B.state, "work")}),
        (ONCE, [("work", [A]), ("work", [B])], {"/a": Suspect(2, A.state, "work"), "/b": Suspect(1, B.state, "work")}),
        (ONCE, [("work", [B])], ONCE | {"/b": Suspect(1, B.state, "work")}),
        (ONCE, [("work", [OTHER])], {"/a": Suspect(1, OTHER.state, "work")}),
        (ONCE, [("look", [UNKNOWN])], {"/a": Suspect(2, "", "look", is_blamed=True)}),
        ({"/a": Suspect(1, "", "look")}, [("work", [A])], {"/a": Suspect(2, A.state, "work", is_blamed=True)}),
    ],
    ids=[
        "nothing",
        "one for the first time",
        "two for the first time",
        "no crash",
        "one alone for the second time",
        "one for the second time beside another",
        "one for the second time beside that of another thread",
        "another one",
        "another file at its path",
        "one that had not been looked at yet",
        "one that has been looked at since",
    ],
)
def test_a_photo_is_blamed_for_a_second_crash_that_it_was_alone_at(
    before: dict[str, Suspect], notes: Notes, after: dict[str, Suspect]
) -> None:
    assert suspected(before, notes) == after


def crashed(data_dir: Path, *notes: tuple[Stage, Sequence[Photo]]) -> InHand:
    """Return what the next process knows after one that ended in the midst of this."""
    ended = InHand(data_dir)
    ended.begin()
    with ExitStack() as stack:
        for note in notes:
            stack.enter_context(ended.noted(*note))
        after = InHand(data_dir)
        after.begin()
    return after


def test_what_was_in_hand_is_known_to_the_next_process(tmp_path: Path) -> None:
    strange = Photo(os.fsdecode(b"/photos/new\nline \xff.jpg"), "1 2 3")
    first = crashed(tmp_path, ("work", [A, strange]), ("look", [B]))
    assert set(first.suspects) == {"/a", "/b", strange.path}
    second = crashed(tmp_path, ("work", [strange]))
    assert [path for path, suspect in second.suspects.items() if suspect.is_blamed] == [strange.path]


def test_what_was_done_with_is_not_suspect(tmp_path: Path) -> None:
    before = InHand(tmp_path)
    before.begin()
    with before.noted("work", [A]):
        pass
    with before.noted("work", [B]):
        after = InHand(tmp_path)
        after.begin()
    assert set(after.suspects) == {"/b"}


def test_whoever_is_told_to_stop_does_not_crash(tmp_path: Path) -> None:
    before = InHand(tmp_path)
    before.begin()
    with before.noted("work", [A]):
        before.end()
        with before.noted("work", [B]):
            after = InHand(tmp_path)
            after.begin()
    assert after.suspects == {}
    assert sorted(file.name for file in (tmp_path / DIRECTORY).iterdir()) == ["suspects.json"]


def test_a_machine_that_went_down_blames_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = InHand(tmp_path)
    before.begin()
    with before.noted("work", [A]):
        other = tmp_path / "boot_id"
        other.write_text("another boot\n")
        monkeypatch.setattr(module, "BOOT_ID", other)
        after = InHand(tmp_path)
        after.begin()
    assert after.suspects == {}


def test_who_is_acquitted_is_acquitted_for_good(tmp_path: Path) -> None:
    after = crashed(tmp_path, ("work", [A, B]))
    after.acquit("/a")
    after.acquit("/a")
    again = InHand(tmp_path)
    again.begin()
    assert set(after.suspects) == set(again.suspects) == {"/b"}


@pytest.mark.parametrize(
    "written", [b"", b"\0", b"\xff\xff\0\0[", b"\2\0\0\0[]", b'\x10\0\0\0["work", [["/a"]'], ids=repr
)
def test_a_note_that_is_not_whole_says_nothing(tmp_path: Path, written: bytes) -> None:
    InHand(tmp_path).begin()
    (tmp_path / DIRECTORY / "0").write_bytes(written)
    after = InHand(tmp_path)
    after.begin()
    assert after.suspects == {}


@pytest.mark.parametrize("written", ["", "[]", "{", json.dumps({"boot": "", "suspects": {}})])
def test_a_list_of_suspects_that_cannot_be_read_is_made_anew(tmp_path: Path, written: str) -> None:
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY / "suspects.json").write_text(written)
    assert set(crashed(tmp_path, ("work", [A])).suspects) == {"/a"}


def test_notes_that_cannot_be_written_cost_nothing_but_themselves(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).write_text("in the way")
    unable = InHand(tmp_path)
    unable.begin()
    with unable.noted("work", [A]), unable.alone():
        pass
    unable.end()
    assert unable.suspects == {}


def test_who_is_alone_waits_for_the_others_and_they_for_it(tmp_path: Path) -> None:
    one = InHand(tmp_path)
    one.begin()
    said: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with one.noted("work", [A]):
            begun.set()
            go_on.wait(10)
            said.append("the first is done")
        with one.noted("work", [B]):
            said.append("the next is begun")

    other = threading.Thread(target=work)
    other.start()
    begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    with one.alone(), one.noted("work", [A]):
        said.append("alone")
        other.join(0.1)
    other.join(10)
    assert said == ["the first is done", "alone", "the next is begun"]
    one.end()


def test_nobody_waits_for_who_is_alone_once_it_is_told_to_stop(tmp_path: Path) -> None:
    one = InHand(tmp_path)
    one.begin()

    def work() -> None:
        with one.noted("work", [A]):
            pass

    with one.alone():
        other = threading.Thread(target=work)
        other.start()
        one.end()
        other.join(10)
        assert not other.is_alive()


def test_a_thousand_photos_in_many_threads_leave_few_files_and_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    one = InHand(tmp_path)
    one.begin()

    def work(number: int) -> None:
        for turn in range(250):
            with one.noted("work", [Photo(f"/{number}/{turn}", "1 2 3")]):
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(list((tmp_path / DIRECTORY).iterdir())) <= 1 + len(threads)
    one.end()
    assert len(os.listdir("/proc/self/fd")) == before
