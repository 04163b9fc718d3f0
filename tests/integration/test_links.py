"""Somebody who may write in a watched folder puts links in the way of the daemon: it sees, reads and tells nothing that lies outside."""

from __future__ import annotations

import ctypes
import io
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from daemon import indexer, reading
from daemon.index.mappings import Fail
from tests.integration.transfer.conftest import DIM, Library, copied, png, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RENAME_EXCHANGE = 2
AT_FDCWD = -100


@pytest.fixture
def library(stores: Any, kit: Any, tmp_path: Path) -> Iterator[Library]:
    """A library that watches `here`, in which nothing is; beside it lies `private`, which is watched by nobody."""
    (tmp_path / "here").mkdir()
    write(tmp_path / "private", range(50, 53))
    index = stores.library(dim=DIM, models=("one", "two"))
    index.recover()
    yield Library(index, [tmp_path / "here"], kit)
    kit.drop(index)


def exchange(one: Path, other: Path) -> None:
    """Have two paths change places at once: renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def test_a_directory_that_becomes_a_link_between_look_and_read_gives_nothing_away(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, private = tmp_path / "here", tmp_path / "private"
    write(here / "x", range(50, 53))
    for seed, file in enumerate((here / "x").rglob("*.png")):
        file.write_bytes(png(seed))
    (here / "y").symlink_to(private)
    real, read, tried = reading.read_whole, list[bytes](), list[str]()
    # Photos are read in several threads: a second exchange would undo the first.
    exchanging = threading.Lock()

    def swapped(path: str, *more: Any) -> Any:
        tried.append(path)
        with exchanging:
            exchange(here / "x", here / "y")
            try:
                found = real(path, *more)
                read.append(found[0])
                return found
            finally:
                exchange(here / "x", here / "y")

    monkeypatch.setattr(indexer, "read_whole", swapped)
    with library.running():
        library.kit.eventually(lambda: len(tried) >= 3 and library.idle())
    assert read == []
    assert library.paths == []


@pytest.mark.parametrize("name", ["secret.png", "trip/50.png", "none.png", "trip", "trip/none/deeper.png"])
def test_a_sync_behind_a_link_tells_nothing(library: Library, tmp_path: Path, name: str) -> None:
    (tmp_path / "private" / "secret.png").write_bytes(png(60))
    (tmp_path / "here" / "link").symlink_to(tmp_path / "private")
    asked = str(tmp_path / "here" / "link" / name)
    met: list[object] = []
    with library.running():
        library.settle()
        before = (library.indexer.committed, library.watcher.reconciles, dict(library.watcher.skipped.by_extension))
        done = library.watcher.compare_again(asked)
        library.kit.eventually(lambda: done.is_set() and library.idle())
        met += [library.indexer.committed, dict(library.watcher.skipped.by_extension), library.paths]
        # Whatever lies there, the daemon does the same: it walks what it cannot see, and finds nothing.
        assert library.watcher.reconciles == before[1] + 1
    assert met == [before[0], before[2], []]
    assert library.index.mappings.failures() == {}


def test_a_relocation_to_a_link_tells_nothing_of_what_lies_there(library: Library, tmp_path: Path) -> None:
    from daemon.errors import QueryError

    here, old = tmp_path / "here", tmp_path / "old"
    write(old, range(3))
    library.watch(old, here)
    with library.running():
        library.settle()
    copied(old, tmp_path / "elsewhere")
    (here / "link").symlink_to(tmp_path / "elsewhere")
    (here / "real").mkdir()
    (here / "real" / "trip").symlink_to(tmp_path / "elsewhere" / "trip")
    library.watch(here)
    with pytest.raises(QueryError) as caught:
        library.relocation.run(str(old), str(here / "link"), dry_run=True)
    assert caught.value.code == "not_there"
    found = library.relocation.run(str(old), str(here / "real"), dry_run=True)
    assert (found.files, found.moved, found.changed, found.missing) == (3, 0, 0, 3)


def test_an_import_binds_nothing_behind_a_link(library: Library, tmp_path: Path) -> None:
    here, old = tmp_path / "here", tmp_path / "old"
    write(old, range(3))
    library.watch(old, here)
    with library.running():
        library.settle()
    library.index.commit([Fail(str(old / "trip" / "bad.png"), "it is broken", "1 2 3 4")])
    data = library.export()
    copied(old, tmp_path / "elsewhere")
    (here / "link").symlink_to(tmp_path / "elsewhere")
    write(here, range(7, 8))
    library.watch(here)
    taken = library.take(data, [(old, here / "link")])
    assert (taken.bound, taken.kept, taken.left) == (0, 0, 3)


def test_verification_reads_nothing_behind_a_link(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daemon.verify.content import Contents

    here = tmp_path / "here"
    write(here, range(3))
    with library.running():
        library.settle()
    (here / "trip").rename(tmp_path / "elsewhere")
    (here / "trip").symlink_to(tmp_path / "elsewhere")

    class Shown:
        """Answers that may name every file."""

        def is_shown(self, _: str) -> bool:
            return True

    own_bytes: Any = Shown()
    contents = Contents(library.index, own_bytes, library.watcher.disk, lambda: False)
    assert list(contents.suspects()) == []
    assert contents.sampled == 0


def test_a_folder_that_is_named_by_a_link_is_indexed_and_what_is_linked_in_it_is_not(
    library: Library, tmp_path: Path
) -> None:
    named = tmp_path / "named"
    named.symlink_to(tmp_path / "here")
    write(tmp_path / "here", range(3))
    (tmp_path / "here" / "link").symlink_to(tmp_path / "private")
    library.watch(named)
    with library.running():
        library.settle()
        assert library.paths == [str(named / "trip" / f"{n:02}.png") for n in range(3)]
        buffer = io.BytesIO(png(9))
        (tmp_path / "here" / "new.png").write_bytes(buffer.getvalue())
        library.kit.eventually(lambda: str(named / "new.png") in library.paths)
