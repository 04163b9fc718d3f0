"""The deletion brake: it decides which missing files are deleted and which are held. Pure: it judges facts that a walk gathered."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from daemon.changes import Hold
from daemon.watch.mounts import volume_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daemon.changes import Decision


@dataclass(frozen=True, slots=True)
class Brake:
    """The threshold: a walk that misses more than `count` files and more than `ratio` of a folder's deletes none of them."""

    ratio: float
    count: int

    def holds(self, missing: int, recorded: int) -> bool:
        """Whether so many missing files are too many to be deleted without a decision."""
        return missing > self.count and missing > self.ratio * recorded


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the judgement of one walk depends on."""

    folder: str
    missing: frozenset[str]
    """Files of the index that the walk did not meet."""
    recorded: int
    """How many files the index has where the walk went."""
    before: Mapping[str, str]
    """The volumes of the folder at its last walk: see `mounts.volumes`."""
    now: Mapping[str, str]
    """Its volumes at this walk."""
    unchanged_on: Mapping[str, int] = field(default_factory=dict)
    """How many files are as they were recorded, by the innermost mount point (of then or now) that they lie in."""
    empty: bool = False
    """Whether the walk met no photo at all."""
    deliberate: bool = False
    """Whether an event said that somebody deleted or moved the directory that was walked."""
    holds: tuple[Hold, ...] = ()
    """The holds of the folder so far."""
    allowance: int = 0
    """How many newly missing files are kept without a question, because somebody decided so beforehand."""
    elsewhere: frozenset[str] = frozenset()
    """Missing files whose photo another file still holds: their deletion loses nothing."""
    moment: float = 0.0
    """Unix time of the walk."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The fate of each missing file: it is in one of the holds, or it is deleted. A file of an approved hold is in both."""

    holds: tuple[Hold, ...] = ()
    deleted: frozenset[str] = frozenset()
    used: int = 0
    """How much of the allowance was used up."""

    @property
    def held(self) -> frozenset[str]:
        """Return every file that is held."""
        return held_by(self.holds)


def held_by(holds: Iterable[Hold]) -> frozenset[str]:
    """Return the files of all holds."""
    return frozenset().union(*(hold.paths for hold in holds))


def judge(facts: Facts, brake: Brake) -> Judgement:
    """Decide about each missing file.

    A hold stays until its files are back, its volume is back, or somebody decides; new photos in the volume's place change
    nothing about that. A file that no hold covers is held when the volume that it lay on is not there any more. All other files
    are missing from a volume that is there. They are deleted, unless they are so many that nobody can have meant it.
    """
    stays = [standing for hold in facts.holds if (standing := _standing(hold, facts)) is not None]
    loose = facts.missing - held_by(stays)
    # The volume of a hold that ended is there, whatever was in its place at the last walk.
    lost = _of_lost_volumes(loose - held_by(facts.holds), facts)
    rest = loose - held_by(lost)
    if not facts.deliberate:
        rest -= facts.elsewhere
        stays = [one for hold in stays if (one := _without_moved(hold, facts)) is not None]
    new = [*lost, *_too_many(rest, stays, lost, facts, brake)]
    used = len(held_by(new))
    kept = 0 < used <= facts.allowance
    decision: Decision = "kept" if kept else ""
    holds = _merged(stays, [replace(hold, decision=decision) for hold in new])
    approved = held_by(hold for hold in holds if hold.decision == "approved")
    return Judgement(holds, (facts.missing - held_by(holds)) | approved, used if kept else 0)


def _standing(hold: Hold, facts: Facts) -> Hold | None:
    """Return the part of a hold that still stands, None when nothing does."""
    paths = hold.paths & facts.missing
    is_back = hold.volume and identity(hold.top, facts.now) == hold.volume
    if is_back and not hold.decision:
        # The volume can be looked at again; files that are missing from it now are judged like any others.
        return None
    if is_back:
        hold = replace(hold, volume="", top="")
    return replace(hold, paths=paths) if paths else None


def _without_moved(hold: Hold, facts: Facts) -> Hold | None:
    if hold.volume or hold.decision:
        return hold
    paths = hold.paths - facts.elsewhere
    return replace(hold, paths=paths) if paths else None


def _of_lost_volumes(loose: frozenset[str], facts: Facts) -> list[Hold]:
    """Return a hold for each volume that is not there any more and that missing files lay on."""
    tops = {facts.folder, *facts.before, *facts.now}
    missing: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    for path in loose:
        missing[volume_of(path, tops) or facts.folder].add(path)
    return [
        Hold(_lost(top, paths, facts), frozenset(paths), facts.recorded, facts.moment, identity(top, facts.before), top)
        for top, paths in sorted(missing.items())
        if _is_lost(identity(top, facts.before), identity(top, facts.now), len(paths), facts.unchanged_on.get(top, 0))
    ]


def _is_lost(before: str, now: str, missing: int, unchanged: int) -> bool:
    """Whether a volume went away, or another one is in its place.

    A disk may get another number at a restart, and its identity with it. Where its top directory is the same one and more files
    are as they were than are missing, the volume is the same.
    """
    if before in ("", now):
        return False
    was, found = before.split(" "), now.split(" ")
    is_renumbered = (was[0], was[-1]) == (found[0], found[-1])
    return not (is_renumbered and (unchanged > missing or was[1] == "0"))


def _lost(top: str, paths: set[str], facts: Facts) -> str:
    if facts.empty and len(paths) == len(facts.missing):
        return _nothing_left(len(paths))
    return f"{top} is not the file system it was, and {len(paths):,} photos of it are missing"


def _nothing_left(missing: int) -> str:
    return f"no photo is in it any more, and {missing:,} are in the index"


def _too_many(
    rest: frozenset[str], stays: Iterable[Hold], lost: Iterable[Hold], facts: Facts, brake: Brake
) -> list[Hold]:
    """Return a hold for files that are missing from volumes that are there, if they are too many or decided about beforehand."""
    if not rest or facts.deliberate:
        return []
    away = sum(len(hold.paths) for hold in (*stays, *lost) if hold.volume)
    held = sum(len(hold.paths) for hold in stays if not hold.volume and hold.decision != "approved")
    missing, recorded = held + len(rest), facts.recorded - away
    reason = f"{missing:,} of {recorded:,} photos are missing from it"
    if facts.empty:
        reason = _nothing_left(missing)
    elif not brake.holds(missing, recorded) and not (facts.allowance and len(held_by(lost) | rest) <= facts.allowance):
        return []
    return [Hold(reason, rest, facts.recorded, facts.moment)]


def _merged(stays: Iterable[Hold], new: Iterable[Hold]) -> tuple[Hold, ...]:
    """Return all holds; new files join the hold that waits for the same volume and the same decision."""
    found: dict[tuple[str, str, str], Hold] = {}
    for hold in (*stays, *new):
        key = (hold.top, hold.volume, hold.decision)
        known = found.get(key)
        found[key] = hold if known is None else replace(hold, paths=known.paths | hold.paths, since=known.since)
    return tuple(found.values())


def identity(top: str, volumes: Mapping[str, str]) -> str:
    """Return the identity of the file system at `top`: its own, or that of the directories above it; empty when it is not known."""
    above = volume_of(top, volumes)
    return volumes[above] if above is not None else ""
