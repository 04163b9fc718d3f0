"""The deletion brake: nothing is deleted when a disk that went away is likelier than a decision. Pure: it is told what a walk found."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.watch.mounts import volume_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.watch.reconcile import Comparison


@dataclass(frozen=True, slots=True)
class Brake:
    """When a walk's deletions are held: more than `count` files and more than `ratio` of the folder's."""

    ratio: float
    count: int

    def holds(self, missing: int, recorded: int) -> bool:
        return missing > self.count and missing > self.ratio * recorded


@dataclass(frozen=True, slots=True)
class Hold:
    """Files that are missing, and stay in the index until they are back or somebody decides."""

    reason: str
    """A sentence."""
    paths: frozenset[str]
    recorded: int
    """How many files the index has of the folder."""
    since: float
    """Unix time."""
    kept: bool = False
    """Somebody decided that they are not deleted."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of the files that a walk misses."""

    reason: str = ""
    """Why some are held; empty when none is."""
    held: frozenset[str] = frozenset()


def judge(
    found: Comparison,
    brake: Brake,
    *,
    folder: str,
    before: Mapping[str, str],
    now: Mapping[str, str],
    empty: bool,
    deliberate: bool,
) -> Judgement:
    """Judge what a walk misses. `before` and `now` are the folder's volumes, `empty` says that the walk met no photo at all.

    What a `deliberate` walk misses was deleted by somebody, as an event told, however much it is: of that, only what lay on a file
    system that is not there any more is held.
    """
    missing, recorded = len(found.missing), found.recorded
    if not missing:
        return Judgement()
    if not deliberate and empty:
        return Judgement(f"no photo is in it any more, and {missing:,} are in the index", frozenset(found.missing))
    if not deliberate and brake.holds(missing, recorded):
        return Judgement(f"{missing:,} of {recorded:,} photos are missing from it", frozenset(found.missing))
    return _of_lost_volumes(found, folder, before, now)


def _of_lost_volumes(found: Comparison, folder: str, before: Mapping[str, str], now: Mapping[str, str]) -> Judgement:
    """Hold what lay on a file system that is not there, or is another one: none of its files is there any more."""
    tops = {folder, *before, *now}
    missing: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
    for path in found.missing:
        missing[volume_of(path, tops) or folder].append(path)
    lost = [
        top
        for top, paths in missing.items()
        if _identity(top, before) not in ("", _identity(top, now)) and len(paths) == found.recorded_on[top]
    ]
    if not lost:
        return Judgement()
    held = frozenset(path for top in lost for path in missing[top])
    return Judgement(f"{lost[0]} is not the file system it was, and {len(held):,} photos of it are missing", held)


def _identity(top: str, volumes: Mapping[str, str]) -> str:
    """Return the file system at `top`: its own, or the one that the directories above it lie on."""
    above = volume_of(top, volumes)
    return volumes[above] if above is not None else ""
