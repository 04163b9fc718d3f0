"""Somebody removes or replaces files of the stores while they run: they start again, and the index is made again. Clients stay the same."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import AlreadyRunning, StoreUnavailable
from daemon.index.data_dir import DataDir
from daemon.index.embedded import DataLock, EmbeddedMilvus, EmbeddedServer, EmbeddedValkey
from daemon.index.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.index.index import Index

LIBRARY = "removed"
ONE = Keys(LIBRARY).collection("one", "0f")
WANTED = {f"/p/{n}.jpg": f"photo {n}" for n in range(12)} | {"/p/copy.jpg": "photo 7"}


class Living:
    """The stores of a daemon that runs, looked after as it does, and an index whose connections stay open throughout."""

    def __init__(self, kit: Any, place: Path) -> None:
        self.kit = kit
        self.data_dir, self.runtime_dir = place / "data", place / "run"
        self.photos = kit.photos()
        self.valkey = EmbeddedValkey(self.data_dir, self.runtime_dir)
        self.milvus = EmbeddedMilvus(self.data_dir, self.runtime_dir)
        self.servers: tuple[EmbeddedServer, ...] = (self.valkey, self.milvus)
        self.lock = DataLock(self.data_dir)
        self.lock.acquire()
        self.keeper = DataDir(self.data_dir, self.lock, self.servers)
        for server in self.servers:
            server.start()
        self.index: Index = kit.stores(self.valkey, self.milvus).open(LIBRARY)
        self.index.recover()

    def stop(self) -> None:
        self.index.stop()
        for server in reversed(self.servers):
            server.stop()
        self.lock.release()

    def check(self) -> None:
        self.keeper.check()
        for server in self.servers:
            server.check()

    def until(self, condition: Callable[[], bool]) -> None:
        def checked() -> bool:
            self.check()
            return condition()

        self.kit.eventually(checked)

    @property
    def is_in_order(self) -> bool:
        """Whether the stores are there and in step, after a recovery where they were not: what the daemon does each second."""
        try:
            if not self.index.in_order():
                self.index.recover()
                return self.index.in_order()
        except StoreUnavailable:
            return False
        return True

    def converge(self) -> None:
        self.until(lambda: self.is_in_order)
        self.kit.converge(self.index, self.photos, WANTED)
        self.index.vectors.flush()
        self.kit.assert_in_step(self.index, self.photos.expected(WANTED))


@pytest.fixture(scope="module")
def living_once(kit: Any) -> Iterator[Living]:
    # pytest's own directories can be too long for a socket.
    place = Path(tempfile.mkdtemp(prefix="living-"))
    living = Living(kit, place)
    yield living
    living.stop()
    shutil.rmtree(place)


@pytest.fixture
def living(living_once: Living) -> Living:
    """The one of the module, which each test leaves whole: a daemon may see all of this in one life."""
    living_once.converge()
    # Every store has been seen whole, and its socket with it.
    living_once.until(lambda: all(server._bound is not None and server._was_whole for server in living_once.servers))
    for server in living_once.servers:
        # A minute without trouble passes between two tests: pauses before a restart grow within one.
        server._deaths_in_a_row = 0
    return living_once


def told(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if all(word in record.getMessage() for word in words)]


# The sockets


def socket_of_valkey(living: Living) -> None:
    living.valkey.socket_path.unlink()


def socket_of_milvus(living: Living) -> None:
    living.milvus.socket_path.unlink()


def replaced_socket(living: Living) -> None:
    living.valkey.socket_path.unlink()
    living.valkey.socket_path.write_text("not a socket")


def directory_of_sockets(living: Living) -> None:
    shutil.rmtree(living.valkey.socket_path.parent)


def runtime_directory(living: Living) -> None:
    shutil.rmtree(living.runtime_dir)


@pytest.mark.parametrize(
    "take_away", [socket_of_valkey, socket_of_milvus, replaced_socket, directory_of_sockets, runtime_directory]
)
def test_a_store_whose_socket_is_taken_away_can_soon_be_reached_again_and_forgets_nothing(
    living: Living, take_away: Callable[[Living], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = living.index.mappings.counts()
    began = time.monotonic()
    take_away(living)
    assert not all(server.answers() for server in living.servers)
    living.until(lambda: bool(told(caplog, "was removed or replaced")))
    assert time.monotonic() - began < 5
    living.until(lambda: all(server.answers() for server in living.servers))
    living.until(lambda: living.is_in_order)
    assert living.index.mappings.counts() == before
    assert told(caplog, "files of") == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_store_that_ends_after_its_directory_of_sockets_went_starts_again(living: Living, number: int) -> None:
    before = living.index.mappings.counts()
    server = living.servers[number]
    shutil.rmtree(living.runtime_dir)
    assert server.pid is not None
    os.kill(server.pid, 9)
    living.until(lambda: all(server.answers() for server in living.servers))
    living.until(lambda: living.is_in_order)
    assert living.index.mappings.counts() == before


def test_a_runtime_directory_that_cannot_be_made_keeps_connections_that_are_open(
    living: Living, caplog: pytest.LogCaptureFixture
) -> None:
    living.index.mappings.counts()
    pids = [server.pid for server in living.servers]
    shutil.rmtree(living.runtime_dir)
    living.runtime_dir.write_text("in the way")
    living.until(lambda: bool(told(caplog, "cannot be made again")))
    assert living.index.mappings.counts().files == len(WANTED)
    assert [server.pid for server in living.servers] == pids
    living.runtime_dir.unlink()
    living.until(lambda: all(server.answers() for server in living.servers))


# The data


def everything(living: Living) -> None:
    shutil.rmtree(living.data_dir)


def everything_but_the_directory(living: Living) -> None:
    for path in living.data_dir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def renamed_away(living: Living) -> None:
    shutil.rmtree(living.data_dir.with_name("elsewhere"), ignore_errors=True)
    living.data_dir.rename(living.data_dir.with_name("elsewhere"))


def another_in_its_place(living: Living) -> None:
    renamed_away(living)
    living.data_dir.mkdir()


def all_of_valkey(living: Living) -> None:
    shutil.rmtree(living.data_dir / "valkey")


def append_only_directory(living: Living) -> None:
    shutil.rmtree(living.data_dir / "valkey" / "appendonlydir")


def append_only_file(living: Living) -> None:
    for path in (living.data_dir / "valkey" / "appendonlydir").glob("*.incr.aof"):
        path.unlink()


def manifest(living: Living) -> None:
    (living.data_dir / "valkey" / "appendonlydir" / "appendonly.aof.manifest").unlink()


def snapshot(living: Living) -> None:
    for path in (living.data_dir / "valkey" / "appendonlydir").glob("*.base.rdb"):
        path.unlink()


def all_of_milvus(living: Living) -> None:
    shutil.rmtree(living.data_dir / "milvus")


def everything_in_milvus(living: Living) -> None:
    for path in (living.data_dir / "milvus").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def collections(living: Living) -> None:
    shutil.rmtree(living.data_dir / "milvus" / "collections")


def one_collection(living: Living) -> None:
    shutil.rmtree(living.data_dir / "milvus" / "collections" / ONE)


def vectors(living: Living) -> None:
    for path in (living.data_dir / "milvus" / "collections" / ONE).rglob("*.parquet"):
        path.unlink()


@pytest.mark.parametrize(
    "take_away",
    [
        everything,
        everything_but_the_directory,
        renamed_away,
        another_in_its_place,
        all_of_valkey,
        append_only_directory,
        append_only_file,
        manifest,
        snapshot,
        all_of_milvus,
        everything_in_milvus,
        collections,
        one_collection,
        vectors,
    ],
)
def test_files_that_are_taken_away_are_noticed_and_what_was_in_them_is_made_again(
    living: Living, take_away: Callable[[Living], None], caplog: pytest.LogCaptureFixture
) -> None:
    restarts = sum(server.restarts for server in living.servers)
    began = time.monotonic()
    take_away(living)
    living.until(lambda: living.is_in_order and sum(server.restarts for server in living.servers) > restarts)
    took = time.monotonic() - began
    assert told(caplog, "removed")
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(lines) == len(set(lines)), "it is said once"
    living.converge()
    # What is in memory is on the disk: the next daemon finds it.
    assert (living.data_dir / "lock").exists()
    with pytest.raises(AlreadyRunning):
        DataLock(living.data_dir).acquire()
    for server in living.servers:
        assert server.has_its_files()
        assert not server.is_lost
    restarts = sum(server.restarts for server in living.servers)
    for _ in range(10):
        living.check()
        time.sleep(0.1)
    assert sum(server.restarts for server in living.servers) == restarts, f"it is made again once (after {took:.1f} s)"


def test_a_lock_file_that_is_removed_is_made_and_locked_again(living: Living, caplog: pytest.LogCaptureFixture) -> None:
    restarts = [server.restarts for server in living.servers]
    (living.data_dir / "lock").unlink()
    living.until(lambda: bool(told(caplog, "the lock file in", "is made and locked again")))
    with pytest.raises(AlreadyRunning):
        DataLock(living.data_dir).acquire()
    assert [server.restarts for server in living.servers] == restarts
    assert len(told(caplog, "lock file")) == 1


def test_a_daemon_whose_lock_another_one_has_taken_meanwhile_ends(living: Living) -> None:
    (living.data_dir / "lock").unlink()
    other = DataLock(living.data_dir)
    other.acquire()
    try:
        with pytest.raises(AlreadyRunning, match=f"is locked by process {os.getpid()}"):
            living.until(lambda: False)
    finally:
        other.release()
    living.until(lambda: not living.lock.is_lost)


def test_work_that_goes_on_takes_no_file_for_lost(living: Living, caplog: pytest.LogCaptureFixture) -> None:
    """Valkey rewrites its file, and Milvus writes out, merges and drops, while everything is looked at without a pause."""
    restarts = [server.restarts for server in living.servers]
    others = living.kit.stores(living.valkey, living.milvus).open("another")
    others.recover()
    for n in range(8):
        living.index.mappings._redis.bgrewriteaof()
        others.commit([living.photos.add(f"/q/{n}.jpg", f"other {n}")])
        others.vectors.flush()
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            living.check()
            time.sleep(0.01)
    for collection in others.collections:
        others.vectors.unpoint(collection.alias)
        others.vectors.drop(collection.name)
    others.stop()
    for _ in range(20):
        living.check()
        assert living.index.in_order()
        time.sleep(0.1)
    assert [server.restarts for server in living.servers] == restarts
    assert told(caplog, "removed") == []
