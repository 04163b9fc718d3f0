"""From a model spec to a model that can run: weights verified, graph built once, fingerprint taken."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.encode.graph_cache import cached_graph
from daemon.encode.specs import EfficientNetLite, FileSource, ModelSpec, PackageSource, load_spec
from daemon.encode.torch_checkpoint import read_state_dict
from daemon.errors import ModelError

__all__ = ["Model", "ModelSpec", "load_spec", "prepare"]

# Raised when decoding or preprocessing would give other inputs for the same photo and spec.
PREPROCESSING_REVISION = 1
# Raised when the same weights would give another graph.
BUILDER_REVISIONS = {"efficientnet-lite": 1}
FINGERPRINT_DIGITS = 12


@dataclass(frozen=True)
class Model:
    """A model that is ready to run.

    `fingerprint` (12 hex digits) is the same exactly as long as vectors can be compared: it covers the bytes of the
    weights, the builder's revision, preprocessing, output and metric; not name, licence, or where the file lies.
    """

    spec: ModelSpec
    graph: Path
    fingerprint: str

    @property
    def version(self) -> str:
        """Return what tells this model from all others and from itself before a change: name-fingerprint."""
        return f"{self.spec.name}-{self.fingerprint}"


def prepare(spec: ModelSpec, cache_dir: Path) -> Model:
    """Verify the weights of `spec`, build its graph into `cache_dir` where it needs building, and return the model.

    ModelError when the weights are missing or others than the spec names, or when the cache cannot be written.
    """
    if isinstance(spec.source, PackageSource) and spec.builder:
        return _prepare_package(spec, spec.source, spec.builder, cache_dir)
    if isinstance(spec.source, FileSource):
        return _prepare_file(spec, spec.source)
    raise ModelError(spec.name, f"its source, {spec.source.kind}, cannot be used yet.")


def _prepare_package(spec: ModelSpec, source: PackageSource, builder: EfficientNetLite, cache_dir: Path) -> Model:
    weights = _read(spec.name, _installed_file(spec.name, source))
    origin = {
        "sha256": _verify(spec.name, weights, source.sha256),
        "builder": builder.kind,
        "variant": builder.variant,
        "revision": BUILDER_REVISIONS[builder.kind],
    }
    try:
        graph = cached_graph(cache_dir, f"{spec.name}-{_digest(origin)}", lambda: _build(spec.name, builder, weights))
    except OSError as error:
        reason = f"its graph cannot be kept in {cache_dir} ({error.strerror}); free or allow that directory, or name another."
        raise ModelError(spec.name, reason) from error
    return Model(spec, graph, _fingerprint(spec, origin))


def _prepare_file(spec: ModelSpec, source: FileSource) -> Model:
    content = _read(spec.name, source.path)
    digest = _verify(spec.name, content, source.sha256)
    _refuse_outside_weights(spec.name, content)
    return Model(spec, source.path, _fingerprint(spec, {"sha256": digest}))


def _installed_file(name: str, source: PackageSource) -> Path:
    try:
        distribution = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError as error:
        reason = f"its weights come with the Python package {source.package}, which is not installed; install it."
        raise ModelError(name, reason) from error
    return Path(str(distribution.locate_file(source.file)))


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(name, f"there is no {path}; put the model's file there, or correct its spec.") from error
    except OSError as error:
        raise ModelError(name, f"{path} cannot be read ({error.strerror}); make it readable.") from error


def _verify(name: str, content: bytes, expected: str | None) -> str:
    """Return the SHA-256 of `content`; ModelError when the spec expects another."""
    digest = hashlib.sha256(content).hexdigest()
    if expected is not None and digest != expected:
        reason = (
            f"its weights have the SHA-256 {digest} where its spec says {expected}; install the file the spec means."
        )
        raise ModelError(name, reason)
    return digest


def _build(name: str, builder: EfficientNetLite, weights: bytes) -> bytes:
    # onnx takes as long to import as all the rest, and a graph that is already in the cache does not need it.
    from daemon.encode import efficientnet  # noqa: PLC0415

    try:
        return efficientnet.build(read_state_dict(weights), builder.variant)
    except ValueError as error:
        raise ModelError(name, f"no graph can be built of its weights: {error}; check its source.") from error


def _refuse_outside_weights(name: str, content: bytes) -> None:
    """Refuse a graph that keeps weights in other files: the fingerprint would not cover them."""
    # Only models that come as a file need onnx, which is slow to import.
    import onnx  # noqa: PLC0415
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        graph = onnx.load_model_from_string(content).graph
    except DecodeError as error:
        raise ModelError(name, "its file is not an ONNX graph; export the model again.") from error
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in graph.initializer):
        raise ModelError(name, "its graph keeps weights in other files; save it as a single .onnx file.")


def _fingerprint(spec: ModelSpec, origin: dict[str, Any]) -> str:
    described = {
        "origin": origin,
        "preprocessing": PREPROCESSING_REVISION,
        "input": spec.input.model_dump(mode="json"),
        "output": spec.output.model_dump(mode="json"),
        "metric": spec.metric,
    }
    return _digest(described)


def _digest(described: dict[str, Any]) -> str:
    canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:FINGERPRINT_DIGITS]
