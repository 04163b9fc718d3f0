"""What the two stores answer in bad times, said in our words: away, or refused; and never with a secret in it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from daemon.errors import StoreError, StoreRefused, StoreUnavailable
from daemon.index.keys import Keys
from daemon.index.mappings import Mappings, Remove
from daemon.index.vectors import INDEXES, Row, Vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.index.index import Index

SECRET = "hunter2"


@pytest.fixture
def own(own_stores: Any) -> Iterator[Index]:
    index: Index = own_stores.library(models=("one",), timeout=1.0)
    index.recover()
    yield index
    index.stop()


def row(number: int) -> Row:
    return Row(number, np.eye(8, dtype=np.float32)[number % 8], 0, 1, 1)


def every_call(index: Index) -> list[Callable[[], object]]:
    name, vectors, mappings = index.collections[0].name, index.vectors, index.mappings
    vector = row(0).vector
    of_milvus: list[Callable[[], object]] = [
        lambda: vectors.loaded(name),
        lambda: vectors.search(name, vector, 1),
        lambda: vectors.upsert(name, [row(1)]),
        lambda: vectors.delete(name, [1]),
        lambda: vectors.get(name, 1),
        lambda: vectors.count(name),
        lambda: vectors.ids(name),
    ]
    of_redis: list[Callable[[], object]] = [
        lambda: mappings.empty,
        mappings.establish,
        mappings.counts,
        mappings.failures,
        mappings.intents,
        lambda: list(mappings.stream("/")),
        lambda: mappings.files(["/a"]),
        lambda: mappings.apply([Remove("/a")], []),
        lambda: mappings.forget([1], []),
        lambda: mappings.set_encoded(name, present=[1]),
        lambda: mappings.all_encoded(name),
    ]
    return of_milvus + of_redis


def refused(work: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        work()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert SECRET not in sentence
    assert not sentence.endswith(".")
    return caught.value


def test_servers_that_hang_are_away_within_the_deadline_and_fine_again_after_it(own_stores: Any, own: Index) -> None:
    for server in (own_stores.valkey, own_stores.milvus):
        os.kill(server.pid, signal.SIGSTOP)
        # Every thread of it, which takes a moment where others have work to do.
        while psutil.Process(server.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
    try:
        for call in every_call(own):
            before = time.monotonic()
            error = refused(call)
            assert isinstance(error, StoreUnavailable)
            assert error.reason == "does not answer in time"
            assert time.monotonic() - before < 5
    finally:
        for server in (own_stores.valkey, own_stores.milvus):
            os.kill(server.pid, signal.SIGCONT)
    for call in every_call(own):
        call()


def test_a_collection_that_the_embedded_server_takes_long_to_open_is_waited_for(own_stores: Any) -> None:
    vectors = Vectors(own_stores.milvus.url, embedded=True, timeout_seconds=0.5)
    vectors.ensure("large", dim=8, metric="cosine")
    os.kill(own_stores.milvus.pid, signal.SIGSTOP)
    going_on = threading.Timer(2, os.kill, (own_stores.milvus.pid, signal.SIGCONT))
    going_on.start()
    assert not vectors.ensure("large", dim=8, metric="cosine")
    going_on.join()
    vectors.close()


def test_servers_that_are_gone_are_away_and_fine_again_when_they_are_back(own_stores: Any, own: Index) -> None:
    own_stores.valkey.stop()
    own_stores.milvus.stop()
    for call in every_call(own):
        error = refused(call)
        assert isinstance(error, StoreUnavailable)
        assert error.reason == "cannot be reached"
    own_stores.valkey.start()
    own_stores.milvus.start()
    assert not own.in_order()
    own.recover()
    assert own.in_order()
    for call in every_call(own):
        call()


def test_scripts_survive_their_being_flushed(own: Index) -> None:
    own.mappings._redis.script_flush()
    own.mappings.apply([Remove("/a")], [])
    own.mappings._redis.script_flush()
    assert own.mappings.page("/") == []


def test_a_redis_out_of_memory_is_away_for_now(own: Index, photos: Any) -> None:
    own.mappings._redis.config_set("maxmemory", "1")
    works: list[Callable[[], object]] = [
        lambda: own.mappings.intend([1]),
        lambda: own.mappings.apply([photos.add("/p/a.jpg", "a").add], []),
    ]
    for work in works:
        error = refused(work)
        assert isinstance(error, StoreUnavailable)
        assert "cannot be written now" in error.reason
    own.mappings._redis.config_set("maxmemory", "0")
    for work in works:
        work()


def test_a_redis_that_has_lost_its_primary_is_away_for_now(own_stores: Any, own: Index, photos: Any) -> None:
    own.mappings._redis.replicaof("127.0.0.1", 1)
    error = refused(lambda: own.commit([photos.add("/p/a.jpg", "a", models=1)]))
    assert isinstance(error, StoreUnavailable)
    assert "cannot be written now" in error.reason
    own.mappings._redis.replicaof("NO", "ONE")
    assert own.commit([photos.add("/p/a.jpg", "a", models=1)]) == [True]


def test_a_refusal_is_one_whatever_the_photo_is_called(index: Index) -> None:
    index.mappings._redis.set(index.mappings.keys.failures, "no hash")
    error = refused(lambda: index.mappings.apply([Remove("/p/BUSY ZOOM OOM READONLY.jpg")], []))
    assert isinstance(error, StoreRefused)
    assert "WRONGTYPE" in error.reason
    assert "ZOOM" not in error.reason


def test_a_wrong_password_is_refused(own_stores: Any, own: Index) -> None:
    own.mappings._redis.config_set("requirepass", "right")
    place = own_stores.valkey.url.removeprefix("unix://")
    for url in (f"unix://{place}", f"unix://:{SECRET}@{place}", f"unix://{place}?password={SECRET}"):
        mappings = Mappings(url, Keys("x"))
        error = refused(mappings.counts)
        mappings.close()
        assert isinstance(error, StoreRefused)
        assert error.reason == "refuses the password; check redis.url"
        assert error.url == f"unix://{place}"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/more@host:6379",
        f"redis://:{SECRET}?more@host:6379",
        f"http://:{SECRET}@host",
        f"redis://host/0?pass={SECRET}",
        f"redis://host/0?socket_timeout={SECRET}",
        f"user:{SECRET}@host",
    ],
)
def test_what_is_no_url_of_redis_is_refused_without_its_secret(url: str) -> None:
    assert isinstance(refused(lambda: Mappings(url, Keys("x"))), StoreRefused)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "unix:/nowhere/milvus.sock"])
def test_a_milvus_that_is_not_there_is_away(uri: str) -> None:
    vectors = Vectors(uri, token=SECRET, timeout_seconds=1)
    assert isinstance(refused(lambda: vectors.loaded("x")), StoreUnavailable)
    vectors.close()


def test_a_redis_that_is_not_there_is_away() -> None:
    mappings = Mappings(f"redis://:{SECRET}@127.0.0.1:1/3", Keys("x"), timeout_seconds=1)
    error = refused(mappings.counts)
    mappings.close()
    assert str(error) == "Redis at redis://127.0.0.1:1/3 cannot be reached"


def test_what_milvus_refuses_is_one_sentence(index: Index) -> None:
    name = index.collections[0].name
    short = Row(1, np.ones(3, np.float32), 0, 1, 1)
    error = refused(lambda: index.vectors.upsert(name, [short]))
    assert isinstance(error, StoreRefused)
    assert error.reason == "refuses a call: vector field 'vector' expected dim 8, got 3"


def test_a_collection_that_is_gone_is_made_again_and_its_vectors_are_owed(index: Index, photos: Any, kit: Any) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    collection = index.collections[0]
    with index.vectors._milvus() as client:
        client.drop_alias(collection.alias, timeout=5)
        client.drop_collection(collection.name, timeout=5)
    assert not index.in_order()
    assert isinstance(refused(lambda: index.vectors.upsert(collection.name, [row(1)])), StoreUnavailable)
    assert isinstance(refused(lambda: index.vectors.search(collection.name, row(1).vector, 1)), StoreUnavailable)
    index.recover()
    assert index.in_order()
    assert kit.backlog_of(index) == ["/p/a.jpg"]
    kit.converge(index, photos, {"/p/a.jpg": "a"})
    kit.assert_in_step(index, photos.expected({"/p/a.jpg": "a"}))


def test_a_collection_whose_making_was_cut_short_gets_its_index(stores: Any) -> None:
    index = stores.library(models=("one",))
    collection = index.collections[0]
    index.recover()
    with index.vectors._milvus() as client:
        client.release_collection(collection.name, timeout=5)
        client.drop_index(collection.name, "vector", timeout=5)
        assert not client.list_indexes(collection.name, timeout=5)
    index.recover()
    with index.vectors._milvus() as client:
        assert client.list_indexes(collection.name, timeout=5)


def test_the_alias_of_a_model_follows_its_newest_version(stores: Any) -> None:
    index = stores.library(models=("one",))
    vectors, alias = index.vectors, index.collections[0].alias
    for version in ("1", "2", "1"):
        vectors.ensure(f"{alias}_{version}", dim=8, metric="cosine")
        vectors.point(alias, f"{alias}_{version}")
        assert vectors.target(alias) == f"{alias}_{version}"
        with vectors._milvus() as client:
            assert client.describe_alias(alias, timeout=5)["collection_name"] == f"{alias}_{version}"
    vectors.unpoint(alias)
    assert vectors.target(alias) is None
    for version in "12":
        vectors.drop(f"{alias}_{version}")
    with vectors._milvus() as client:
        assert not any(name.startswith(alias) for name in client.list_collections(timeout=5))
    index.stop()


def test_what_an_index_is_built_with_reaches_the_server(stores: Any, index: Index) -> None:
    with index.vectors._milvus() as client:
        described = client.describe_index(index.collections[0].name, "vector", timeout=5)
    assert described["index_type"] == "IVF_FLAT"
    assert described["params"] == INDEXES["IVF_FLAT"]["params"]


def test_who_asks_for_all_gets_all(own_stores: Any, own: Index, kit: Any) -> None:
    name = own.collections[0].name
    random = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    own.vectors.upsert(name, [Row(number, vector, 0, 1, 1) for number, vector in enumerate(random)])
    own.vectors.flush()
    directory = own_stores.milvus._directory / "collections" / name
    kit.eventually(lambda: list(directory.glob("partitions/*/indexes/*.idx")))
    assert len(own.vectors.search(name, random[7], 1000)) == 600


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_every_index_and_metric_finds_a_vector_by_itself(stores: Any, kind: str, metric: str) -> None:
    vectors = Vectors(stores.milvus.url, embedded=True, index=kind)
    name = f"kind_{kind}_{metric}"
    vectors.ensure(name, dim=8, metric=metric)
    vectors.upsert(name, [row(number) for number in range(8)])
    vectors.flush()
    for number in range(8):
        hits = vectors.search(name, row(number).vector, 3)
        assert hits[0].id == number
        assert hits[0].score == pytest.approx(0.0 if metric == "l2" else 1.0, abs=1e-5)
    with vectors._milvus() as client:
        client.drop_alias(f"{name}_alias", timeout=5)
        client.drop_collection(name, timeout=5)
    vectors.close()


def test_the_nearest_hundred_are_found_through_a_graph_too(stores: Any) -> None:
    vectors = Vectors(stores.milvus.url, embedded=True, index="HNSW", timeout_seconds=60)
    vectors.ensure("graph", dim=128, metric="cosine")
    random = np.random.default_rng(0).normal(size=(10_000, 128)).astype(np.float32)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    for start in (0, 5000):
        part = enumerate(random[start : start + 5000], start)
        vectors.upsert("graph", [Row(number, vector, 0, 1, 1) for number, vector in part])
    vectors.flush()
    found = 0
    for number in range(0, 10_000, 500):
        nearest = np.argsort(-(random @ random[number]))[:100]
        found += len({hit.id for hit in vectors.search("graph", random[number], 100)} & set(nearest.tolist()))
    # With a server's own choice of candidates: 0.957.
    assert found / 2000 >= 0.99
    vectors.drop("graph")
    vectors.close()


def test_more_rows_than_one_flush_are_all_there(index: Index) -> None:
    name = index.collections[0].name
    for start in range(0, 1200, 300):
        index.vectors.upsert(name, [row(number) for number in range(start, start + 300)])
    assert index.vectors.count(name) == 1200
    assert index.vectors.ids(name) == set(range(1200))
    index.vectors.delete(name, list(range(1100)))
    assert index.vectors.ids(name) == set(range(1100, 1200))


@pytest.mark.parametrize("flushed", [True, False])
def test_the_ids_are_those_that_milvus_finds_itself(index: Index, *, flushed: bool) -> None:
    name = index.collections[0].name
    assert index.vectors.ids(name) == set()
    for ids in (range(600), range(300, 700), range(650, 900)):
        index.vectors.upsert(name, [row(number) for number in ids])
        index.vectors.delete(name, list(ids)[:50])
    if flushed:
        index.vectors.flush()
    with index.vectors._milvus() as client:
        found = client.query(name, filter="id > -1", output_fields=["id"], timeout=10)
    assert index.vectors.ids(name) == {one["id"] for one in found}
    assert len(found) == index.vectors.count(name) == 750


def test_a_photo_that_is_written_twice_has_one_vector(index: Index) -> None:
    name = index.collections[0].name
    for _ in range(2):
        index.vectors.upsert(name, [row(1)])
        index.vectors.flush()
    assert index.vectors.count(name) == 1
    assert [hit.id for hit in index.vectors.search(name, row(1).vector, 5)] == [1]
    with index.vectors._milvus() as client:
        assert list(client.query(name, filter="id >= 0", output_fields=["id"], timeout=10)) == [{"id": 1}]


def test_nothing_is_logged_of_a_failed_call(index: Index, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pymilvus"):
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        refused(lambda: index.vectors.search("nobody_made_it", row(0).vector, 1))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_vector_index_that_is_torn_while_the_server_runs_is_made_again(own_stores: Any, own: Index, kit: Any) -> None:
    collection = own.collections[0]
    own.vectors.upsert(collection.name, [row(number) for number in range(600)])
    own.vectors.flush()
    directory = own_stores.milvus._directory / "collections" / collection.name
    kit.eventually(lambda: list(directory.glob("partitions/*/indexes/*.idx")))
    with own.vectors._milvus() as client:
        client.release_collection(collection.name, timeout=10)
    for index in directory.glob("partitions/*/indexes/*.idx"):
        index.write_bytes(index.read_bytes()[:100])
    own.vectors.ensure(collection.name, dim=collection.dim, metric=collection.metric)
    assert [hit.id for hit in own.vectors.search(collection.name, row(7).vector, 1)] == [7]
