"""What is added: a model of the user's own, with the spec that was made for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Addition:
    """A model that was tried and works: its spec as YAML, the files it needs, and what was decided on the way."""

    name: str
    yaml: str
    files: dict[str, Path]
    """Where each file is, by its path below the directory NAME beside the spec."""
    decisions: list[str]
