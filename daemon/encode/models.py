"""From a model spec to a model that can run: sources verified, graph built once, fingerprint taken."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.encode import assembly
from daemon.encode.ingredients import gathered
from daemon.encode.manifest import IMAGE_GRAPH, PROJECTION, TEXT_GRAPH, TOKENIZER, Manifest
from daemon.encode.prepared import check, directory_of, discarded, is_version, made, opened, sweep
from daemon.encode.specs import ModelSpec, load_spec
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from daemon.encode.ingredients import Ingredient
    from daemon.encode.prepared import Making

__all__ = ["Model", "ModelSpec", "discard", "load_spec", "prepare", "prepared"]

# Raised when decoding or preprocessing would give other inputs for the same photo and spec.
PREPROCESSING_REVISION = 1
# Raised when the same weights would give another graph.
BUILDER_REVISIONS = {"efficientnet-lite": 1}
FINGERPRINT_DIGITS = 12


@dataclass(frozen=True)
class Model:
    """A model that is ready to run; all it needs lies in one directory, which nobody else writes.

    `fingerprint` (12 hex digits) is the same exactly as long as vectors can be compared: it covers the bytes of all
    sources, the builder's revision, preprocessing, output, projection, metric and text; not name, licence, or where files lie.
    `digest` (64 hex digits) covers the image graph with all its weights: models of equal digest run the same graph.
    """

    spec: ModelSpec
    directory: Path
    fingerprint: str
    digest: str

    @property
    def version(self) -> str:
        """Return what tells this model from all others and from itself before a change: name-fingerprint."""
        return f"{self.spec.name}-{self.fingerprint}"

    @property
    def graph(self) -> Path:
        """The graph of images; files in which it keeps weights lie beside it."""
        return self.directory / IMAGE_GRAPH

    @property
    def projection(self) -> Path | None:
        """What turns rows of the graph into vectors, an .npz file.

        affine: `mean` [in] and `matrix` [in, dim]. words: `weight` [features, classes] and `bias` [classes] of the
        classifier, and `vectors` [classes, dim], unit rows of the text tower for the classes' names.
        """
        return self.directory / PROJECTION if self.spec.projection else None

    @property
    def text_graph(self) -> Path | None:
        return self.directory / TEXT_GRAPH if self.spec.text else None

    @property
    def tokenizer(self) -> Path | None:
        return self.directory / TOKENIZER if self.spec.text else None


def prepare(spec: ModelSpec, cache_dir: Path, models_dir: Path) -> Model:
    """Verify the sources of `spec`, make its directory in `cache_dir` where it is not there yet, and return the model.

    `models_dir` holds what was pulled. ModelError when a source is missing, another than the spec names or not to be
    run, and when the cache cannot be written.
    """
    with _cache_errors(spec.name, cache_dir):
        check(cache_dir)
        sweep(cache_dir)
        parts = gathered(spec, cache_dir, models_dir)
        fingerprint = _fingerprint(spec, parts)
        version = f"{spec.name}-{fingerprint}"
        directory = directory_of(cache_dir, version)
        manifest = opened(directory)
        if manifest is None:
            manifest = made(cache_dir, version, lambda making: _fill(making, spec, fingerprint, parts))
    return Model(spec, directory, fingerprint, manifest.digest)


def prepared(cache_dir: Path, version: str) -> Model | None:
    """Return a model that was prepared earlier, by its version.

    None when it is not there any more, or damaged, or when photos are preprocessed in another way since.
    """
    if not is_version(version):
        return None
    directory = directory_of(cache_dir, version)
    with _cache_errors(version, cache_dir):
        check(cache_dir)
        manifest = opened(directory)
    if manifest is None or manifest.preprocessing != PREPROCESSING_REVISION:
        return None
    return Model(manifest.spec, directory, manifest.fingerprint, manifest.digest)


def discard(cache_dir: Path, version: str) -> None:
    """Remove a prepared model, by its version; that it is not there is fine. ModelError when it cannot be removed."""
    if not is_version(version):
        return
    with _cache_errors(version, cache_dir):
        check(cache_dir)
        discarded(cache_dir, version)


@contextmanager
def _cache_errors(name: str, cache_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"its files cannot be kept in {cache_dir} ({error.strerror}); free or allow that directory, or name another."
        raise ModelError(name, reason) from error


def _fill(making: Making, spec: ModelSpec, fingerprint: str, parts: Mapping[str, Ingredient]) -> Manifest:
    """Put all that the model needs into a directory under construction, the text tower before what is made with it."""
    assembly.put_image(making, spec, parts)
    model = Model(spec, making.directory, fingerprint, digest=_digest(making.files))
    if spec.text:
        assembly.put_text(making, spec.name, parts)
    if spec.projection:
        assembly.put_projection(making, model, parts)
    external = {parts[part].sha256: tuple(parts[part].external) for part in ("image", "text") if part in parts}
    return Manifest(
        spec=spec,
        fingerprint=fingerprint,
        digest=model.digest,
        preprocessing=PREPROCESSING_REVISION,
        files=making.files,
        external=external,
    )


def _fingerprint(spec: ModelSpec, parts: Mapping[str, Ingredient]) -> str:
    """Return what is the same as long as vectors are; a model without projection and text says nothing of them."""
    described = {
        "origin": _origin(spec, parts),
        "preprocessing": PREPROCESSING_REVISION,
        "input": spec.input.model_dump(mode="json"),
        "output": spec.output.model_dump(mode="json"),
        "metric": spec.metric,
    }
    for section in ("projection", "text"):
        if (said := getattr(spec, section)) is not None:
            described[section] = said.model_dump(mode="json", exclude={"source", "tokenizer", "names"})
    if others := {part: file.described() for part, file in parts.items() if part not in {"weights", "image"}}:
        described["files"] = others
    return _digest(described)[:FINGERPRINT_DIGITS]


def _origin(spec: ModelSpec, parts: Mapping[str, Ingredient]) -> dict[str, Any]:
    if not spec.builder:
        return parts["image"].described()
    kind = spec.builder.kind
    builder = {"builder": kind, "variant": spec.builder.variant, "revision": BUILDER_REVISIONS[kind]}
    return parts["weights"].described() | builder


def _digest(described: Mapping[str, Any]) -> str:
    canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
