"""What a person says of a model that is to be added, which goes before what its graph lets one guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Wishes:
    """None is what nobody has said; `output` is a name, or a position in digits."""

    name: str | None = None
    preset: str | None = None
    output: str | None = None
    pooling: str | None = None
    size: int | None = None
    metric: str = "cosine"
    licence: str | None = None
    text: Path | None = None
    tokenizer: Path | None = None
    context: int | None = None
