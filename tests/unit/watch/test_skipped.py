from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from daemon.watch.filters import Filters
from daemon.watch.reconcile import Walk
from daemon.watch.skipped import HEAD_BYTES, NO_EXTENSION, Skipped, is_picture, kind_of

if TYPE_CHECKING:
    from pathlib import Path

FILTERS = Filters([".*", "@eaDir"], [".jpg", ".png"])
JPEG = b"\xff\xd8\xff\xe0" + bytes(HEAD_BYTES)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.CR2", ".cr2"),
        ("a.b.dng", ".dng"),
        ("360.insp", ".insp"),
        ("a.jxl", ".jxl"),
        ("IMG_1.jpg_original", ".jpg_original"),
        ("IMG_1.JPG~", ".jpg~"),
        ("a.jpeg.bak", ".jpeg.bak"),
        ("a.png.crdownload", ".png.crdownload"),
        ("a.tif.orig", ".tif.orig"),
        ("IMG_1", NO_EXTENSION),
        ("IMG_1.", NO_EXTENSION),
        ("holiday 2024.06", NO_EXTENSION),
        ("us. and the dog", NO_EXTENSION),
    ],
)
def test_what_looks_like_a_picture_is_counted_by_its_extension(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "a.jpg.xmp",
        "a.jpg.json",
        "a.jpg.pp3",
        "clip.mp4",
        "a.zip",
        "a.jpg.txt",
        "b.7z",
        "track.fit",
        "a.html",
    ],
)
def test_what_is_none_is_not_counted(name: str) -> None:
    assert kind_of(name) is None


@pytest.mark.parametrize(
    "head",
    [
        JPEG, b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBPVP8 ", b"\0\0\0\x18ftypheic",
        b"\0\0\0\x18ftypcrx ", b"\0\0\0\x0cJXL \r\n\x87\n", b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", b"FUJIFILMCCD-RAW",
    ],
)  # fmt: skip
def test_pictures_are_known_by_their_first_bytes(head: bytes) -> None:
    assert is_picture(head.ljust(HEAD_BYTES, b"\0"))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BM is how this text begins",
        b"\0\0\0\x18ftypmp42",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"%PDF-1.7",
        b"PK\3\4",
        b"\xff\xd8",
    ],
)
def test_other_files_are_not(head: bytes) -> None:
    assert not is_picture(head)


class Scene:
    def __init__(self, top: Path) -> None:
        self.top = top
        self.skipped = Skipped(FILTERS)

    def write(self, name: str, data: bytes = b"x" * 100) -> None:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def walk(self, part: str = "") -> dict[str, int]:
        top = str(self.top / part) if part else str(self.top)
        self.skipped.begin_walk()
        list(Walk(top, FILTERS, skipped=self.skipped))
        self.skipped.end_walk(top)
        return dict(self.skipped.by_extension)

    def listed(self) -> list[tuple[str, str]]:
        found = self.skipped.listed(lambda _: True)
        return [(os.path.relpath(one.path, self.top), one.extension) for one in found]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_walk_counts_what_it_meets_and_does_not_read(scene: Scene) -> None:
    for name in (
        "a.jpg",
        "b.cr2",
        "sub/c.CR2",
        "sub/d.jpg_original",
        "notes.txt",
        ".hidden.cr2",
        "@eaDir/e.cr2",
        "x/.nomedia",
        "x/f.cr2",
    ):
        scene.write(name)
    scene.write("sub/no extension", JPEG)
    scene.write("README")
    (scene.top / "link.cr2").symlink_to(scene.top / "b.cr2")
    os.mkfifo(scene.top / "pipe")
    os.mkfifo(scene.top / "pipe.cr2")
    assert scene.walk() == {".cr2": 2, "": 1, ".jpg_original": 1}
    assert next(iter(scene.skipped.by_extension)) == ".cr2"
    assert scene.listed() == [
        ("b.cr2", ".cr2"), ("sub/c.CR2", ".cr2"), ("sub/d.jpg_original", ".jpg_original"), ("sub/no extension", ""),
    ]  # fmt: skip


def test_a_walk_of_a_part_counts_it_anew_and_leaves_the_rest(scene: Scene) -> None:
    for name in ("a.cr2", "sub/b.cr2", "sub/deep/c.cr2", "sub2/d.cr2"):
        scene.write(name)
    assert scene.walk() == {".cr2": 4}
    (scene.top / "sub/b.cr2").unlink()
    scene.write("sub/new.nef")
    assert scene.walk("sub") == {".cr2": 3, ".nef": 1}
    (scene.top / "sub/new.nef").unlink()
    (scene.top / "sub/deep/c.cr2").unlink()
    assert scene.walk("sub") == {".cr2": 2}


def test_what_has_gone_since_is_not_listed(scene: Scene) -> None:
    scene.write("a.cr2")
    scene.write("sub/b.cr2")
    scene.walk()
    (scene.top / "a.cr2").rename(scene.top / "z.cr2")
    (scene.top / "sub/b.cr2").unlink()
    (scene.top / "sub").rmdir()
    assert scene.listed() == [("z.cr2", ".cr2")]


def test_a_file_without_an_extension_is_opened_again_only_when_it_changes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    really = os.open

    def counted(path: Any, flags: int, **options: Any) -> int:
        if not flags & os.O_DIRECTORY:
            opened.append(path)
        return really(path, flags, **options)

    monkeypatch.setattr(os, "open", counted)
    scene.write("one", JPEG)
    scene.write("other", b"x" * 100)
    for _ in range(3):
        assert scene.walk() == {"": 1}
    assert len(opened) == 2
    scene.write("other", JPEG + JPEG)
    assert scene.walk() == {"": 2}
    assert len(opened) == 3


def test_a_name_that_is_no_utf_8_is_listed(scene: Scene) -> None:
    scene.write("caf\udce9.cr2")
    assert scene.walk() == {".cr2": 1}
    assert scene.listed() == [("caf\udce9.cr2", ".cr2")]
