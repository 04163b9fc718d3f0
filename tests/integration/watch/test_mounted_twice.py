"""A directory that is mounted at several places of a folder: the kernel gives it one watch, and each of its paths is followed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.mounts


@pytest.fixture
def scene(place: Path, watch_kit: Any) -> Iterator[Any]:
    scene = watch_kit.scene(place)
    yield scene
    scene.stop()


@pytest.fixture
def twice(scene: Any, watch_kit: Any) -> Iterator[Any]:
    """A folder in which `zz` is the same directory as `orig`."""
    scene.write("1.jpg", "orig/1.jpg", "orig/2.jpg", "orig/sub/3.jpg")
    (scene.folder / "zz").mkdir()
    with watch_kit.bound(scene.folder / "orig", scene.folder / "zz"):
        folder = scene.start()
        scene.settle()
        yield folder
        scene.stop()


def twofold(*names: str) -> set[str]:
    return {"1.jpg"} | {f"{place}/{name}" for name in names for place in ("orig", "zz")}


@pytest.mark.parametrize("at", ["orig", "zz"])
def test_a_change_is_seen_at_both_places(scene: Any, twice: Any, at: str) -> None:
    first = twice.last
    assert scene.indexed == twofold("1.jpg", "2.jpg", "sub/3.jpg")
    (scene.folder / at / "1.jpg").unlink()
    scene.write(f"{at}/4.jpg", f"{at}/sub/5.jpg")
    (scene.folder / at / "2.jpg").write_text("something else")
    scene.until(lambda: scene.indexed == twofold("2.jpg", "4.jpg", "sub/3.jpg", "sub/5.jpg"))
    scene.settle()
    # By events, and not because everything was walked again.
    assert twice.last is first


def test_directories_come_and_go_at_both_places(scene: Any, twice: Any) -> None:
    scene.write("zz/new/deep/6.jpg")
    scene.settle()
    assert {"orig/new/deep/6.jpg", "zz/new/deep/6.jpg"} <= scene.indexed
    scene.write("orig/new/deep/7.jpg")
    scene.until(lambda: "zz/new/deep/7.jpg" in scene.indexed)
    (scene.folder / "orig/new").rename(scene.folder / "orig/older")
    scene.until(lambda: {"orig/older/deep/7.jpg", "zz/older/deep/7.jpg"} <= scene.indexed)
    scene.settle()
    scene.write("zz/older/deep/8.jpg")
    scene.settle()
    shutil.rmtree(scene.folder / "zz/older")
    scene.until(lambda: scene.indexed == twofold("1.jpg", "2.jpg", "sub/3.jpg"))
    scene.write("orig/sub/.nomedia")
    scene.until(lambda: scene.indexed == twofold("1.jpg", "2.jpg"))
    (scene.folder / "zz/sub/.nomedia").unlink()
    scene.until(lambda: scene.indexed == twofold("1.jpg", "2.jpg", "sub/3.jpg"))


def test_a_mount_that_goes_is_held_at_its_place_alone(scene: Any, watch_kit: Any, twice: Any) -> None:
    watch_kit.unmount(scene.folder / "zz")
    scene.until(lambda: twice.held == 3)
    scene.write("orig/9.jpg")
    scene.until(lambda: "orig/9.jpg" in scene.indexed)
    assert "zz/9.jpg" not in scene.indexed
    watch_kit.bind(scene.folder / "orig", scene.folder / "zz")
    scene.until(lambda: "zz/9.jpg" in scene.indexed and not twice.held)
    scene.settle()


def test_a_folder_that_is_mounted_in_itself_is_followed(scene: Any, watch_kit: Any) -> None:
    scene.write("a.jpg", "loop/x.txt")
    (scene.folder / "loop/x.txt").unlink()
    with watch_kit.bound(scene.folder, scene.folder / "loop"):
        folder = scene.start()
        scene.settle()
        scene.write("b.jpg")
        scene.until(lambda: scene.indexed == {"a.jpg", "b.jpg", "loop/a.jpg", "loop/b.jpg"})
        assert folder.watch.armed
        scene.stop()


def test_a_file_that_is_mounted_at_another_place_is_polled_and_the_note_says_so(scene: Any, watch_kit: Any) -> None:
    scene.write("sub/a.jpg", "b.jpg")
    with watch_kit.bound(scene.folder / "sub/a.jpg", scene.folder / "b.jpg"):
        folder = scene.start(poll=0.2)
        scene.settle()
        assert "b.jpg is a mounted file" in folder.note
        (scene.folder / "sub/a.jpg").write_text("something else")
        scene.settle()
        scene.stop()
