"""Reading the records of an export, and the checks that they have to pass: whoever made the file, it may do no harm.

What does not pass is an ExportError.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon import bounded_json, canonical
from daemon.changes import FileStat, PhotoInfo, Remembered
from daemon.errors import FAILURE_KINDS, ExportError
from daemon.moments import moment
from daemon.transfer.frames import MAX_VALUES
from daemon.transfer.records import (
    FORMAT,
    VECTORS_HEAD,
    ExportedFailure,
    ExportedPhoto,
    Head,
    ModelHead,
    Totals,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from daemon.errors import FailureKind

PATH_BYTES = 4095 + 1 + 255
"""A name of 255 bytes in a directory whose path is as long as the system takes: PATH_MAX and NAME_MAX of linux/limits.h."""
MAX_MODELS = 100
MAX_DIM = 32_768
"""What Milvus takes."""
UNIT_TOLERANCE = 1e-3
"""By how much the length of a unit vector may differ from one: float32 and the stores take some 1e-6."""
LARGEST = 2**63 - 1

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
_FORMAT_NAME = re.compile(r"[A-Za-z0-9_+. -]{0,32}")
_SIGNATURE = re.compile(r"\d{1,20} -?\d{1,20} \d{1,20} -?\d{1,20}")


def read_head(payload: bytes) -> Head:
    value = _object(payload, "its head")
    if value.get("format") != FORMAT:
        raise ExportError(f"it has format {value.get('format')!r:.20}, and this lookalike knows {FORMAT}; update it")
    with _Checked("its head"):
        models = tuple(_model(one) for one in value["models"][:MAX_MODELS])
        return Head(
            _named(value["lookalike"]),
            _named(value["library"]),
            _named(value["created"]),
            _number(value["photos"]),
            _number(value["files"]),
            models,
            _named(value["layout"]),
        )


def read_photos(payload: bytes) -> list[ExportedPhoto]:
    with _Checked("a photo of it"):
        return [_photo(value) for value in _list(payload, "a photo of it")]


def read_vectors(payload: bytes, models: Sequence[ModelHead]) -> tuple[ModelHead, list[int], NDArray[np.float32]]:
    """Return the model, the ids of the photos, and their vectors [n, dim]: finite, and of length one."""
    if len(payload) < VECTORS_HEAD.size:
        raise _wrong("a frame of vectors")
    place, count = VECTORS_HEAD.unpack_from(payload)
    if place >= len(models):
        raise _wrong("a frame of vectors")
    model = models[place]
    if len(payload) != VECTORS_HEAD.size + count * (8 + 4 * model.dim):
        raise _wrong("a frame of vectors")
    ids = np.frombuffer(payload, "<i8", count, VECTORS_HEAD.size)
    rows = np.frombuffer(payload, "<f4", count * model.dim, VECTORS_HEAD.size + 8 * count).reshape(count, model.dim)
    # What is no number has no length either: the comparison fails.
    with np.errstate(all="ignore"):
        is_unit = np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1) <= UNIT_TOLERANCE
    if not is_unit.all() or len(np.unique(ids)) != count:
        raise _wrong("a vector of it")
    return model, ids.tolist(), rows.astype(np.float32, copy=False)


def read_failures(payload: bytes) -> list[ExportedFailure]:
    with _Checked("a failure of it"):
        return [_failure(value) for value in _list(payload, "a failure of it")]


def read_folders(payload: bytes) -> dict[str, Remembered]:
    with _Checked("a folder of it"):
        return {_path(one["path"]): Remembered(kept=_number(one["kept"])) for one in _list(payload, "a folder of it")}


def read_totals(payload: bytes) -> Totals:
    value = _object(payload, "its end")
    with _Checked("its end"):
        vectors = {_named(version): _number(count) for version, count in value["vectors"].items()}
        return Totals(_number(value["photos"]), _number(value["files"]), _number(value["failures"]), vectors)


def read_stopped(payload: bytes) -> str:
    with _Checked("its end"):
        return _text(_object(payload, "its end")["reason"], 2000)


class _Checked:
    """Says of what does not have the shape of a record that it is wrong."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, _NOT_A_RECORD):
            raise _wrong(self._what) from error


_NOT_A_RECORD = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def takes_photo(info: PhotoInfo) -> bool:
    """Whether an import takes this photo; the exporter asks, for one entry that is refused spoils all that follow it."""
    return _is_taken(_photo, asdict(info) | {"files": ()})


def takes_file(path: str, stat: FileStat) -> bool:
    return _is_taken(_file, path, stat.size, stat.mtime_ns, stat.device, stat.inode)


def takes_failure(failure: ExportedFailure) -> bool:
    return _is_taken(_failure, asdict(failure))


def _is_taken(read: Callable[..., object], *values: object) -> bool:
    try:
        read(*values)
    except _NOT_A_RECORD:
        return False
    return True


def _wrong(what: str) -> ExportError:
    return ExportError(f"{what} is not as lookalike writes it")


def _parsed(payload: bytes, what: str) -> Any:
    try:
        return bounded_json.loads(payload, most_values=MAX_VALUES)
    except ValueError as error:
        raise _wrong(what) from error


def _object(payload: bytes, what: str) -> dict[str, Any]:
    value = _parsed(payload, what)
    if not isinstance(value, dict):
        raise _wrong(what)
    return value


def _list(payload: bytes, what: str) -> list[Any]:
    value = _parsed(payload, what)
    if not isinstance(value, list):
        raise _wrong(what)
    return value


def _model(value: Any) -> ModelHead:
    dim, metric = _number(value["dim"]), value["metric"]
    if not 1 <= dim <= MAX_DIM or metric not in ("cosine", "l2", "ip"):
        raise ValueError
    return ModelHead(_named(value["model"]), _named(value["version"]), dim, metric)


def _photo(value: Any) -> ExportedPhoto:
    info = PhotoInfo(
        digest=_matching(value["digest"], _DIGEST),
        width=_number(value["width"]),
        height=_number(value["height"]),
        format=_matching(value["format"], _FORMAT_NAME),
        taken_at=moment(_text(value["taken_at"], 32)),
        bytes=_number(value["bytes"]),
    )
    return ExportedPhoto(info, tuple(_file(*one) for one in value["files"]))


def _file(path: Any, size: Any, mtime_ns: Any, device: Any, inode: Any) -> tuple[str, FileStat]:
    # A file may be older than 1970; device and inode have 64 bits.
    stat = FileStat(_number(size), _number(mtime_ns, -LARGEST), _number(device, most=2**64), _number(inode, most=2**64))
    return _path(path), stat


def _failure(value: Any) -> ExportedFailure:
    since = value["since"]
    if not isinstance(since, int | float) or not 0 <= since <= LARGEST:
        raise ValueError
    return ExportedFailure(
        _path(value["path"]),
        _text(value["reason"], 10_000),
        _number(value["attempts"]),
        float(since),
        _matching(value["signature"], _SIGNATURE),
        _kind(value["kind"]),
    )


def _kind(value: Any) -> FailureKind:
    # A newer lookalike may know more of them.
    return next((kind for kind in FAILURE_KINDS if kind == value), "other")


def _number(value: Any, least: int = 0, most: int = LARGEST) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError
    return value


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError
    return value


def _matching(value: Any, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(_text(value, 1000)):
        raise ValueError
    return str(value)


def _named(value: Any) -> str:
    return _matching(value, _NAME)


def _path(value: Any) -> str:
    path = _text(value, PATH_BYTES)
    if canonical.fault(path) or len(os.fsencode(path)) > PATH_BYTES:
        raise ValueError
    return path
