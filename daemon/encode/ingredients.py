"""What a model is made of: each of its sources found, verified, and known by its checksum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.encode import prepared
from daemon.encode.external_data import beside
from daemon.encode.sources import content, located, sha256_of, verified
from daemon.encode.specs import Affine
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from daemon.encode.specs import ModelSpec, Source


@dataclass(frozen=True)
class Ingredient:
    """A file that a model is made of, and the files beside it in which a graph keeps weights, by their relative names."""

    path: Path
    sha256: str
    external: Mapping[str, str] = field(default_factory=dict)

    def read(self, name: str, *, at_most: int) -> bytes:
        """Return the file's content, for the model `name`; ModelError when it is too large, or not what it was."""
        data = content(name, self.path, at_most=at_most)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ModelError(name, f"{self.path} was changed while it was read; start again.")
        return data

    def described(self) -> dict[str, object]:
        """Return what a fingerprint says of it: content, never place."""
        return {"sha256": self.sha256} | ({"external": dict(self.external)} if self.external else {})


def gathered(spec: ModelSpec, cache_dir: Path, models_dir: Path) -> dict[str, Ingredient]:
    """Return the files of `spec` by the part they play; ModelError when one is missing, or is not what its spec says."""
    known = {
        sha256: names for made in prepared.manifests(cache_dir, spec.name) for sha256, names in made.external.items()
    }
    return {part: _ingredient(spec, part, source, models_dir, known) for part, source in _sources(spec).items()}


def _sources(spec: ModelSpec) -> dict[str, Source]:
    sources = {"weights" if spec.builder else "image": spec.source}
    if spec.projection:
        projection = spec.projection
        sources |= {"affine": projection.source} if isinstance(projection, Affine) else {"names": projection.names}
    if spec.text:
        sources |= {"text": spec.text.source, "tokenizer": spec.text.tokenizer}
    return sources


def _ingredient(
    spec: ModelSpec, part: str, source: Source, models_dir: Path, known: Mapping[str, tuple[str, ...]]
) -> Ingredient:
    path = located(spec.name, source, models_dir)
    sha256 = verified(spec.name, source, path)
    if part not in {"image", "text"}:
        return Ingredient(path, sha256)
    names = known.get(sha256)
    if names is None:
        # onnx takes as long to import as all the rest, and a graph that was prepared before does not need it.
        from daemon.encode.graphs import check  # noqa: PLC0415

        names = check(spec.name, path).external
    return Ingredient(path, sha256, _external(spec.name, path, names))


def _external(name: str, graph: Path, locations: tuple[str, ...]) -> dict[str, str]:
    return {location: sha256_of(name, beside(name, graph, location)) for location in locations}
