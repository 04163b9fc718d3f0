"""Exports that are damaged, cut short, or meant to do harm: each is refused, and the index is what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from daemon.errors import ExportError
from daemon.transfer import frames
from daemon.transfer.exporter import Exporter
from daemon.transfer.records import vectors_bytes
from tests.integration.transfer.conftest import DIM, Library, altered, frames_of, sealed

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("size", [0, 1, 13, 14, 20, 200, -1, -40, -200])
def test_every_cut_is_noticed(exported: bytes, untouched: Library, size: int) -> None:
    with pytest.raises(ExportError):
        untouched.take(exported[:size])


def test_every_flipped_byte_is_noticed(exported: bytes, untouched: Library) -> None:
    data = exported
    random = np.random.default_rng(1)
    for at in {*range(60), *random.integers(0, len(data), 100).tolist()}:
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(random.integers(8))
        with pytest.raises(ExportError):
            untouched.take(bytes(damaged))


def test_what_follows_the_end_is_refused(exported: bytes, untouched: Library) -> None:
    with pytest.raises(ExportError, match="something follows its end"):
        untouched.take(exported + b"x")


def test_frames_that_change_places_are_noticed(exported: bytes, untouched: Library) -> None:
    data = exported
    first, second = (data.index(kind) for kind in (b"FOLD", b"VECT"))
    third = data.index(b"VECT", second + 4)
    with pytest.raises(ExportError, match="damaged"):
        untouched.take(data[:first] + data[second:third] + data[first:second] + data[third:])


def test_an_export_that_was_cut_off_says_so(untouched: Library) -> None:
    data = b"".join(Exporter(untouched.index, "test").chunks(lambda: "lookaliked is stopping"))
    with pytest.raises(ExportError, match="it is not complete, for while it was made: lookaliked is stopping"):
        untouched.take(data)


def _with_files(*paths: str) -> Callable[[Any], Any]:
    return lambda photos: [one | {"files": [[path, 1, 1, 1, 1] for path in paths]} for one in photos]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (frames.PHOTOS, _with_files("relative.png")),
        (frames.PHOTOS, _with_files("/here/../etc/x.png")),
        (frames.PHOTOS, _with_files("/here//x.png")),
        (frames.PHOTOS, _with_files("/nul\0.png")),
        (frames.PHOTOS, _with_files("/surrogate\ud800.png")),
        (frames.PHOTOS, _with_files("/" + "x" * 5000)),
        (frames.PHOTOS, lambda photos: [one | {"digest": one["digest"].upper() + "\n"} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"digest": "0" * 63} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"width": 2**70} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"width": True} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"bytes": -1} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"taken_at": "yesterday"} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"taken_at": "9999-99-99T99:99:99"} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"taken_at": "2024-01-01T00:00:00+01:00"} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"format": "\x1b[2J"} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"files": [["/x.png", "1", 1, 1, 1]]} for one in photos]),
        (frames.PHOTOS, lambda photos: [one | {"files": [["/x.png", 1, 1]]} for one in photos]),
        (frames.PHOTOS, lambda photos: {"photos": photos}),
        (frames.PHOTOS, lambda photos: [None for _ in photos]),
        (frames.HEAD, lambda head: head | {"format": 2}),
        (frames.HEAD, lambda head: head | {"library": "a\nb"}),
        (frames.HEAD, lambda head: head | {"models": [{"model": "one"}]}),
        (frames.HEAD, lambda head: head | {"models": [one | {"dim": 10**9} for one in head["models"]]}),
        (frames.HEAD, lambda head: head | {"models": [one | {"dim": DIM // 2} for one in head["models"]]}),
        (frames.HEAD, lambda head: head | {"models": head["models"][:1]}),
        (frames.FOLDERS, lambda _: [{"path": "/x", "kept": -1}]),
        (frames.DONE, lambda _: []),
    ],
)
def test_what_is_not_as_lookalike_writes_it_is_refused_though_its_checksums_are_right(
    exported: bytes, untouched: Library, kind: bytes, change: Callable[[Any], Any]
) -> None:
    with pytest.raises(ExportError):
        untouched.take(altered(exported, kind, change))


@pytest.mark.parametrize(
    "payload", [b"[" * 100_000, b"\xff", b"[1", b"9" * 5000, b'{"a": ' * 10_000, b"[" + b"[]," * 5_000_000 + b"[]]"]
)
def test_json_that_is_none_is_refused(exported: bytes, untouched: Library, payload: bytes) -> None:
    parts = [(one.kind, payload if one.kind == frames.PHOTOS else one.payload) for one in frames_of(exported)]
    with pytest.raises(ExportError):
        untouched.take(sealed(parts))


def _unit(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize(
    "payload",
    [
        vectors_bytes(0, [1], _unit(1) * 2),
        vectors_bytes(0, [1], _unit(1) * np.nan),
        vectors_bytes(0, [1], np.full((1, DIM), np.inf, np.float32)),
        vectors_bytes(0, [1], np.zeros((1, DIM), np.float32)),
        vectors_bytes(0, [1, 1], _unit(2)),
        vectors_bytes(7, [1], _unit(1)),
        vectors_bytes(0, [1, 2], _unit(1)),
        b"",
        b"\0" * 8 + b"x",
    ],
    ids=["long", "nan", "infinite", "zero", "twice", "unknown model", "short", "empty", "ragged"],
)
def test_vectors_that_are_none_are_refused(exported: bytes, untouched: Library, payload: bytes) -> None:
    parts = [(one.kind, payload if one.kind == frames.VECTORS else one.payload) for one in frames_of(exported)]
    with pytest.raises(ExportError):
        untouched.take(sealed(parts))


def test_a_vector_for_which_no_photo_follows_is_not_written(exported: bytes, fresh: Library) -> None:
    parts = [(one.kind, one.payload) for one in frames_of(exported) if one.kind != frames.PHOTOS]
    imported = fresh.take(sealed(parts))
    assert imported.photos == 0
    assert fresh.index.vectors.ids(fresh.index.current[0].name) == set()
