"""What lies beneath a folder, while somebody puts links in the way."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from daemon import beneath
from daemon.beneath import Disk
from tests.unit.test_long_paths import deep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUNDS = 400


@pytest.fixture(params=["by the kernel", "by hand"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by hand":
        monkeypatch.setattr(beneath, "_does", [False])
    elif not beneath._asked()[0]:
        pytest.skip("this kernel has no openat2(2)")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a photo in it, beside one that is nobody's business."""
    folder, outside = tmp_path / "photos", tmp_path / "outside"
    for directory, content in ((folder / "ann", b"ours"), (outside, b"theirs")):
        directory.mkdir(parents=True)
        (directory / "a.jpg").write_bytes(content)
        (directory / "sub").mkdir()
    (outside / "theirs.jpg").touch()
    (folder / "link").symlink_to(outside)
    (folder / "ann" / "up").symlink_to("../../outside")
    (folder / "ann" / "b.jpg").symlink_to(outside / "a.jpg")
    yield folder
    # shutil.rmtree() is recursive.
    subprocess.run(["rm", "-rf", folder], check=True)


def read(disk: Disk, path: str) -> bytes:
    with open(path, "rb", opener=disk.opened) as file:
        return file.read()


pytestmark = pytest.mark.usefixtures("_both_ways")


@pytest.mark.parametrize("name", ["link/a.jpg", "link/sub", "ann/up/a.jpg", "ann/up/sub/x", "link/sub/../a.jpg"])
def test_nothing_is_there_behind_a_link(folder: Path, name: str) -> None:
    disk, path = Disk([str(folder)]), f"{folder}/{name}"
    assert not disk.is_there(path)
    assert not disk.is_directory(path)
    for ask in (disk.lstat, lambda one: disk.opened(one, os.O_RDONLY)):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            ask(path)


def test_a_link_is_itself_and_not_what_it_leads_to(folder: Path) -> None:
    disk = Disk([str(folder)])
    for name in ("link", "ann/up", "ann/b.jpg"):
        path = f"{folder}/{name}"
        assert stat.S_ISLNK(disk.lstat(path).st_mode)
        assert not disk.is_directory(path)
        with pytest.raises(NotADirectoryError):
            disk.opened(path, os.O_RDONLY)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{folder}/../outside/a.jpg", "{folder}//ann/a.jpg", "{folder}x", "ann"]
)
def test_nothing_is_there_outside_of_every_folder(folder: Path, path: str) -> None:
    disk = Disk([str(folder)])
    asked = path.format(folder=folder)
    assert not disk.is_there(asked)
    assert disk.folder_of(asked) is None
    with pytest.raises(FileNotFoundError):
        disk.opened(asked, os.O_RDONLY)


def test_a_folder_may_be_named_by_a_link_and_may_be_the_root(folder: Path) -> None:
    named = folder.with_name("named")
    named.symlink_to(folder)
    for disk, path in ((Disk([str(named)]), f"{named}/ann/a.jpg"), (Disk(["/"]), f"{folder.resolve()}/ann/a.jpg")):
        assert read(disk, path) == b"ours"
        assert disk.lstat(path) == os.lstat(folder / "ann" / "a.jpg")
    assert Disk([str(named)]).is_directory(str(named))


def test_errors_are_those_of_the_system(folder: Path) -> None:
    disk = Disk([str(folder)])
    with pytest.raises(FileNotFoundError):
        disk.lstat(f"{folder}/ann/none.jpg")
    with pytest.raises(NotADirectoryError):
        disk.lstat(f"{folder}/ann/a.jpg/x")
    with pytest.raises(OSError, match="too long"):
        disk.lstat(f"{folder}/{'n' * 300}/a.jpg")
    with pytest.raises(FileNotFoundError):
        Disk([f"{folder}/none"]).lstat(f"{folder}/none/a.jpg")


def test_a_directory_and_a_link_that_change_places_never_give_what_lies_outside(folder: Path) -> None:
    disk, path = Disk([str(folder)]), f"{folder}/ann/a.jpg"
    stop = threading.Event()

    def change_places() -> None:
        while not stop.is_set():
            for source, target in (("ann", "aside"), ("link", "ann"), ("ann", "link"), ("aside", "ann")):
                os.rename(folder / source, folder / target)

    attacker = threading.Thread(target=change_places)
    attacker.start()
    try:
        seen = set()
        for _ in range(ROUNDS):
            with suppress(FileNotFoundError, NotADirectoryError):
                seen.add(read(disk, path))
            with suppress(FileNotFoundError, NotADirectoryError):
                seen.add(b"%d" % disk.lstat(path).st_size)
            seen |= {b"theirs" for _, _, others in beneath.walk(str(folder)) if "theirs.jpg" in others}
    finally:
        stop.set()
        attacker.join()
    assert seen <= {b"ours", b"4"}


@pytest.mark.parametrize("levels", [1, 19, 20, 21, 60])
def test_a_file_is_found_however_deep_it_lies(folder: Path, levels: int) -> None:
    path = deep(folder, levels)
    assert beneath.is_there(folder.as_posix(), path)
    assert beneath.lstat(str(folder), path).st_size == 0
    assert not beneath.is_there(str(folder), path + "x")
    os.close(beneath.opened(str(folder), path, os.O_RDONLY))


def test_a_walk_gives_what_that_of_the_library_gives(folder: Path) -> None:
    for name in ("ann/b/c", "ann/d", "\udcff"):
        (folder / name).mkdir(parents=True)
    found = {(top, tuple(sorted(names)), tuple(sorted(others))) for top, names, others in beneath.walk(str(folder))}
    expected = {
        (
            top,
            tuple(sorted(name for name in names if not os.path.islink(os.path.join(top, name)))),
            tuple(sorted([*others, *(name for name in names if os.path.islink(os.path.join(top, name)))])),
        )
        for top, names, others in os.walk(folder)
    }
    assert found == expected
    pruned = []
    for top, names, _ in beneath.walk(str(folder), f"{folder}/ann"):
        pruned.append(os.path.relpath(top, folder))
        names[:] = sorted(name for name in names if name != "b")
    assert pruned == ["ann", "ann/d", "ann/sub"]


def test_a_walk_comes_to_the_end_of_any_tree(folder: Path) -> None:
    # By hand, each step costs as many calls as it is deep.
    levels = 1100 if beneath._asked()[0] else 200
    bottom, directory = "x/" * levels, os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("x", dir_fd=directory)
        below = os.open("x", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    assert f"{folder}/{bottom}".rstrip("/") in {top for top, _, _ in beneath.walk(str(folder))}
    deep(folder, 60)
    assert max(len(top) for top, _, _ in beneath.walk(str(folder))) <= 4095
