"""What an export writes, an import reads, whatever the index holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.canonical import fault
from daemon.changes import FileStat, PhotoInfo
from daemon.errors import FAILURE_KINDS
from daemon.index.index import Encoded
from daemon.index.mappings import Add, Bind, Fail
from daemon.transfer import frames
from daemon.transfer.frames import FrameReader
from daemon.transfer.parsing import read_failures, read_photos
from tests.integration.transfer.conftest import DIM, Library

if TYPE_CHECKING:
    from daemon.index.index import Change

PIECES = st.sampled_from([b"/", b"//", b"/./", b"/../", b"/.", b"a.png", b"caf\xe9", b"\xc3\xa9", b"\n", b"x" * 255])
PATHS = st.lists(PIECES, min_size=1, max_size=20).map(lambda pieces: os.fsdecode(b"/" + b"".join(pieces)))
NUMBERS = st.integers(-(2**63), 2**63 - 1)
STATS = st.builds(FileStat, NUMBERS, NUMBERS, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
SIDES = st.integers(-1, 10**6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MOMENTS = st.sampled_from(["", "2024-05-01T10:00:00", "2024-01-01T00:00:00+01:00"])
PHOTOS = st.builds(
    PhotoInfo,
    digest=st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}"),
    width=SIDES,
    height=SIDES,
    format=st.sampled_from(["JPEG", "MPO", "a\x1b[2J"]),
    taken_at=MOMENTS,
    bytes=NUMBERS,
)
ADDS = st.builds(lambda path, stat, photo: Encoded(Add(path, stat, photo), {}), PATHS, STATS, PHOTOS)
SIGNATURES = st.one_of(st.just("1 2 3 4"), st.just("-1 2 3 4"), st.just(""))
FAILURES = st.builds(
    Fail,
    PATHS,
    TEXTS | st.just("x" * 10_001),
    SIGNATURES,
    st.integers(0, 5),
    st.just(7.0),
    st.sampled_from(FAILURE_KINDS),
)


def vector() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(np.eye(1, DIM)[0], np.float32)


def change_with_vectors(change: Change, library: Library) -> Change:
    if not isinstance(change, Encoded):
        return change
    return Encoded(change.add, {one.version: vector() for one in library.index.collections})


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(ADDS | FAILURES, min_size=1, max_size=4))
def test_what_an_export_writes_an_import_reads(fresh: Library, untouched: Library, changes: list[Change]) -> None:
    fresh.index.commit([change_with_vectors(change, fresh) for change in changes])
    data = fresh.export()
    untouched.take(data)
    read = list(FrameReader(iter([data])))
    paths = [
        path
        for one in read
        if one.kind == frames.PHOTOS
        for photo in read_photos(one.payload)
        for path, _ in photo.files
    ]
    paths += [one.path for frame in read if frame.kind == frames.FAILURES for one in read_failures(frame.payload)]
    assert not [path for path in paths if fault(path)]


def test_a_file_under_another_form_of_its_path_is_left_out_and_the_rest_is_taken(
    library: Library, fresh: Library
) -> None:
    known = library.index.mappings.files([library.paths[0]])[0]
    assert known is not None
    info = library.index.mappings.photo(known.photo)
    assert info is not None
    library.index.commit([Encoded(Add(f"{library.folders[0]}//a.png", known.stat, info), {})])
    fresh.watch(*library.folders)
    taken = fresh.take(library.export())
    assert (taken.photos, taken.bound) == (12, 14)


def test_a_walk_drops_what_is_recorded_under_another_form_of_its_path(library: Library) -> None:
    here = library.folders[0]
    known = library.index.mappings.files([library.paths[0]])[0]
    assert known is not None
    before = library.paths
    library.index.commit(
        [Bind(f"{here}//{n}/../a.png", known.stat, known.photo) for n in range(5)]
        + [Fail(f"{here}/./b.png", "", "1 2 3 4")]
    )
    with library.running():
        library.settle()
        library.kit.eventually(lambda: library.paths == before)
        assert library.watcher.folders[0].held == 0
    library.assert_equals_disk()
