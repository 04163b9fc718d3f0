"""The judgement about missing files, as a table of facts and their outcomes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.changes import Hold
from daemon.watch.brake import Brake, Facts, Judgement, judge

FOLDER = "/p"
DISK = "/p/disk"
HOME, ONE, TWO = "ext4 1 2", "ext4 77 2", "ext4 88 2"
BRAKE = Brake(ratio=0.2, count=2)


def facts(missing: str = "", recorded: int = 100, **changes: object) -> Facts:
    """Return the facts of a walk that misses these files, separated by blanks, of a folder on one disk that is there."""
    known = Facts(
        FOLDER,
        frozenset(f"{FOLDER}/{name}" for name in missing.split()),
        recorded,
        before={FOLDER: HOME},
        now={FOLDER: HOME},
        moment=5.0,
    )
    return replace(known, **changes)  # type: ignore[arg-type]  # each is a field


def hold(names: str, *, volume: str = "", top: str = "", decision: str = "") -> Hold:
    return Hold("why", frozenset(f"{FOLDER}/{name}" for name in names.split()), 100, 1.0, volume, top, decision)  # type: ignore[arg-type]


def names(judgement: Judgement) -> tuple[str, str]:
    """Return the files that are held and those that are deleted."""
    return tuple(  # type: ignore[return-value]
        " ".join(sorted(path.removeprefix(FOLDER + "/") for path in paths))
        for paths in (judgement.held, judgement.deleted)
    )


@pytest.mark.parametrize(
    ("told", "held", "deleted"),
    [
        pytest.param(facts(), "", "", id="nothing is missing"),
        pytest.param(facts("a b"), "", "a b", id="few are missing"),
        pytest.param(facts("a b c", recorded=10), "a b c", "", id="too many are missing"),
        pytest.param(facts("a b c", recorded=10, deliberate=True), "", "a b c", id="somebody deleted the directory"),
        pytest.param(facts("a", recorded=1, empty=True), "a", "", id="no photo is left"),
        pytest.param(facts("a", now={FOLDER: ONE}), "a", "", id="another disk is there"),
        pytest.param(facts("a", now={FOLDER: ONE}, deliberate=True), "a", "", id="another disk, and a directory is gone"),
        pytest.param(facts("a", now={FOLDER: "ext4 1 9"}), "a", "", id="another directory of the same disk is there"),
        pytest.param(facts("a", before={FOLDER: ""}), "", "a", id="the disk from before is not known"),
        pytest.param(facts("a", now={FOLDER: ""}), "a", "", id="the disk of now is not known"),
        pytest.param(facts("a", now={FOLDER: ONE}, unchanged_on={FOLDER: 9}), "", "a", id="the disk got another number"),
        pytest.param(facts("a b", now={FOLDER: ONE}, unchanged_on={FOLDER: 2}), "a b", "", id="too little is the same"),
        pytest.param(
            facts("a", now={FOLDER: "ext4 1 9"}, unchanged_on={FOLDER: 9}), "a", "", id="files were moved to another folder"
        ),
        pytest.param(
            facts("a", before={FOLDER: "fuse.x 0 1"}, now={FOLDER: "fuse.x host:/a 1"}), "", "a", id="a source is known now"
        ),
        pytest.param(
            facts("a disk/b", before={FOLDER: HOME, DISK: ONE}), "disk/b", "a", id="a disk below is unmounted"
        ),
        pytest.param(
            facts("disk/b", now={FOLDER: HOME, DISK: ONE}), "disk/b", "", id="a disk was mounted over photos"
        ),
        pytest.param(
            facts("a disk/b", before={FOLDER: HOME, DISK: ONE}, now={FOLDER: HOME, DISK: TWO}),
            "disk/b", "a", id="a disk below was swapped",
        ),
        pytest.param(facts("a b c", recorded=10, elsewhere=frozenset({"/p/a", "/p/b"})), "", "a b c", id="copies are left"),
        pytest.param(facts("a b", allowance=2), "a b", "", id="as many as were allowed"),
        pytest.param(facts("a b c", allowance=2), "", "a b c", id="more than were allowed"),
    ],
)  # fmt: skip
def test_a_first_walk_is_judged(told: Facts, held: str, deleted: str) -> None:
    assert names(judge(told, BRAKE)) == (held, deleted)


@pytest.mark.parametrize(
    ("told", "held", "deleted"),
    [
        pytest.param(facts("a b", now={FOLDER: ONE}), "a b", "", id="the disk is still away"),
        pytest.param(facts("a b c", now={FOLDER: ONE}, before={FOLDER: ONE}), "a b", "c", id="new photos come and go there"),
        pytest.param(facts("b", now={FOLDER: ONE}), "b", "", id="a file of the same name came"),
        pytest.param(facts("a", before={FOLDER: ONE}), "", "a", id="the disk is back, and a file was deleted on it"),
        pytest.param(facts("a b", before={FOLDER: ONE}, recorded=2, empty=True), "a b", "", id="the disk is back, and empty"),
        pytest.param(facts(), "", "", id="everything is back"),
        pytest.param(
            facts("a b", now={FOLDER: ONE}, elsewhere=frozenset({"/p/a"})), "a b", "", id="a copy is left of a photo on the disk"
        ),
        pytest.param(facts("a b c", before={FOLDER: ONE}, now={FOLDER: TWO}), "a b c", "", id="a third disk is there"),
    ],
)  # fmt: skip
def test_a_hold_belongs_to_the_volume_that_went_away(told: Facts, held: str, deleted: str) -> None:
    told = replace(told, holds=(hold("a b", volume=HOME, top=FOLDER),))
    assert names(judge(told, BRAKE)) == (held, deleted)


@pytest.mark.parametrize(
    ("decision", "told", "held", "deleted"),
    [
        ("kept", facts("a b"), "a b", ""),
        ("kept", facts("a b", before={FOLDER: ONE}), "a b", ""),
        ("kept", facts("a b c"), "a b", "c"),
        ("approved", facts("a b"), "a b", "a b"),
        ("approved", facts("b"), "b", "b"),
        ("approved", facts("b", now={FOLDER: ONE}), "b", "b"),
        ("", facts("a b"), "a b", ""),
        ("", facts("a b", elsewhere=frozenset({"/p/a"})), "b", "a"),
        ("", facts("b"), "b", ""),
    ],
)
def test_a_decision_stands_until_the_files_are_back(decision: str, told: Facts, held: str, deleted: str) -> None:
    told = replace(told, holds=(hold("a b", decision=decision),))
    assert names(judge(told, BRAKE)) == (held, deleted)


def test_what_is_missing_besides_kept_files_is_a_question_of_its_own() -> None:
    judgement = judge(facts("a b c d", recorded=10, holds=(hold("a b", decision="kept"),)), BRAKE)
    assert {(one.decision, one.paths) for one in judgement.holds} == {
        ("kept", frozenset({"/p/a", "/p/b"})),
        ("", frozenset({"/p/c", "/p/d"})),
    }


def test_an_allowance_is_used_by_the_walk_that_meets_the_files() -> None:
    judgement = judge(facts("a b", allowance=5), BRAKE)
    assert ([one.decision for one in judgement.holds], judgement.used) == (["kept"], 2)
    assert judge(facts("a b c", recorded=10, allowance=2), BRAKE).used == 0


def test_files_of_one_volume_join_its_hold() -> None:
    standing = hold("disk/a", volume=ONE, top=DISK)
    judgement = judge(facts("disk/a disk/b", before={FOLDER: HOME, DISK: ONE}, holds=(standing,)), BRAKE)
    assert [(one.paths, one.since) for one in judgement.holds] == [(frozenset({"/p/disk/a", "/p/disk/b"}), 1.0)]


def test_no_file_is_held_and_deleted_unless_its_deletion_was_approved() -> None:
    volumes = ({FOLDER: HOME}, {FOLDER: ONE}, {FOLDER: HOME, DISK: ONE}, {FOLDER: HOME, DISK: TWO})
    standing = (hold("a", decision="approved"), hold("b", volume=ONE, top=FOLDER), hold("disk/c", decision="kept"))
    for before in volumes:
        for now in volumes:
            for deliberate in (False, True):
                told = facts("a b disk/c d e", 10, before=before, now=now, deliberate=deliberate, holds=standing)
                judgement = judge(told, BRAKE)
                approved = {path for one in judgement.holds if one.decision == "approved" for path in one.paths}
                assert judgement.held | judgement.deleted == told.missing
                assert judgement.held & judgement.deleted == approved
