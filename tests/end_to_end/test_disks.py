"""Disks come and go under a working daemon, for real, and nothing is deleted but what somebody deleted or decided to delete.

LOOKALIKE_DISK_EXAMPLES=100 makes a longer run of the random sequences with other choices each time; `--hypothesis-seed` repeats one.
"""

from __future__ import annotations

import os
import shutil
from http.client import HTTPException
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.drills import asking
from tests.drills.disk_model import Model
from tests.drills.disks import Steps
from tests.drills.installation import DrillError
from tests.drills.world import SETTINGS, World
from tests.namespaces import obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ASKED_EXAMPLES = os.environ.get("LOOKALIKE_DISK_EXAMPLES")
EXAMPLES = int(ASKED_EXAMPLES or 2)
STEPS_AN_EXAMPLE = 8
SECONDS_AN_EXAMPLE = 60

pytestmark = [
    pytest.mark.skipif(bool(obstacle()), reason=obstacle()),
    # Some start the daemon three times.
    pytest.mark.timeout(300),
]


class Worlds:
    """One world after another: each begins with the daemon of the one before, unless that does not get there."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._world: World | None = None

    def begin(self) -> World:
        if self._world is not None:
            try:
                self._world.reset()
            except (AssertionError, DrillError, HTTPException, OSError):
                self.end()
        if self._world is None:
            self._world = World(self._cache)
            self._world.start()
        return self._world

    def end(self) -> None:
        if self._world is not None:
            world, self._world = self._world, None
            world.close()
            assert "Traceback" not in world.installation.said()
            world.installation.remove()


@pytest.fixture(scope="module")
def worlds(cache: Path) -> Iterator[Worlds]:
    ones = Worlds(cache)
    yield ones
    ones.end()


@pytest.fixture
def world(worlds: Worlds) -> World:
    return worlds.begin()


def kill_and_restart(world: World) -> None:
    world.kill()
    world.start()


# One disk


def test_an_unmounted_disk_is_held_and_found_again_when_it_is_back(world: World) -> None:
    disk = world.folder / "disk"
    world.mount("red", disk)
    world.agree()
    encoded = world.encoded
    world.unmount(disk)
    world.agree()
    assert len(world.model.asked) == 3
    world.mount("red", disk)
    world.agree()
    assert not world.model.held
    assert world.encoded == encoded


def test_what_is_deleted_on_a_mounted_disk_goes_at_once_and_needs_no_decision(world: World) -> None:
    disk = world.folder / "disk"
    world.mount("red", disk)
    world.agree()
    world.seen(disk / "1.jpg").unlink()
    world.agree()
    shutil.rmtree(world.seen(disk / "trip"))
    world.agree()
    assert sorted(path for path in world.model.known if path.startswith(f"{disk}/")) == [f"{disk}/red.jpg"]
    # The last one too: an event tells of it.
    world.seen(disk / "red.jpg").unlink()
    world.agree()
    assert not world.model.held


def test_the_photos_of_a_disk_stay_held_while_another_disk_is_in_its_place(world: World) -> None:
    """A name that is on both shows the photo of the disk that is there."""
    world.mount("red", world.folder)
    world.agree()
    world.unmount_lazily(world.folder)
    world.mount("green", world.folder)
    world.agree()
    red = {f"{world.folder}/red.jpg", f"{world.folder}/trip/red.jpg"}
    assert red <= world.model.held
    assert f"{world.folder}/green.jpg" not in world.model.held
    assert f"{world.folder}/1.jpg" not in world.model.held


def test_the_photos_of_a_disk_stay_held_while_photos_lie_in_its_empty_mount_point(world: World) -> None:
    disk = world.folder / "disk"
    world.write(disk / "below.jpg")
    world.agree()
    world.mount("red", disk)
    world.agree()
    # A mount covers files; nobody deleted them.
    assert world.model.held == {f"{disk}/below.jpg"}
    world.unmount(disk)
    world.agree()
    assert len(world.model.asked) == 3
    world.write(disk / "1.jpg")
    world.write(disk / "more.jpg")
    world.agree()
    assert world.model.asked == {f"{disk}/red.jpg", f"{disk}/trip/red.jpg"}


def test_a_disk_that_is_swapped_back_is_found_again_without_being_encoded(world: World) -> None:
    disk = world.folder / "disk"
    world.mount("red", disk)
    world.agree()
    world.unmount(disk)
    world.mount("green", disk)
    world.agree()
    encoded = world.encoded
    world.unmount(disk)
    world.mount("red", disk)
    world.agree()
    # The photo whose name the other disk has too was superseded; every other one was kept.
    assert world.encoded <= encoded + 1
    assert world.model.asked == {f"{disk}/green.jpg", f"{disk}/trip/green.jpg"}


def test_a_directory_that_is_mounted_twice_is_followed_under_both_names(world: World) -> None:
    orig, twin = world.folder / "orig", world.folder / "twin"
    world.write(orig / "2.jpg")
    world.write(orig / "3.jpg")
    world.bind(orig, twin)
    world.agree()
    world.seen(orig / "1.jpg").unlink()
    world.write(orig / "4.jpg")
    world.write(orig / "2.jpg")
    world.agree()
    # The other way round as well.
    world.seen(twin / "3.jpg").unlink()
    world.write(twin / "5.jpg")
    world.agree()
    world.unmount(twin)
    world.agree()
    # The same files are still there under their other name, so the daemon may also say that they have moved.
    assert world.model.held <= {f"{twin}/{name}.jpg" for name in (2, 4, 5)}


# The watched folder itself


@pytest.mark.parametrize("photos", [0, 2])
def test_a_new_folder_at_the_path_of_a_renamed_one_is_another_volume(world: World, photos: int) -> None:
    before = frozenset(map(str, world.view().files))
    world.rename_away(world.folder.parent)
    world.agree()
    assert world.model.held == before
    world.make_a_new_root(photos)
    world.agree()
    assert world.model.held == before
    world.rename_back()
    world.agree()
    assert len(world.model.held) == photos


def test_a_folder_that_was_renamed_while_the_daemon_was_down_needs_no_decision(worlds: Worlds, world: World) -> None:
    world.agree()
    world.stop()
    renamed = world.installation.root / "renamed"
    world.folder.rename(renamed)
    world.installation.configuration.write_text(SETTINGS.format(folder=renamed), encoding="utf-8")
    world.folder = world.installation.folder = renamed
    world.model = Model()
    world.start()
    world.agree()
    assert not world.model.held
    assert world.encoded == 0
    worlds.end()


def test_a_directory_that_was_renamed_while_the_daemon_was_down_needs_no_decision(world: World) -> None:
    disk = world.folder / "disk"
    world.mount("red", disk)
    world.agree()
    world.stop()
    world.seen(disk / "trip").rename(world.seen(disk / "journey"))
    world.start()
    world.agree()
    assert not world.model.held
    assert world.encoded == 0


# Decisions and restarts


@pytest.fixture
def away(world: World) -> World:
    """A world in which a disk with three photos is away, and another one is in its place."""
    disk = world.folder / "disk"
    world.mount("red", disk)
    world.agree()
    world.unmount(disk)
    world.mount("green", disk)
    world.agree()
    assert len(world.model.asked) == 2
    return world


def stop_and_restart(world: World) -> None:
    world.stop()
    world.start()


RESTARTS = pytest.mark.parametrize("restart", [stop_and_restart, kill_and_restart], ids=["in order", "after kill -9"])


@RESTARTS
def test_a_hold_outlives_a_restart(away: World, restart: Callable[[World], None]) -> None:
    restart(away)
    away.agree()
    assert len(away.model.asked) == 2
    away.unmount(away.folder / "disk")
    restart(away)
    away.agree()
    assert len(away.model.asked) == 5


def test_what_was_rejected_is_kept_and_nobody_is_asked_again(away: World) -> None:
    away.reject()
    kill_and_restart(away)
    away.agree()
    assert len(away.model.kept) == 2
    # What goes away after that is asked for.
    away.unmount(away.folder / "disk")
    away.agree()
    assert len(away.model.asked) == 3
    assert len(away.model.kept) == 2


def test_a_rejection_is_used_up_when_its_disk_is_back(away: World) -> None:
    disk = away.folder / "disk"
    away.reject()
    away.agree()
    for name in ("red", "green"):
        away.unmount(disk)
        away.mount(name, disk)
        away.agree()
    assert len(away.model.asked) == 2


def test_what_was_approved_is_gone_and_comes_back_with_its_disk(away: World) -> None:
    """The daemon is ended right after its answer."""
    away.approve()
    kill_and_restart(away)
    away.agree()
    assert not away.model.held
    disk = away.folder / "disk"
    away.unmount(disk)
    away.mount("red", disk)
    away.agree()
    # An approval is about what was held then, not about what goes away later.
    assert away.model.asked == {f"{disk}/green.jpg", f"{disk}/trip/green.jpg"}


def test_what_was_approved_of_a_missing_folder_is_gone(world: World) -> None:
    world.agree()
    world.rename_away(world.folder)
    world.agree()
    world.approve()
    kill_and_restart(world)
    world.agree()
    assert not world.model.known
    world.rename_back()
    world.agree()
    world.rename_away(world.folder)
    world.agree()
    assert len(world.model.asked) == 2


# One set


def test_whoever_is_asked_says_the_same_of_what_is_held_at_every_moment(world: World) -> None:
    """Ask while disks go and come and somebody decides. An answer between two equal lists is held against these."""
    disk = world.folder / "disk"
    world.mount("red", disk)
    world.agree()
    seen: set[int] = set()

    def compare() -> None:
        listed = world.listed()
        found, unverified = world.search()
        status = world.installation.asked("GET", "/v1/status")["held_deletions"]
        measured = asking.measured(world.installation, "lookalike_held_deletions")
        if listed == world.listed():
            seen.add(len(listed))
            assert unverified == listed & found.keys()
            assert (status, measured) == (len(listed), len(listed))

    def watch(until: int) -> None:
        for _ in range(500):
            compare()
            if len(world.listed()) == until:
                break
        for _ in range(20):
            compare()

    world.unmount(disk)
    watch(3)
    world.mount("green", disk)
    watch(2)
    asking.decide(world.installation, "reject", world.folder)
    watch(2)
    world.unmount_lazily(disk)
    watch(5)
    world.mount("red", disk)
    watch(2)
    asking.decide(world.installation, "approve", world.folder)
    watch(0)
    assert {0, 2, 3, 5} <= seen


# Random sequences


class Disks(RuleBasedStateMachine):
    """Begins with a new world; after each step the daemon has to agree with the model."""

    worlds: Worlds

    def __init__(self) -> None:
        super().__init__()
        self.world = self.worlds.begin()
        self.is_over = False

    @precondition(lambda self: not self.is_over)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        steps = Steps(self.world)
        name = data.draw(st.sampled_from(steps.possible()), label="step")
        steps.take(name, lambda options: data.draw(st.sampled_from(list(options)), label=name))

    @invariant()
    def daemon_agrees(self) -> None:
        if self.world.installation.process is not None:
            self.is_over = True
            self.world.agree()
            self.is_over = False

    def teardown(self) -> None:
        if self.is_over:
            return
        if self.world.installation.process is None:
            self.world.start()
            self.world.agree()
        assert not (found := self.world.stored_differences()), f"{found}\nafter:\n" + "\n".join(self.world.steps)


@pytest.mark.timeout(120 + SECONDS_AN_EXAMPLE * EXAMPLES)
def test_the_daemon_agrees_with_a_plain_model_whatever_happens_to_the_disks(worlds: Worlds) -> None:
    Disks.worlds = worlds
    run_state_machine_as_test(
        Disks,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS_AN_EXAMPLE,
            derandomize=not ASKED_EXAMPLES,
            database=None,
            deadline=None,
            # Each example takes seconds, and what a race has brought about does not come again: nothing is made smaller.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
