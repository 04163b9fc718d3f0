"""A plain model of a library on disks that come and go: what must be found, what must be marked and listed as held. Pure.

Three rules say everything:

1. What is on the disk now is found under its path, whatever was known of that path before, and is not held.
2. What was known and is not there is deleted if its path still lies on the volume that it was known on: somebody deleted it.
3. Everything else that was known and is not there is held, until its volume is back at its place, or somebody decides.

A volume is a file system together with the directory that is its top here. The volume of a path is the innermost one that it lies in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.drills.oracle import Differences

if TYPE_CHECKING:
    from collections.abc import Mapping


class Inode(NamedTuple):
    """What tells a file from every other one, also when it is found under another path."""

    device: int
    number: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class File:
    """A photo as it lies on the disk."""

    photo: int
    inode: Inode


@dataclass(frozen=True, slots=True)
class View:
    """What is to be seen of the watched folder now."""

    volumes: Mapping[str, str] = field(default_factory=dict)
    """The folder and each mount point in it -> the volume there; empty while the folder is missing."""
    files: Mapping[str, File] = field(default_factory=dict)

    def volume_of(self, path: str) -> str | None:
        """Return the volume that a path lies on, whether there is such a file or not."""
        tops = [top for top in self.volumes if path.startswith(top.rstrip(os.sep) + os.sep)]
        return self.volumes[max(tops, key=len)] if tops else None


@dataclass(frozen=True, slots=True)
class Answers:
    """What the daemon says, each part by another way in."""

    found: Mapping[str, int]
    """Path -> photo, of the answer to a search that has room for the whole library."""
    unverified: frozenset[str]
    """Those of its paths that the search marks."""
    listed: frozenset[str]
    """What `deletions list` has."""
    counts: Mapping[str, int]
    """How many are held, by whoever says so."""
    photos: int
    files: int
    """As `status` counts them."""
    folder_state: str
    state: str
    differences: tuple[str, ...] = ()
    """What `verify` finds beside what is held, a sentence each."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the index has to know of a path."""

    file: File
    volume: str
    """Where it was when it was last seen."""


class Model:
    """What the index has to be. Nothing but `observe`, `approve`, `reject` and `agree` changes it, so a restart changes nothing."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.held: frozenset[str] = frozenset()
        self.kept: frozenset[str] = frozenset()
        """Those of the held ones that somebody has decided to keep: nobody is asked of them any more."""
        self.either: frozenset[str] = frozenset()
        """Those of the held ones whose file is to be seen under another path.

        Their volume is mounted elsewhere in the folder. That they have moved there is as right as that they are held; which of the
        two, the daemon says, by all ways in the same.
        """
        self._is_missing = False

    def observe(self, view: View) -> None:
        """The daemon has had the time to see this."""
        known = {
            path: one
            for path, one in self.known.items()
            if path not in view.files and view.volume_of(path) != one.volume
        }
        self.held = frozenset(known)
        self.kept &= self.held
        seen = {file.inode for file in view.files.values()}
        self.either = frozenset(path for path, one in known.items() if one.file.inode in seen)
        for path, file in view.files.items():
            volume = view.volume_of(path)
            assert volume is not None, f"{path} lies on no volume"
            known[path] = Known(file, volume)
        self.known = known
        self._is_missing = not view.volumes

    @property
    def asked(self) -> frozenset[str]:
        """Those of the held ones that wait for a decision."""
        return self.held - self.kept

    def approve(self, files: int) -> None:
        """The answer to an approval says that it was about so many files: about all that are held, or all that nobody had decided to keep."""
        approved = {len(self.asked): self.asked, len(self.held): self.held}
        assert files in approved, f"{files} deletions were approved of {len(self.held)}, {len(self.kept)} of them kept"
        self.known = {path: one for path, one in self.known.items() if path not in approved[files]}
        self.held -= approved[files]
        self.kept -= approved[files]
        self.either -= approved[files]

    def reject(self) -> None:
        """Everything that is held now stays, and nobody is asked of it any more."""
        self.kept = self.held

    def agree(self, answers: Answers) -> None:
        """Take over what the daemon has made of those that may be held or may have moved."""
        for path in self.either - answers.found.keys():
            del self.known[path]
            self.held -= {path}
            self.kept -= {path}
        self.either &= answers.found.keys()

    def shows(self, found: Mapping[str, int], unverified: frozenset[str]) -> bool:
        """Whether a search shows what it has to, with the right marks."""
        moved = self.either - found.keys()
        known = {path: one.file.photo for path, one in self.known.items() if path not in moved}
        return (found, unverified) == (known, self.held - moved)

    def differences(self, answers: Answers) -> Differences:
        """Return where the daemon says anything else."""
        moved = self.either - answers.found.keys()
        known = {path: one.file.photo for path, one in self.known.items() if path not in moved}
        held = self.held - moved
        found = Differences()
        found.lost += [f"lost: {path} is not found" for path in sorted(known.keys() - answers.found.keys())]
        found.ghosts += [f"ghost: {path} is found" for path in sorted(answers.found.keys() - known.keys())]
        for path in sorted(known.keys() & answers.found.keys()):
            if known[path] != answers.found[path]:
                found.lost.append(f"lost: {path} is photo {known[path]}, and is found as {answers.found[path]}")
        for way, said in (("marked as unverified", answers.unverified), ("listed as held", answers.listed)):
            found.ghosts += [f"ghost: {path} is away, and not {way}" for path in sorted(held - said)]
            found.lost += [f"lost: {path} is {way}, and is not away" for path in sorted(said - held)]
        expected = dict.fromkeys(answers.counts, len(held))
        found.ghosts += [
            f"ghost: {way} says that {answers.counts[way]} are held, and {expected[way]} are"
            for way in sorted(expected)
            if answers.counts[way] != expected[way]
        ]
        counted, said_counts = (len(set(known.values())), len(known)), (answers.photos, answers.files)
        if counted != said_counts:
            found.ghosts.append(f"ghost: status counts {said_counts} photos and files, and there are {counted}")
        found.ghosts += [f"ghost: verify: {difference}" for difference in answers.differences]
        found.ghosts += self._states(answers, held)
        return found

    def _states(self, answers: Answers, held: frozenset[str]) -> list[str]:
        if self._is_missing:
            return (
                []
                if answers.folder_state == "missing"
                else [f"ghost: the folder is {answers.folder_state}, not missing"]
            )
        asked = bool(held - self.kept)
        folder = "held" if asked else "kept" if held else "watching"
        state = "degraded" if asked else "up to date"
        if (answers.folder_state, answers.state) == (folder, state):
            return []
        return [f"ghost: the folder is {answers.folder_state} and the daemon {answers.state}, not {folder} and {state}"]
