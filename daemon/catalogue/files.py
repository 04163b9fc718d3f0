"""The files that a spec is made of, and whether they are on this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from daemon.encode.sources import located, stored_in
from daemon.encode.specs import FileSource, HuggingFaceSource, PackageSource, UrlSource
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.encode.specs import ModelSpec, Source

State = Literal["ready", "not pulled", "not installed", "no file", "broken"]

# A revision that is a commit says what every file of a repository holds; a branch or a tag can move.
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Part:
    """One file of a spec, and what the model needs it for."""

    role: str
    source: Source


def parts(spec: ModelSpec) -> Iterator[Part]:
    """Yield every source of a spec; files of weights beside a graph belong to the graph's source."""
    yield Part("weights", spec.source)
    if spec.projection is not None:
        if spec.projection.kind == "affine":
            yield Part("projection", spec.projection.source)
        else:
            yield Part("class names", spec.projection.names)
    if spec.text is not None:
        yield Part("text tower", spec.text.source)
        yield Part("tokenizer", spec.text.tokenizer)


def located_all(spec: ModelSpec, part: Part, models_dir: Path) -> list[Path]:
    """Return where the files of one part lie; ModelError says what puts the first that is missing there."""
    path = located(spec.name, part.source, models_dir)
    if not isinstance(part.source, HuggingFaceSource):
        return [path]
    beside = [stored_in(models_dir, part.source) / file for file in part.source.data]
    if not all(os.path.isfile(file) for file in beside):
        raise ModelError(
            spec.name, f"not all of its files are on this machine yet; run `lookalike models pull {spec.name}`."
        )
    return [path, *beside]


def state(spec: ModelSpec, models_dir: Path) -> tuple[State, str]:
    """Return whether the model has all its files, and, where it has not, what to do. No file is read."""
    for part in parts(spec):
        try:
            located_all(spec, part, models_dir)
        except ModelError as error:
            return _missing(part.source), error.reason
    return "ready", ""


def pinned(source: Source) -> bool:
    """Return whether the spec says which bytes it means, of every file of the source."""
    if isinstance(source, HuggingFaceSource) and (source.data or source.sha256 is None):
        return source.sha256 is not None and _COMMIT.fullmatch(source.revision) is not None
    return source.sha256 is not None


def origin(source: Source) -> str:
    """Return where the file of a source comes from, in a few words."""
    match source:
        case PackageSource():
            return f"PyPI: {source.package}"
        case UrlSource():
            return source.url
        case HuggingFaceSource():
            return f"Hugging Face: {source.repository}"
        case FileSource():
            return f"file: {source.path.name}"


def _missing(source: Source) -> State:
    match source:
        case PackageSource():
            return "not installed"
        case FileSource():
            return "broken" if os.path.lexists(source.path) else "no file"
        case _:
            return "not pulled"
