"""What a person says of a model that is to be added, which goes before what its graph lets one guess."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.encode.specs import ModelSpec


@dataclass(frozen=True)
class Wishes:
    """None is what nobody has said; `output` is a name, or a position in digits."""

    name: str | None = None
    preset: str | None = None
    output: str | None = None
    pooling: str | None = None
    size: int | None = None
    metric: str | None = None
    licence: str | None = None
    text: Path | None = None
    tokenizer: Path | None = None
    context: int | None = None
    resize: dict[str, Any] | None = None
    """The section of a spec; it holds where the size is the preset's."""

    def completed(self, spec: ModelSpec) -> Wishes:
        """Return the wishes with what nobody said as `spec` says it, whose file is to be had by making it."""
        if self.preset not in (None, spec.input.preset):
            return self
        return replace(
            self,
            preset=spec.input.preset,
            pooling=self.pooling or spec.output.pooling,
            metric=self.metric or spec.metric,
            licence=self.licence or spec.licence,
            resize=spec.input.resize.model_dump(),
        )
