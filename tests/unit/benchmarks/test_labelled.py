"""Photos whose classes are known, as they are copied for a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.labelled import Labelled, copied

if TYPE_CHECKING:
    from pathlib import Path


def _photos(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def _copied(tmp_path: Path, contents: dict[str, bytes], per_class: int | None = None) -> Labelled:
    return copied(_photos(tmp_path / "source", contents), tmp_path / "target", per_class)


PAIRS = {"cat/1.jpg": b"1", "cat/2.JPG": b"2", "dog/1.jpg": b"3", "dog/more/2.png": b"4"}


def test_the_class_of_a_file_is_the_sub_folder_it_lies_in_however_deep(tmp_path: Path) -> None:
    labelled = _copied(tmp_path, PAIRS)
    target = tmp_path / "target"
    assert labelled.classes[str(target / "dog/more/2.png")] == "dog"
    assert labelled.sizes == {"cat": 2, "dog": 2}
    assert {path: (target / path).read_bytes() for path in PAIRS} == PAIRS


def test_exact_copies_are_one_photo_with_several_files(tmp_path: Path) -> None:
    labelled = _copied(tmp_path, PAIRS | {"cat/copy.jpg": b"1"})
    assert labelled.sizes["cat"] == 2
    assert len(labelled.classes) == 5


def test_a_photo_in_two_classes_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = _copied(tmp_path, PAIRS | {"cat/both.jpg": b"5", "dog/both.jpg": b"5"})
    assert labelled.sizes == {"cat": 2, "dog": 2}
    assert not (tmp_path / "target/cat/both.jpg").exists()
    assert "in several classes" in capsys.readouterr().out


def test_other_files_and_hidden_folders_are_no_photos(tmp_path: Path) -> None:
    labelled = _copied(tmp_path, PAIRS | {"cat/notes.txt": b"6", ".thumbnails/1.jpg": b"7", "9.jpg": b"8"})
    assert len(labelled.classes) == len(PAIRS)


def test_only_the_first_photos_of_each_class_are_taken_where_so_many_are_asked_for(tmp_path: Path) -> None:
    labelled = _copied(tmp_path, PAIRS | {"cat/3.jpg": b"9"}, per_class=2)
    assert {path.rpartition("/")[2] for path in labelled.photos.values()} == {"1.jpg", "2.JPG", "2.png"}


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"1.jpg": b"1"}, "a sub-folder of photos for each class"),
        ({"cat/1.jpg": b"1", "cat/2.jpg": b"2"}, "two at least"),
        ({**PAIRS, "cow/1.jpg": b"5", "cow/copy.jpg": b"5"}, "a single photo, which has none to find: cow"),
    ],
)
def test_a_folder_that_asks_nothing_is_refused_in_a_sentence(
    tmp_path: Path, contents: dict[str, bytes], said: str
) -> None:
    with pytest.raises(SystemExit, match=said):
        _copied(tmp_path, contents)


def test_a_photo_that_could_not_be_indexed_is_not_asked_for(tmp_path: Path) -> None:
    labelled = _copied(tmp_path, PAIRS | {"cat/torn.jpg": b"5", "cat/torn too.jpg": b"5"})
    failed = [path for path in labelled.classes if "torn" in path]
    assert labelled.without(failed).sizes == {"cat": 2, "dog": 2}
