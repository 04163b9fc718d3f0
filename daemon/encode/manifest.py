"""What a prepared directory holds, where in it, and how each of its files is known to be whole."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from daemon import ownership
from daemon.encode.specs import ModelSpec, Sha256

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.json"
MOST_BYTES = 16 * 1024 * 1024
IMAGE_GRAPH = "image/model.onnx"
TEXT_GRAPH = "text/model.onnx"
TOKENIZER = "text/tokenizer.json"
PROJECTION = "projection.npz"


class Manifest(BaseModel):
    """All that is known of a prepared model; its own checksum stands beside it in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    spec: ModelSpec
    fingerprint: str
    digest: str
    preprocessing: int
    """The revision of what is done with photos and texts before the graphs: see daemon/encode/models.py."""
    files: dict[str, Sha256]
    """The SHA-256 of every file, by its path in the directory."""
    external: dict[Sha256, tuple[str, ...]] = Field(strict=False)
    """For every graph that came as a file, by its SHA-256: where it keeps weights, relative to itself."""


def read(directory: Path) -> Manifest | None:
    """Return the manifest of a directory; None when it is missing, damaged, or of a release that knew other specs."""
    try:
        document = json.loads(ownership.read_file(directory / MANIFEST, MOST_BYTES))
        if document["sha256"] != _checksum(document["manifest"]):
            return None
        return Manifest.model_validate_json(json.dumps(document["manifest"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def serialised(manifest: Manifest) -> bytes:
    """Return the content of a manifest's file, JSON."""
    described = manifest.model_dump(mode="json")
    return json.dumps({"manifest": described, "sha256": _checksum(described)}, indent=1).encode()


def _checksum(described: object) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
