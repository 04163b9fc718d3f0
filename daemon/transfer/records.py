r"""What stands in the frames of an export, and how it is written.

All but the vectors is JSON in ASCII; a byte 0xNN of a path that is no UTF-8 is \udcNN, Python's surrogateescape.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from daemon.moments import moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from daemon.changes import FileStat, PhotoInfo, Remembered
    from daemon.errors import FailureKind

FORMAT = 1

VECTORS_HEAD = struct.Struct("<II")
"""The place of the model in the head, and how many vectors follow."""


@dataclass(frozen=True, slots=True)
class ModelHead:
    """One version of a model whose vectors are in the export; its version ends in its fingerprint."""

    model: str
    version: str
    dim: int
    metric: str


@dataclass(frozen=True, slots=True)
class Head:
    """What an export says of itself first. The numbers are those of its beginning: the library may have gone on changing."""

    lookalike: str
    library: str
    created: str
    """ISO 8601, UTC."""
    photos: int
    files: int
    models: tuple[ModelHead, ...]
    layout: str = "1"
    """The layout of the mapping that it was made from."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class ExportedPhoto:
    """A photo and some of its files: one with very many stands in an export several times."""

    info: PhotoInfo
    files: tuple[tuple[str, FileStat], ...]


@dataclass(frozen=True, slots=True)
class ExportedFailure:
    """A file that could not be indexed."""

    path: str
    reason: str
    attempts: int
    since: float
    signature: str
    kind: FailureKind


@dataclass(slots=True)
class Totals:
    """How much there was, as the last frame says it."""

    photos: int = 0
    files: int = 0
    failures: int = 0
    vectors: dict[str, int] = field(default_factory=dict)
    """By the version of their model."""


def head_bytes(head: Head) -> bytes:
    return _json(asdict(head))


def photo_text(info: PhotoInfo, files: Sequence[tuple[str, FileStat]]) -> str:
    """Return one photo; `photos_bytes` makes a frame of several."""
    listed = [[path, stat.size, stat.mtime_ns, stat.device, stat.inode] for path, stat in files]
    known = asdict(info) | {"taken_at": _moment(info.taken_at), "files": listed}
    return json.dumps(known, separators=(",", ":"))


def photos_bytes(photos: Sequence[str]) -> bytes:
    return f"[{','.join(photos)}]".encode("ascii")


def vectors_bytes(model: int, ids: Sequence[int], rows: NDArray[np.float32]) -> bytes:
    """Return the vectors [n, dim] of the photos `ids` by the model at this place of the head."""
    numbers = np.asarray(ids, dtype="<i8").tobytes()
    return b"".join((VECTORS_HEAD.pack(model, len(ids)), numbers, np.ascontiguousarray(rows, dtype="<f4").tobytes()))


def failures_bytes(failures: Sequence[ExportedFailure]) -> bytes:
    return _json([asdict(one) for one in failures])


def folders_bytes(folders: Mapping[str, Remembered]) -> bytes:
    return _json([{"path": path, "volumes": dict(one.volumes), "kept": one.forgiven} for path, one in folders.items()])


def totals_bytes(totals: Totals) -> bytes:
    return _json(asdict(totals))


def stopped_bytes(reason: str) -> bytes:
    return _json({"reason": reason})


def _moment(taken_at: str) -> str:
    # A library of an earlier release may hold a time that does not exist, and no import would read it.
    try:
        return moment(taken_at)
    except ValueError:
        return ""


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
