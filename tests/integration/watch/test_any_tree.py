"""Trees of any shape: deeper than Python recurses and than the system takes paths, wider than is usual, and changing as they are walked."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from daemon.watch.filters import Filters
from daemon.watch.reconcile import OPEN, Walk, compare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILTERS = Filters([".*", "@eaDir"], [".jpg"])
DEEP = 1100
WIDE = 5_000
BYTES_A_NAME = 200
"""What a walk may hold of each name of a directory: the name, and a place in a list."""


@pytest.fixture
def scene(place: Path, watch_kit: Any) -> Iterator[Any]:
    scene = watch_kit.scene(place)
    yield scene
    scene.stop()
    # shutil.rmtree() is recursive.
    subprocess.run(["rm", "-rf", scene.folder, scene.outside], check=True)


def make_deep(top: Path, levels: int, name: str, photo: str = "a.jpg", *, every: int = 0) -> int:
    """Make directories inside one another, a photo in the last of them and in `every` so many of them; return the number of photos."""
    photos, directory = 0, os.open(top, os.O_RDONLY)
    for level in range(1, levels + 1):
        os.mkdir(name, dir_fd=directory)
        below = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
        if level == levels or (every and not level % every):
            os.close(os.open(photo, os.O_CREAT | os.O_WRONLY, dir_fd=directory))
            photos += 1
    os.close(directory)
    return photos


def test_a_tree_deeper_than_python_recurses_is_walked_and_watched(scene: Any) -> None:
    make_deep(scene.folder, DEEP, "d")
    scene.write("z.jpg")
    folder = scene.start()
    scene.until(lambda: folder.last is not None and not scene.watcher.busy and not len(scene.pending))
    bottom = "/".join(["d"] * DEEP)
    assert {path for path, _ in scene.looked} == {"z.jpg", f"{bottom}/a.jpg"}
    assert (folder.watch.watches, folder.note) == (DEEP + 1, "")
    (scene.folder / bottom / "b.jpg").write_text("later")
    scene.until(lambda: f"{bottom}/b.jpg" in scene.indexed)


def test_such_a_tree_may_appear_move_and_go_while_it_is_watched(scene: Any) -> None:
    folder = scene.start()
    scene.settle()
    made = scene.outside / "made"
    made.mkdir()
    make_deep(made, DEEP, "d")
    made.rename(scene.folder / "here")
    bottom = "/".join(["d"] * DEEP)
    scene.until(lambda: scene.looked and scene.looked[-1][0] == f"here/{bottom}/a.jpg")
    (scene.folder / "here").rename(scene.folder / "there")
    scene.until(lambda: f"there/{bottom}/a.jpg" in {path for path, _ in scene.looked})
    (scene.folder / "there").rename(scene.outside / "gone")
    (scene.folder / "there").mkdir()
    scene.write("there/b.jpg")
    scene.until(lambda: scene.indexed == {"there/b.jpg"})
    assert (folder.state, folder.watch.armed) == ("watching", True)


def test_what_is_deeper_than_the_system_takes_paths_is_a_note_and_costs_nothing_else(scene: Any) -> None:
    photos = make_deep(scene.folder, 40, "n" * 255, every=1)
    make_deep(scene.folder, 3, "m" * 255, "p" * 251 + ".jpg", every=1)
    scene.write("a.jpg")
    folder = scene.start()
    scene.until(lambda: folder.note)
    assert folder.note.startswith(
        "the paths of 1 of the folders in it are longer than the 4,095 bytes that the system takes"
    )
    assert len(folder.note) < 400
    scene.until(lambda: not scene.watcher.busy and not len(scene.pending))
    met = {path for path, _ in scene.looked}
    assert "a.jpg" in met
    assert len([path for path in met if path.startswith("m")]) == 3
    assert 10 < len([path for path in met if path.startswith("n")]) < photos
    # What is recorded below, as by a shorter path of the folder, is not missing.
    before = dict(scene.index)
    scene.record("/".join(["n" * 255] * 40) + "/a.jpg")
    walk = Walk(str(scene.folder), FILTERS)
    assert compare(walk, scene.recording, queue=lambda _: None).missing == []
    scene.index = before
    subprocess.run(["rm", "-rf", scene.folder / ("n" * 255)], check=True)
    scene.watcher.rescan_all("the test asks")
    scene.until(lambda: folder.note == "")


def test_a_walk_on_its_way_back_opens_again_what_it_has_closed_and_holds_few(tmp_path: Path) -> None:
    make_deep(tmp_path, 3 * OPEN, "d", "z.jpg", every=1)
    before, most, found = len(os.listdir("/proc/self/fd")), 0, []
    walk = Walk(str(tmp_path), FILTERS)
    for path, described in walk:
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
        found.append(path.count(b"/d"))
        assert described != "?"
        if len(found) == OPEN:
            walk.let_go()
            assert len(os.listdir("/proc/self/fd")) == before
    assert found == sorted(found, reverse=True)
    assert len(found) == 3 * OPEN
    assert most <= OPEN
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_wide_directory_costs_little_more_than_its_names(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for number in range(WIDE):
        os.close(os.open(f"{number:06}.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)
    tracemalloc.start()
    try:
        count = sum(1 for _ in Walk(str(tmp_path), FILTERS))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == WIDE
    assert peak / WIDE < BYTES_A_NAME


def test_a_tree_that_changes_while_it_is_walked_is_followed_in_the_end(scene: Any) -> None:
    chance = random.Random(7)
    names = ["a", "b", "c"]
    scene.write(*(f"{one}/{two}/{number}.jpg" for one in names for two in names for number in range(4)))
    folder = scene.start(rescan=0.05)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            source, target = (scene.folder.joinpath(*chance.choices(names, k=chance.choice([1, 2]))) for _ in range(2))
            with suppress(OSError):
                match chance.randrange(4):
                    case 0:
                        source.rename(target)
                    case 1:
                        source.rename(scene.outside / source.name)
                    case 2:
                        (scene.outside / source.name).rename(target)
                    case _:
                        source.mkdir()
                        (source / "new.jpg").write_text("new")

    changer = threading.Thread(target=change)
    changer.start()
    try:
        walks = scene.watcher.reconciles
        scene.until(lambda: scene.watcher.reconciles > walks + 20)
    finally:
        stop.set()
        changer.join()
    # What was moved out of the folder may be held, for so much went at once; nothing else is in the index that is not on the disk.

    def not_held() -> dict[bytes, str]:
        return {path: known for path, known in scene.index.items() if os.fsdecode(path) not in folder.view.held}

    scene.until(lambda: not scene.watcher.busy and not len(scene.pending) and not_held() == scene.on_disk)
