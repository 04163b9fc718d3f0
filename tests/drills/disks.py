"""Disks: file systems are mounted, unmounted, swapped and covered in a watched folder, and a plain model says what has to come of it."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

from tests.drills.installation import DrillError
from tests.drills.oracle import Differences
from tests.drills.world import BOUND, MOUNT_POINTS, World
from tests.namespaces import obstacle

if TYPE_CHECKING:
    from collections.abc import Sequence

    T = TypeVar("T")


class Choose(Protocol):
    """Picks one of several, which are never none."""

    def __call__(self, options: Sequence[T], /) -> T: ...


STEPS_A_ROUND = 15
DEEPEST = 2
"""How many file systems lie upon one another."""


class Steps:
    """Everything that can happen to a world, one method for each: its name is that of the step behind `step_`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._choose: Choose = Random(0).choice

    # What can be done to it

    def possible(self) -> list[str]:
        """Return the names of the steps that can be taken now."""
        runs, is_there = self.world.installation.process is not None, self.world.is_there(self.world.folder)
        asks = {"approve": bool(self.world.model.held), "reject": bool(self.world.model.asked)}
        allowed = {
            "mount": bool(self.world.unplugged() and self._targets()),
            "unmount": bool(self.world.mounts()),
            "unmount_lazily": bool(self.world.mounts()),
            "swap": bool(self.world.mounts() and self.world.unplugged()),
            "remount": bool(self._remountable()),
            "lose_a_disk": bool(self._losable()) and len(self.world.disks) > 1,
            "bind": self._can_bind(),
            "write": is_there,
            "write_into_an_empty_mount_point": bool(self._empty_mount_points()),
            "change_a_disk_elsewhere": bool(self.world.unplugged()),
            "replace": bool(self.world.files()),
            "rename": bool(self.world.files()),
            "delete": bool(self._deletable()),
            "delete_a_directory": bool(self._deletable_directories()),
            "rename_the_root": is_there and not self.world.is_mounted(self.world.folder) and not self.world.is_renamed,
            "rename_its_parent": is_there and not self.world.is_renamed,
            "make_a_new_root": not is_there,
            "rename_back": self.world.is_renamed and not self.world.is_mounted(self.world.folder),
            "stop": runs,
            "kill": runs,
            "start": not runs,
        }
        if runs:
            allowed |= asks
        return [name for name, can in allowed.items() if can]

    def take(self, name: str, choose: Choose) -> None:
        """Take a step."""
        self._choose = choose
        getattr(self, f"step_{name}")()

    def step_mount(self) -> None:
        self.world.mount(self._choose(self.world.unplugged()), self._choose(self._targets()))

    def step_unmount(self) -> None:
        self.world.unmount(self._choose(self.world.mounts()))

    def step_unmount_lazily(self) -> None:
        self.world.unmount_lazily(self._choose(self.world.mounts()))

    def step_swap(self) -> None:
        """One disk goes and another one comes, before anybody looks."""
        point, disk = self._choose(self.world.mounts()), self._choose(self.world.unplugged())
        self.world.unmount_lazily(point)
        self.world.mount(disk, point)

    def step_remount(self) -> None:
        """A disk goes and is back before anybody looks."""
        point, disk = self._choose(self._remountable())
        self.world.unmount_lazily(point)
        self.world.mount(disk, point)

    def step_lose_a_disk(self) -> None:
        self.world.lose(self._choose(self._losable()))

    def step_bind(self) -> None:
        self.world.bind(self.world.folder / BOUND, self.world.folder / MOUNT_POINTS[-1])

    def step_write(self) -> None:
        path = self.world.new(self._choose(self.world.directories()))
        self.world.did("write", path)
        self.world.write(path)

    def step_write_into_an_empty_mount_point(self) -> None:
        """Two photos, one under a name that a disk has as well: a backup that runs while the disk is away."""
        point = self._choose(self._empty_mount_points())
        self.world.did("write into the mount point", point)
        self.world.write(point / "1.jpg")
        self.world.write(self.world.new(point))

    def step_change_a_disk_elsewhere(self) -> None:
        """Another machine has the disk meanwhile: it writes a photo, and deletes one."""
        disk = self._choose(self.world.unplugged())
        self.world.did(f"change {disk} elsewhere")
        self.world.write(self.world.new(self.world.stash / disk))
        for photo_there in sorted(self.world.seen(self.world.stash / disk).glob("trip/*.jpg"))[:1]:
            photo_there.unlink()

    def step_replace(self) -> None:
        path = self._choose(self.world.files())
        self.world.did("replace", path)
        beside = path.with_name(f".{path.name}.part")
        self.world.write(beside)
        self.world.seen(beside).replace(self.world.seen(path))

    def step_rename(self) -> None:
        path = self._choose(self.world.files())
        renamed = self.world.new(path.parent)
        self.world.did("rename", path, renamed)
        self.world.seen(path).rename(self.world.seen(renamed))

    def step_delete(self) -> None:
        path = self._choose(self._deletable())
        self.world.did("delete", path)
        self.world.seen(path).unlink()

    def step_delete_a_directory(self) -> None:
        directory = self._choose(self._deletable_directories())
        self.world.did("delete the directory", directory)
        shutil.rmtree(self.world.seen(directory))

    def step_rename_the_root(self) -> None:
        self.world.rename_away(self.world.folder)

    def step_rename_its_parent(self) -> None:
        self.world.rename_away(self.world.folder.parent)

    def step_make_a_new_root(self) -> None:
        """A folder with as many photos as are chosen appears where the watched folder was."""
        self.world.make_a_new_root(self._choose(range(3)))

    def step_rename_back(self) -> None:
        self.world.rename_back()

    def step_stop(self) -> None:
        self.world.stop()

    def step_kill(self) -> None:
        self.world.kill()

    def step_start(self) -> None:
        self.world.start()

    def step_approve(self) -> None:
        self.world.approve()

    def step_reject(self) -> None:
        self.world.reject()

    # What there is for a step

    def _targets(self) -> list[Path]:
        """Return where a disk can be mounted."""
        points = [self.world.folder, *(self.world.folder / name for name in MOUNT_POINTS[:-1])]
        return [point for point in points if self.world.is_there(point) and self.world.depth(point) < DEEPEST]

    def _empty_mount_points(self) -> list[Path]:
        points = [self.world.folder / name for name in MOUNT_POINTS[:-1]]
        return [
            point
            for point in points
            if self.world.is_there(point)
            and not self.world.is_mounted(point)
            and not any(self.world.seen(point).iterdir())
        ]

    def _can_bind(self) -> bool:
        twin = self.world.folder / MOUNT_POINTS[-1]
        return (
            self.world.is_there(self.world.folder / BOUND)
            and self.world.is_there(twin)
            and not self.world.is_mounted(twin)
        )

    def _losable(self) -> list[str]:
        """Return the disks that are mounted where nothing else is: of several at one place, only the last one can be unmounted."""
        mounts = self.world.mounts()
        return [
            disk
            for disk, points in self.world.plugged()
            if all(point in mounts and self.world.depth(point) == 1 for point in points)
        ]

    def _remountable(self) -> list[tuple[Path, str]]:
        """Return the mount points that have a disk, and nothing in the directory below it that may be seen meanwhile."""
        return [
            (points[0], disk)
            for disk, points in self.world.plugged()
            if points[0] in self.world.mounts() and self.world.depth(points[0]) == 1 and points[0] != self.world.folder
        ]

    def _deletable(self) -> list[Path]:
        """Return the files whose volume has others: one that is empty all at once looks like a disk that went away."""
        return [path for path in self.world.files() if self._spares({path})]

    def _deletable_directories(self) -> list[Path]:
        files, mounts = self.world.files(), self.world.mounts()
        return [
            directory
            for directory in self.world.directories()
            if directory.name not in (*MOUNT_POINTS, BOUND)
            and directory != self.world.folder
            and not any(directory in (point, *point.parents) for point in mounts)
            and self._spares({path for path in files if directory in path.parents})
        ]

    def _spares(self, deleted: set[Path]) -> bool:
        view = self.world.view()
        left = {view.volume_of(path) for path in view.files if Path(path) not in deleted}
        return bool(deleted) and {view.volume_of(str(path)) for path in deleted} <= left


@dataclass(slots=True)
class Round:
    """Steps on a new library, and what came of them."""

    number: int
    steps: list[str] = field(default_factory=list)
    seconds: float = 0.0
    found: Differences = field(default_factory=Differences)
    error: str = ""
    kept: Path | None = None

    @property
    def passed(self) -> bool:
        return not self.error and not self.found

    def __str__(self) -> str:
        lost, ghosts = len(self.found.lost), len(self.found.ghosts) + len(self.found.strays)
        result = self.error or f"lost {lost}, ghosts {ghosts}"
        return f"round {self.number:4}  {self.seconds:5.1f} s  {len(self.steps):3} changes  {result}"


def play(world: World, one: Round, choose: Choose, steps: int) -> None:
    """Start the daemon and take steps, each after the one before it has been seen, until the daemon and the model differ."""
    taken = Steps(world)
    world.start()
    one.found = world.settle()
    for _ in range(steps):
        if one.found:
            return
        taken.take(choose(taken.possible()), choose)
        one.found = world.settle()
    if world.installation.process is None:
        world.start()
        one.found = world.settle()
    one.found = one.found or world.stored_differences()


def _round(number: int, seed: int, cache: Path) -> Round:
    random = Random(f"{seed}/{number}")
    world = World(cache, f"{seed}/{number}")
    one = Round(number, world.steps)
    started = time.monotonic()
    try:
        play(world, one, random.choice, STEPS_A_ROUND)
    except (DrillError, HTTPException, OSError) as error:
        one.error = f"{type(error).__name__}: {error}"
    finally:
        world.close()
    one.seconds = time.monotonic() - started
    if one.passed:
        world.installation.remove()
    else:
        one.kept = world.installation.root
    return one


def run(rounds: int, seed: int, cache: Path) -> bool:
    """Do the rounds, tell of each, and return whether nothing was lost and no ghost was seen."""
    if why := obstacle():
        print(f"the drill cannot mount anything: {why}")
        return False
    lost = ghosts = failed = 0
    for number in range(1, rounds + 1):
        one = _round(number, seed, cache)
        print(one, flush=True)
        lost, ghosts = lost + len(one.found.lost), ghosts + len(one.found.ghosts) + len(one.found.strays)
        if not one.passed:
            failed += 1
            print("\n".join([str(one.found), "after:", *one.steps, f"kept: {one.kept}"]), flush=True)
    errors = f", {failed} rounds failed" if failed else ""
    print(f"rounds {rounds}, lost {lost}, ghosts {ghosts}{errors} (--seed {seed})")
    return not failed
