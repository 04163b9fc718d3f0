"""The model that the disks drill holds the daemon against: its three rules, its decisions, and that it sees every kind of difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.drills.disk_model import Answers, File, Inode, Model, View

ROOT, DISK = "/photos", "/photos/disk"
BASE, RED, GREEN = "base", "red", "green"


def file(photo: int, device: int = 1) -> File:
    return File(photo, Inode(device, photo, 0))


ON_BASE = {"/photos/a.jpg": file(1)}
ON_RED = {"/photos/disk/1.jpg": file(2), "/photos/disk/2.jpg": file(3)}
ON_GREEN = {"/photos/disk/1.jpg": file(4), "/photos/disk/3.jpg": file(5)}
NO_DISK = View({ROOT: BASE}, ON_BASE)
WITH_RED = View({ROOT: BASE, DISK: RED}, ON_BASE | ON_RED)
WITH_GREEN = View({ROOT: BASE, DISK: GREEN}, ON_BASE | ON_GREEN)
MISSING = View()


def seen(*views: View) -> Model:
    model = Model()
    for view in views:
        model.observe(view)
    return model


def answers_of(model: Model) -> Answers:
    """Return what a daemon says that agrees with the model."""
    known = {path: one.file.photo for path, one in model.known.items()}
    state = "held" if model.asked else "kept" if model.held else "watching"
    return Answers(
        found=known,
        unverified=model.held,
        listed=model.held,
        counts={"status": len(model.held), "verify": len(model.held)},
        photos=len(set(known.values())),
        files=len(known),
        folder_state=state,
        state="degraded" if model.asked else "up to date",
    )


def test_the_volume_of_a_path_is_the_innermost_one() -> None:
    assert WITH_RED.volume_of("/photos/disk/new.jpg") == RED
    assert WITH_RED.volume_of("/photos/disks/new.jpg") == BASE
    assert WITH_RED.volume_of("/elsewhere.jpg") is None
    assert MISSING.volume_of("/photos/a.jpg") is None


def test_what_is_on_the_disk_is_found_and_not_held() -> None:
    model = seen(WITH_RED)
    assert model.known.keys() == (ON_BASE | ON_RED).keys()
    assert not model.held


@pytest.mark.parametrize(
    ("views", "held"),
    [
        pytest.param([NO_DISK], ON_RED, id="unmounted"),
        pytest.param([MISSING], ON_BASE | ON_RED, id="the folder is missing"),
        pytest.param([View({ROOT: "new"}, {})], ON_BASE | ON_RED, id="a new folder at the path"),
        pytest.param([WITH_GREEN], {"/photos/disk/2.jpg"}, id="another disk, which has one of the names"),
        pytest.param([WITH_GREEN, NO_DISK], {"/photos/disk/2.jpg"} | ON_GREEN.keys(), id="both are away"),
        pytest.param([NO_DISK, WITH_RED], {}, id="back"),
        pytest.param([WITH_GREEN, WITH_RED], {"/photos/disk/3.jpg"}, id="swapped back"),
        pytest.param(
            [View({ROOT: BASE}, ON_BASE | {"/photos/disk/1.jpg": file(9)})],
            {"/photos/disk/2.jpg"},
            id="a photo in the empty mount point",
        ),
        pytest.param([View({ROOT: BASE, DISK: RED}, ON_RED)], {}, id="deleted on a volume that is there"),
        pytest.param([View({ROOT: BASE, DISK: RED}, ON_BASE)], {}, id="all of a volume deleted that is there"),
        pytest.param([NO_DISK, View({ROOT: BASE, DISK: RED}, ON_BASE)], {}, id="deleted elsewhere and back"),
    ],
)
def test_what_is_not_there_is_held_unless_its_volume_is(views: list[View], held: dict[str, File] | set[str]) -> None:
    assert seen(WITH_RED, *views).held == set(held)


def test_a_mount_over_photos_does_not_delete_them() -> None:
    below = View({ROOT: BASE}, ON_BASE | {"/photos/disk/0.jpg": file(7)})
    assert seen(below, WITH_RED).held == {"/photos/disk/0.jpg"}


def test_what_was_approved_is_gone_until_its_volume_is_back() -> None:
    model = seen(WITH_RED, NO_DISK)
    model.approve(2)
    assert not model.held
    assert model.known.keys() == ON_BASE.keys()
    model.observe(WITH_RED)
    model.observe(NO_DISK)
    assert len(model.asked) == 2


def test_what_was_rejected_is_kept_until_its_volume_is_back() -> None:
    model = seen(WITH_RED, NO_DISK)
    model.reject()
    model.observe(NO_DISK)
    assert (len(model.held), len(model.asked)) == (2, 0)
    model.observe(WITH_RED)
    model.observe(NO_DISK)
    assert len(model.asked) == 2


def test_an_approval_is_about_all_that_is_held_or_about_all_that_nobody_decided_to_keep() -> None:
    def mixed() -> Model:
        model = seen(WITH_RED, NO_DISK)
        model.reject()
        model.observe(MISSING)
        assert (len(model.held), len(model.asked)) == (3, 1)
        return model

    model = mixed()
    model.approve(3)
    assert not model.known
    model = mixed()
    model.approve(1)
    assert model.known.keys() == ON_RED.keys()
    with pytest.raises(AssertionError):
        mixed().approve(2)


def test_a_disk_that_is_mounted_elsewhere_in_the_folder_may_have_moved_there() -> None:
    elsewhere = {"/photos/other/1.jpg": file(2), "/photos/other/2.jpg": file(3)}
    model = seen(WITH_RED, View({ROOT: BASE, "/photos/other": RED}, ON_BASE | elsewhere))
    assert model.either == ON_RED.keys()
    moved = answers_of(seen(View({ROOT: BASE}, ON_BASE | elsewhere)))
    assert not model.differences(answers_of(model))
    assert not model.differences(moved)
    model.agree(moved)
    assert not model.held
    assert not model.differences(moved)


def test_a_daemon_that_agrees_does_not_differ() -> None:
    for model in (seen(WITH_RED), seen(WITH_RED, NO_DISK), seen(WITH_RED, WITH_GREEN)):
        assert not model.differences(answers_of(model))
    model = seen(WITH_RED, NO_DISK)
    model.reject()
    assert not model.differences(answers_of(model))


HELD = seen(WITH_RED, NO_DISK)
RIGHT = answers_of(HELD)
A, ONE = "/photos/a.jpg", "/photos/disk/1.jpg"


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        (
            replace(RIGHT, found={path: RIGHT.found[path] for path in RIGHT.found if path != ONE}),
            "lost",
            "is not found",
        ),
        (replace(RIGHT, found={**RIGHT.found, A: 9}), "lost", "is found as 9"),
        (replace(RIGHT, found={**RIGHT.found, "/photos/b.jpg": 9}), "ghosts", "b.jpg is found"),
        (replace(RIGHT, unverified=RIGHT.unverified - {ONE}), "ghosts", "not marked as unverified"),
        (replace(RIGHT, unverified=RIGHT.unverified | {A}), "lost", "is marked as unverified"),
        (replace(RIGHT, listed=frozenset()), "ghosts", "not listed as held"),
        (replace(RIGHT, counts={"status": 2, "verify": 0}), "ghosts", "verify says that 0 are held"),
        (replace(RIGHT, files=1), "ghosts", "status counts"),
        (replace(RIGHT, folder_state="watching"), "ghosts", "the folder is watching"),
        (replace(RIGHT, state="up to date"), "ghosts", "the daemon up to date"),
        (replace(RIGHT, differences=("1 ghost_path: /photos/x.jpg",)), "ghosts", "verify: 1 ghost_path"),
    ],
)
def test_each_kind_of_difference_is_seen(wrong: Answers, kind: str, said: str) -> None:
    found = HELD.differences(wrong)
    assert said in str(getattr(found, kind))
