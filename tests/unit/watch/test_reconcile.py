from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import beneath
from daemon.changes import signature
from daemon.watch.filters import Filters
from daemon.watch.reconcile import CHUNK, Comparison, Difference, Recording, Walk, compare, differences

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


FILTERS = Filters([".*", "@eaDir"], [".jpg"])


def make(root: Path, *names: bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(name)


def walked(root: Path) -> list[bytes]:
    top = os.fsencode(root) + b"/"
    return [path.removeprefix(top) for path, _ in Walk(str(root), FILTERS)]


def none(_: object) -> list[str]:
    """A comparison does not ask again what is recorded."""
    return []


def compared(
    root: Path, recorded: Mapping[bytes, str], failures: Mapping[str, str] | None = None
) -> tuple[Comparison, set[str], Walk]:
    walk, queued = Walk(str(root), FILTERS), set[str]()
    recording = Recording(
        below=lambda _: iter(sorted(recorded.items())), failures=lambda: dict(failures or {}), recorded=none
    )
    found = compare(walk, recording, queue=queued.update)
    return found, {os.path.relpath(path, root) for path in queued}, walk


def as_recorded(root: Path) -> dict[bytes, str]:
    return dict(Walk(str(root), FILTERS))


def refuse(monkeypatch: pytest.MonkeyPatch, **errors: OSError) -> None:
    """Have the system refuse to open directories of these names."""
    real = beneath.listing_in

    def listing_in(place: int, name: bytes) -> int:
        if error := errors.get(os.fsdecode(name)):
            raise error
        return real(place, name)

    monkeypatch.setattr(beneath, "listing_in", listing_in)


def test_a_walk_is_in_byte_order_of_whole_paths(tmp_path: Path) -> None:
    names = [
        b"a/z.jpg",
        b"a.jpg",
        b"a/b/c.jpg",
        b"a-b.jpg",
        b"B.jpg",
        b"\xff.jpg",
        b"new\nline.jpg",
        "é/ü.jpg".encode(),
    ]
    make(tmp_path, *names)
    assert walked(tmp_path) == sorted(names)


def test_what_is_ignored_linked_or_no_file_is_not_walked(tmp_path: Path) -> None:
    make(tmp_path, b"a.jpg", b".hidden.jpg", b"@eaDir/b.jpg", b"c.txt", b"sub/d.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "directory.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert walked(tmp_path) == [b"a.jpg", b"sub/d.jpg"]


def test_a_directory_marked_nomedia_is_left_alone_with_all_below_it(tmp_path: Path) -> None:
    make(tmp_path, b"a.jpg", b"private/.nomedia", b"private/b.jpg", b"private/sub/c.jpg")
    assert walked(tmp_path) == [b"a.jpg"]


def test_a_stopped_walk_ends_and_misses_nothing(tmp_path: Path) -> None:
    make(tmp_path, b"a.jpg", b"b.jpg", b"c.jpg")
    recorded = as_recorded(tmp_path) | {os.fsencode(tmp_path / "d.jpg"): "1 2 3"}
    asked = iter([False, False, True, True, True, True])
    walk = Walk(str(tmp_path), FILTERS, lambda: next(asked))
    recording = Recording(below=lambda _: iter(sorted(recorded.items())), failures=dict, recorded=none)
    found = compare(walk, recording, queue=lambda _: None)
    assert (walk.files, found.missing, found.mended) == (2, [], [])


def test_a_directory_that_goes_or_becomes_a_file_while_it_is_walked_has_lost_its_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, b"a/a.jpg", b"b/b.jpg")
    recorded = as_recorded(tmp_path)
    refuse(
        monkeypatch, a=FileNotFoundError(2, "No such file or directory"), b=NotADirectoryError(20, "Not a directory")
    )
    found, _, walk = compared(tmp_path, recorded)
    assert [os.path.basename(path) for path in found.missing] == ["a.jpg", "b.jpg"]
    assert walk.unreadable == []


def test_what_is_queued_comes_in_chunks_and_in_order(tmp_path: Path) -> None:
    make(tmp_path, *(b"%04d.jpg" % n for n in range(CHUNK + 1)))
    chunks: list[list[str]] = []
    compare(
        Walk(str(tmp_path), FILTERS),
        Recording(below=lambda _: iter(()), failures=dict, recorded=none),
        queue=chunks.append,
    )
    assert [len(chunk) for chunk in chunks] == [CHUNK, 1]
    assert chunks[0] == sorted(chunks[0])
    assert chunks[0][-1] < chunks[1][0]


def test_with_nothing_to_queue_nobody_is_asked_for_room(tmp_path: Path) -> None:
    def queue(_: list[str]) -> None:
        pytest.fail("nothing differs")

    compare(
        Walk(str(tmp_path), FILTERS), Recording(below=lambda _: iter(()), failures=dict, recorded=none), queue=queue
    )


def test_nothing_differs_when_all_is_recorded(tmp_path: Path) -> None:
    make(tmp_path, b"a.jpg", b"sub/b.jpg")
    found, queued, walk = compared(tmp_path, as_recorded(tmp_path))
    assert (found.added, found.changed, found.missing, queued, walk.files) == (0, 0, [], set(), 2)


def test_new_changed_and_missing_files_are_told_apart(tmp_path: Path) -> None:
    make(tmp_path, b"same.jpg", b"changed.jpg")
    recorded = as_recorded(tmp_path)
    recorded[os.fsencode(tmp_path / "gone.jpg")] = "1 2 3"
    (tmp_path / "changed.jpg").write_bytes(b"something longer than before")
    make(tmp_path, b"new.jpg")
    found, queued, _ = compared(tmp_path, recorded)
    assert (found.added, found.changed, queued) == (1, 1, {"new.jpg", "changed.jpg"})
    assert found.missing == [str(tmp_path / "gone.jpg")]


def test_a_failure_is_queued_again_only_when_its_file_has_changed(tmp_path: Path) -> None:
    make(tmp_path, b"bad.jpg")
    path = tmp_path / "bad.jpg"
    failures = {str(path): signature(path.lstat())}
    assert compared(tmp_path, {}, failures)[1] == set()
    path.chmod(0o600 if path.stat().st_mode & 0o777 != 0o600 else 0o644)
    assert compared(tmp_path, {}, failures)[1] == {"bad.jpg"}


def test_a_failure_whose_file_is_gone_is_mended(tmp_path: Path) -> None:
    gone, elsewhere = str(tmp_path / "bad.jpg"), "/elsewhere/bad.jpg"
    assert compared(tmp_path, {}, {gone: "1 2 3 4", elsewhere: "1 2 3 4"})[0].mended == [gone]


def test_a_failure_that_a_mark_hides_is_mended_and_one_that_a_walk_cannot_come_to_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, b"private/.nomedia", b"private/deep/bad.jpg", b"locked/bad.jpg", b"bad.jpg")
    failures = {str(tmp_path / name): "1 2 3 4" for name in ("private/deep/bad.jpg", "locked/bad.jpg", "bad.jpg")}
    refuse(monkeypatch, locked=PermissionError(13, "Permission denied"))
    found, queued, _ = compared(tmp_path, {}, failures)
    assert found.mended == [str(tmp_path / "private" / "deep" / "bad.jpg")]
    assert queued == {"bad.jpg"}


def test_what_lies_below_a_directory_that_cannot_be_read_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, b"a.jpg", b"locked/b.jpg", b"locked-too/c.jpg")
    recorded = as_recorded(tmp_path) | {os.fsencode(tmp_path / "gone.jpg"): "1 2 3"}
    refuse(monkeypatch, locked=PermissionError(13, "Permission denied"))
    found, _, walk = compared(tmp_path, recorded)
    assert found.missing == [str(tmp_path / "gone.jpg")]
    assert walk.unreadable == [os.fsencode(tmp_path / "locked")]


def test_a_folder_that_cannot_be_read_misses_nothing_and_one_that_is_gone_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = {os.fsencode(tmp_path / "sub" / "a.jpg"): "1 2 3"}
    assert compared(tmp_path / "sub", recorded)[0].missing == [str(tmp_path / "sub" / "a.jpg")]

    def listing(folder: str, directory: bytes) -> int:
        raise OSError(5, "Input/output error", directory)

    monkeypatch.setattr(beneath, "listing", listing)
    assert compared(tmp_path / "sub", recorded)[0].missing == []


names = st.sets(st.text("a/.-0\xff", min_size=1, max_size=6).map(lambda text: text.encode("latin-1")))


@given(names, names, names)
def test_differences_are_those_of_sets(disk: set[bytes], index: set[bytes], touched: set[bytes]) -> None:
    on_disk = sorted((name, "new" if name in touched else "same") for name in disk)
    found = dict(differences(on_disk, sorted((name, "same") for name in index)))
    assert found == (
        dict.fromkeys(disk - index, Difference.ADDED)
        | dict.fromkeys(index - disk, Difference.MISSING)
        | dict.fromkeys(disk & index & touched, Difference.CHANGED)
    )


def test_what_a_name_excludes_is_not_missing_whether_it_is_there_or_not(tmp_path: Path) -> None:
    make(tmp_path, b"a.jpg", b".private/b.jpg", b"old/@eaDir/c.jpg", b"d.txt")
    excluded = {".private/b.jpg", ".private/gone.jpg", "old/@eaDir/c.jpg", "d.txt", "gone.png"}
    recorded = as_recorded(tmp_path) | {os.fsencode(tmp_path / name): "1 2 3" for name in (*excluded, "gone.jpg")}
    found, queued, _ = compared(tmp_path, recorded)
    assert {os.path.relpath(path, tmp_path) for path in found.excluded} == excluded
    assert [os.path.relpath(path, tmp_path) for path in found.missing] == ["gone.jpg"]
    assert (found.recorded, queued) == (2, set())


def test_what_a_marker_excludes_is_not_missing_if_it_is_there(tmp_path: Path) -> None:
    make(tmp_path, b"a.jpg", b"private/.nomedia", b"private/b.jpg", b"private/deep/c.jpg", b"privat/d.jpg")
    names = ("a.jpg", "private/b.jpg", "private/deep/c.jpg", "private/gone.jpg", "privat/d.jpg")
    found, _, _ = compared(tmp_path, {os.fsencode(tmp_path / name): "1 2 3" for name in names})
    assert {os.path.relpath(path, tmp_path) for path in found.excluded} == {"private/b.jpg", "private/deep/c.jpg"}
    # Another disk may have brought the marker.
    assert [os.path.relpath(path, tmp_path) for path in found.missing] == ["private/gone.jpg"]


def test_a_marker_in_the_folder_itself_excludes_all_of_it(tmp_path: Path) -> None:
    make(tmp_path, b".nomedia", b"a.jpg", b"sub/b.jpg")
    found, _, _ = compared(tmp_path, {os.fsencode(tmp_path / name): "1 2 3" for name in ("a.jpg", "sub/b.jpg")})
    assert (len(found.excluded), found.missing, found.recorded) == (2, [], 0)


def test_a_failure_that_is_excluded_is_mended(tmp_path: Path) -> None:
    make(tmp_path, b"private/.nomedia", b"private/a.jpg", b".b.jpg", b"c.jpg")
    failures = {
        str(tmp_path / name): signature(os.lstat(tmp_path / name)) for name in ("private/a.jpg", ".b.jpg", "c.jpg")
    }
    found, _, _ = compared(tmp_path, {}, failures)
    assert {os.path.relpath(path, tmp_path) for path in found.mended} == {"private/a.jpg", ".b.jpg"}


def test_a_disk_is_not_judged_by_what_is_excluded(tmp_path: Path) -> None:
    make(tmp_path, b"disk/.hidden/a.jpg", b"b.jpg")
    names = ("disk/.hidden/a.jpg", "disk/gone.jpg", "b.jpg")
    recording = Recording(
        below=lambda _: iter(sorted((os.fsencode(tmp_path / name), "1 2 3") for name in names)),
        failures=dict,
        recorded=none,
    )
    mounts = {str(tmp_path), str(tmp_path / "disk")}
    found = compare(Walk(str(tmp_path), FILTERS), recording, queue=lambda _: None, mounts=mounts)
    assert found.recorded_on == {str(tmp_path): 1, str(tmp_path / "disk"): 1}
    alone = compare(Walk(str(tmp_path), FILTERS), recording, queue=lambda _: None, mounts={str(tmp_path)})
    assert alone.recorded_on == {str(tmp_path): 2}
