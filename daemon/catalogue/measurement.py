"""What is found out about a model on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Neighbour:
    path: str
    score: float
    """By the spec's metric, as search shows it: greater is nearer, but for l2, where it is the squared distance."""


@dataclass(frozen=True)
class Measurement:
    """Photos a second, by the number of threads; bytes of resident memory; `photos` are those of the user."""

    model: str
    version: str
    dim: int
    metric: str
    provider: str
    norm: float
    encoded_per_second: dict[int, float]
    photos_per_second: dict[int, float]
    memory_before: int
    memory_after: int
    text_seconds: float | None
    photos: int
    unreadable: list[str] = field(default_factory=list)
    neighbours: dict[str, list[Neighbour]] = field(default_factory=dict)
