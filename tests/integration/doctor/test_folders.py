from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import daemon.encode.images  # noqa: F401 - a process of another user may not import it
from daemon.config import Watch
from daemon.doctor.census import Census, counted, taken
from daemon.doctor.checks.folders import _barrier, _folder
from daemon.doctor.users import User

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.doctor.conftest import Clinic

IGNORE = Watch().ignore
NOBODY = User(65534, 65534, (65534,), "nobody")


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff\xd8 some bytes")
    return path


def test_what_the_daemon_leaves_alone_is_not_counted(clinic: Clinic) -> None:
    for name in ("a.jpg", "b/c.png", "notes.txt", ".hidden/d.jpg", "@eaDir/e.jpg", "quiet/.nomedia", "quiet/f.jpg"):
        photo(clinic.folder / name)

    census = taken(clinic.folder, IGNORE, User.asking(), 10.0)

    assert (census.directories, census.photos, census.complete) == (3, 2, True)


def test_a_library_that_takes_longer_is_counted_so_far(clinic: Clinic) -> None:
    for number in range(50):
        photo(clinic.folder / f"{number}.jpg")

    census = counted(str(clinic.folder), IGNORE, seconds=-1.0)

    assert not census.complete
    assert census.at_least == "at least "
    assert census.photos < 50


@pytest.mark.needs_root("only root can become another user")
def test_directories_and_photos_that_the_daemons_user_may_not_read_are_named(
    clinic: Clinic, as_nobody: Callable[[Callable[[], Any]], Any]
) -> None:
    clinic.root.chmod(0o755)
    photo(clinic.folder / "open" / "a.jpg")
    photo(clinic.folder / "open" / "mine.jpg").chmod(0o600)
    photo(clinic.folder / "shut" / "b.jpg").parent.chmod(0o700)

    census = Census(**as_nobody(lambda: asdict(counted(str(clinic.folder), IGNORE, 10.0))))

    assert (census.shut, census.locked, census.photos) == (1, 1, 2)
    shut, locked, whole = _folder(census, NOBODY)
    assert (shut.level, locked.level, whole.level) == ("problem", "problem", "ok")
    assert (
        f"1 of the directories in {clinic.folder} cannot be read by nobody, {clinic.folder / 'shut'}" in shut.sentence
    )
    assert shut.mend == (f"sudo setfacl -R -m u:nobody:rX -m d:u:nobody:rX {clinic.folder / 'shut'}",)
    assert str(clinic.folder / "open" / "mine.jpg") in locked.sentence


def test_the_directory_on_the_way_that_keeps_the_daemon_out_is_named(clinic: Clinic) -> None:
    clinic.root.chmod(0o755)
    clinic.folder.chmod(0o755)
    way = clinic.folder / "private" / "pictures"
    way.mkdir(parents=True)
    way.parent.chmod(0o700)

    assert _barrier(way, NOBODY) == way.parent
    assert _barrier(way, User.of(os.geteuid())) is None


def test_a_folder_that_is_not_there_is_a_problem(clinic: Clinic) -> None:
    gone = clinic.root / "gone"

    found = clinic.worst("folders", folders=(gone,))

    assert found.level == "problem"
    assert found.sentence == f"{gone} does not exist; mount its disk, or take it out of 'folders'"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_behind_a_directory_that_may_not_be_passed_is_not_called_absent(clinic: Clinic) -> None:
    folder = clinic.root / "private" / "photos"
    folder.mkdir(parents=True)
    folder.parent.chmod(0)

    found = clinic.worst("folders", folders=(folder,))

    assert (found.level, f"may not pass through {folder.parent}" in found.sentence) == ("problem", True)


def test_a_file_is_no_folder(clinic: Clinic) -> None:
    found = clinic.worst("folders", folders=(photo(clinic.folder / "a.jpg"),))

    assert (found.level, "is not a folder" in found.sentence) == ("problem", True)


def test_a_folder_without_photos_is_a_warning_and_one_with_some_is_counted(clinic: Clinic) -> None:
    assert clinic.worst("folders").level == "warning"

    photo(clinic.folder / "a.jpg")

    (found,) = clinic.look("folders")
    assert (found.level, found.sentence) == ("ok", f"{clinic.folder}: 1 photo in 1 directory")


def test_photos_of_the_future_are_told_of(clinic: Clinic) -> None:
    ahead = photo(clinic.folder / "ahead.jpg")
    photo(clinic.folder / "now.jpg")
    os.utime(ahead, (time.time() + 3600,) * 2)

    found = clinic.worst("clock")

    assert found.level == "warning"
    assert found.sentence.startswith(f"1 of the photos in {clinic.folder} are dated in the future, {ahead} among them")


def test_names_that_are_no_text_are_counted_and_told(clinic: Clinic) -> None:
    name = os.fsencode(clinic.folder) + b"/\xe9.jpg"
    Path(os.fsdecode(name)).write_bytes(b"\xff\xd8")
    os.utime(name, (time.time() + 3600,) * 2)

    census = taken(clinic.folder, IGNORE, User.asking(), 10.0)

    assert census.examples["future"] == [os.fsdecode(name)]
