"""What a verification finds, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

Subject = tuple[str, str | int]
"""What may be wrong: which sort of thing, and which one."""

KINDS = {
    "not_indexed": "photos on the disk that are neither indexed nor recorded as failures",
    "outdated": "files recorded with another size, mtime or inode than the disk has",
    "ghost_path": "files recorded that are not on the disk",
    "held": "files recorded that are not to be seen on the disk, and are kept until that is decided",
    "path_refused": "files and failures recorded under a path that no walk gives, as with // or .. in it",
    "vector_missing": "photos without their vector in a model's collection",
    "vector_stray": "vectors that no photo is known for, or that are not recorded as stored",
    "mapping_broken": "places where what Redis holds contradicts itself",
    "intent_left": "photos recorded as being written or removed while nothing is in flight",
    "content_changed": "files whose content is not what was indexed, though size, mtime and inode are as recorded",
    "not_found": "photos that a query with their own bytes does not give first, under exactly their paths",
}
"""Every kind of difference, and what it is called before a person."""
EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with one subject."""

    kind: str
    example: str
    """The subject as a person would name it."""
    evidence: Hashable
    """What was seen: while that changes, the subject is being dealt with."""
    paths: tuple[str, ...] = ()
    """The files that it is about."""
    photos: tuple[int, ...] = ()
    mendable: bool = True
    """Not while only a disk that is away, or somebody's decision, can tell what is right."""


class Check(Protocol):
    """One way of holding the library against itself."""

    def suspects(self) -> Iterable[Subject]:
        """Yield whatever may be wrong, at the price of reading everything once."""

    def look(self, subjects: Sequence[Subject]) -> dict[Subject, Finding]:
        """Return what is wrong now with those of the subjects with which something is."""

    def mend(self, findings: Mapping[Subject, Finding]) -> Iterable[str]:
        """Mend what can be mended in the stores; return the paths to be looked at for the rest."""


@dataclass(frozen=True, slots=True)
class Difference:
    """All findings of one kind."""

    kind: str
    count: int
    what: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelVectors:
    """How many vectors a model's collection holds."""

    name: str
    vectors: int


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a verification: no difference, or what differs."""

    took_seconds: float
    files: int
    photos: int
    models: tuple[ModelVectors, ...]
    failures: int
    deep: bool
    sampled: int
    """Photos that were read and asked for by their own bytes."""
    pending: int
    """Suspicions that could not be decided, since their files were still waiting for their turn."""
    differences: tuple[Difference, ...]
    at_least: bool
    """Whether there may be more: not all that was suspected was looked at."""
    repaired: bool
    """Whether mending was asked for."""
    mended: int


def by_kind(findings: Iterable[Finding]) -> tuple[Difference, ...]:
    """Return the findings as differences, in the order of `KINDS`."""
    examples: dict[str, list[str]] = {}
    for finding in findings:
        examples.setdefault(finding.kind, []).append(finding.example)
    return tuple(
        Difference(kind, len(examples[kind]), what, tuple(sorted(examples[kind])[:EXAMPLES]))
        for kind, what in KINDS.items()
        if kind in examples
    )
