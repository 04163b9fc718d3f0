"""Valkey and Milvus Lite as children: what survives, what is replaced, and who is left alone."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis
from pymilvus import DataType, MilvusClient

from daemon.errors import StoreRefused, StoreUnavailable
from daemon.index import milvus_lite_server
from daemon.index.embedded import EmbeddedMilvus, EmbeddedServer, EmbeddedValkey, ProcessIdentity, wait_until
from daemon.index.vectors import Row, Vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

ROOT = Path(milvus_lite_server.__file__).parents[2]
COLLECTION = "photos"
SERVERS = (EmbeddedValkey, EmbeddedMilvus)

# A daemon in miniature: starts both stores, says their pids, and waits to be killed.
PARENT = """
import signal, sys
from pathlib import Path
from daemon.index.embedded import EmbeddedMilvus, EmbeddedValkey
servers = [server(Path(sys.argv[1]), Path(sys.argv[2])) for server in (EmbeddedValkey, EmbeddedMilvus)]
for server in servers:
    server.start()
print(*(server.pid for server in servers), flush=True)
signal.pause()
"""


class Places:
    """The directories of one daemon, and the servers a test made there."""

    def __init__(self, data_dir: Path, runtime_dir: Path) -> None:
        self.data_dir = data_dir
        self.runtime_dir = runtime_dir
        self._made: list[EmbeddedServer] = []

    def make(self, kind: type[EmbeddedServer], **arguments: Any) -> EmbeddedServer:
        server = kind(self.data_dir, self.runtime_dir, **arguments)
        self._made.append(server)
        return server

    def stop_all(self) -> None:
        for server in self._made:
            server.stop()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    # pytest's own directories can be too long for a socket.
    runtime_dir = Path(tempfile.mkdtemp(prefix="stores-"))
    places = Places(tmp_path / "data of tests", runtime_dir)
    yield places
    places.stop_all()
    shutil.rmtree(runtime_dir)


def milvus_client(server: EmbeddedServer) -> MilvusClient:
    return MilvusClient(uri=server.url, timeout=5, dedicated=True)


def put(server: EmbeddedServer) -> None:
    if isinstance(server, EmbeddedValkey):
        with redis.Redis.from_url(server.url) as connection:
            connection.set("key", "value")
        return
    client = milvus_client(server)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(COLLECTION, schema=schema, timeout=5)
    client.insert(COLLECTION, [{"id": number, "vector": [1.0, number]} for number in range(100)], timeout=5)
    client.close()


def holds_what_was_put(server: EmbeddedServer) -> bool:
    if isinstance(server, EmbeddedValkey):
        with redis.Redis.from_url(server.url) as connection:
            return bool(connection.get("key") == b"value")
    client = milvus_client(server)
    rows = client.query(COLLECTION, filter="id >= 0", output_fields=["id"], timeout=5)
    client.close()
    return len(rows) == 100


def kill(server: EmbeddedServer) -> None:
    identity = identity_of(server.pid)
    os.kill(identity.pid, signal.SIGKILL)
    assert wait_until(lambda: not identity.running, 5)


def identity_of(pid: int | None) -> ProcessIdentity:
    assert pid is not None
    identity = ProcessIdentity.of(pid)
    assert identity is not None
    return identity


def check_until(server: EmbeddedServer, condition: Callable[[], bool]) -> None:
    def checked() -> bool:
        server.check()
        return condition()

    assert wait_until(checked, 20)


def tcp_listeners(pid: int) -> set[str]:
    """Return the inodes of the process's sockets that are in the tables of TCP sockets."""
    links: list[str] = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # One that has been closed since is no listener.
        with contextlib.suppress(FileNotFoundError):
            links.append(str(link.readlink()))
    own = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:[")}
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    return own & {line.split()[9] for table in tables for line in table}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_store_is_ready_within_seconds(places: Places, kind: type[EmbeddedServer]) -> None:
    before = time.monotonic()
    server = places.make(kind)
    server.start()
    assert time.monotonic() - before < 5
    assert server.answers()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_path_may_hold_what_means_something_in_a_url(places: Places, kind: type[EmbeddedServer]) -> None:
    places.runtime_dir /= "a b%41?c#d"
    server = places.make(kind)
    server.start()
    put(server)
    assert holds_what_was_put(server)


@pytest.mark.parametrize("kind", SERVERS)
def test_what_is_put_survives_a_stop(places: Places, kind: type[EmbeddedServer]) -> None:
    first = places.make(kind)
    first.start()
    put(first)
    first.stop()
    assert not first.socket_path.exists()
    assert not list(places.data_dir.glob("*.pid"))

    second = places.make(kind)
    second.start()
    assert holds_what_was_put(second)


@pytest.mark.parametrize("kind", SERVERS)
def test_what_is_put_survives_a_kill_and_the_restart(places: Places, kind: type[EmbeddedServer]) -> None:
    server = places.make(kind)
    server.start()
    put(server)
    kill(server)
    check_until(server, lambda: server.restarts == 1 and server.answers())
    assert holds_what_was_put(server)


@pytest.mark.parametrize("kind", SERVERS)
def test_no_tcp_port_is_opened_and_everything_is_private(places: Places, kind: type[EmbeddedServer]) -> None:
    server = places.make(kind)
    server.start()
    assert server.pid is not None
    assert not tcp_listeners(server.pid)
    assert server.socket_path.stat().st_mode & 0o077 == 0
    made = [places.data_dir, *places.data_dir.rglob("*"), *places.runtime_dir.rglob("*")]
    assert [path for path in made if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("kind", SERVERS)
def test_a_live_process_in_a_stale_pid_file_is_left_alone(places: Places, kind: type[EmbeddedServer]) -> None:
    server = places.make(kind)
    places.data_dir.mkdir(mode=0o700)
    server.socket_path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(server.socket_path))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        recycled = identity_of(bystander.pid)._replace(started_ticks=1)
        recycled.write(places.data_dir / f"{server.name}.pid")
        server.start()
        assert bystander.poll() is None
        bystander.communicate(b"\n")
        assert bystander.returncode == 0


@pytest.mark.parametrize("kind", SERVERS)
def test_a_child_left_behind_is_replaced(places: Places, kind: type[EmbeddedServer]) -> None:
    first = places.make(kind)
    first.start()
    put(first)
    first.stop()
    with subprocess.Popen(first.command(), stdout=subprocess.DEVNULL) as orphan:
        identity_of(orphan.pid).write(places.data_dir / f"{first.name}.pid")
        assert wait_until(first.answers, 20)
        second = places.make(kind)
        second.start()
        assert orphan.wait(1) == 0
        assert second.pid != orphan.pid
        assert holds_what_was_put(second)


def test_a_live_server_without_a_pid_file_is_refused(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.index.embedded.STOP_GRACE_SECONDS", 0.1)
    first = places.make(EmbeddedValkey)
    first.start()
    (places.data_dir / "valkey.pid").unlink()
    with pytest.raises(StoreRefused, match="is served by a process that this daemon did not start"):
        places.make(EmbeddedValkey).start()
    assert first.answers()


def test_the_children_go_with_a_killed_daemon_and_the_next_one_starts_at_once(places: Places) -> None:
    command = [sys.executable, "-c", PARENT, str(places.data_dir), str(places.runtime_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        children = [identity_of(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(children) == 2
    for kind in SERVERS:
        places.make(kind).start()
    assert not any(child.running for child in children)


def test_the_children_of_a_killed_daemon_end_by_themselves(places: Places) -> None:
    command = [sys.executable, "-c", PARENT, str(places.data_dir), str(places.runtime_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        children = [identity_of(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert wait_until(lambda: not any(child.running for child in children), 10)


def test_a_start_that_fails_is_one_sentence_with_the_log(places: Places) -> None:
    server = places.make(EmbeddedValkey)
    server.start()
    server.stop()
    aof = places.data_dir / "valkey" / "appendonlydir"
    shutil.rmtree(aof)
    aof.write_text("a file where a directory should be")
    with pytest.raises(StoreUnavailable, match=r"did not start, it exited with status 1: .*valkey\.log\)") as raised:
        server.start()
    assert "\n" not in str(raised.value)


def test_a_milvus_directory_in_use_is_not_damaged(places: Places) -> None:
    first = places.make(EmbeddedMilvus)
    first.start()
    (places.data_dir / "milvus.pid").unlink()
    with tempfile.TemporaryDirectory() as other:
        second = EmbeddedMilvus(places.data_dir, Path(other))
        with pytest.raises(StoreUnavailable, match=r"exited with status 75: .* is in use by another process"):
            second.start()
    assert not list(places.data_dir.glob("*.damaged-*"))


def test_milvus_lite_logs_no_traceback_for_a_request_it_refuses(places: Places) -> None:
    server = places.make(EmbeddedMilvus)
    server.start()
    put(server)
    client = milvus_client(server)
    with pytest.raises(Exception, match="dim"):
        client.insert(COLLECTION, [{"id": 1, "vector": [1.0, 2.0, 3.0]}], timeout=5)
    with pytest.raises(Exception, match="nonsense"):
        client.query(COLLECTION, filter="nonsense ==", timeout=5)
    client.close()
    assert "Traceback" not in (places.data_dir / "logs" / "milvus.log").read_text()


def test_the_private_function_of_milvus_lite_is_as_expected(tmp_path: Path) -> None:
    database = milvus_lite_server.open_database(str(tmp_path / "milvus"))
    try:
        with pytest.raises(milvus_lite_server.CannotServe, match="cannot be bound") as raised:
            milvus_lite_server.build_server(database, str(tmp_path / ("x" * 200)))
        assert raised.value.status == milvus_lite_server.EXIT_NO_SOCKET
        server = milvus_lite_server.build_server(database, str(tmp_path / "m"))
        server.start()
        assert server.stop(0).wait(5)
    finally:
        database.close()


def test_files_of_vectors_that_are_large_are_merged_with_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_lite_server, "LARGE_BYTES", 300_000)
    database = milvus_lite_server.open_database(str(tmp_path / "milvus"))
    server = milvus_lite_server.build_server(database, str(tmp_path / "m"))
    server.start()
    vectors = Vectors(f"unix:{tmp_path / 'm'}", embedded=True)
    vectors.ensure("photos", dim=256, metric="cosine")
    random = np.random.default_rng(0).normal(size=(1200, 256)).astype(np.float32)
    try:
        for start in range(0, 1200, 100):
            vectors.upsert(
                "photos", [Row(start + n, one, 0, 1, 1) for n, one in enumerate(random[start : start + 100])]
            )
            vectors.flush()
            database.get_collection("photos")._wait_for_bg(timeout=30)
        rows = sorted(pq.ParquetFile(file).metadata.num_rows for file in (tmp_path / "milvus").rglob("*.parquet"))
        # Four are one, and that one is large. Milvus Lite itself would go on with it: 400, 700 and 100.
        assert rows == [400, 400, 400]
        assert vectors.ids("photos") == set(range(1200))
        assert [hit.id for hit in vectors.search("photos", random[7], 1)] == [7]
    finally:
        vectors.close()
        server.stop(0).wait(5)
        database.close()
