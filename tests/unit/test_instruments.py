"""What is measured while the daemon works."""

from __future__ import annotations

import threading

import pytest

from daemon.errors import StoreRefused, StoreUnavailable
from daemon.instruments import STORE_ERRORS, STORE_SECONDS, Counter, Histogram, Reading, store_call


def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram("h", "what", (0.1, 1.0))
    for seconds in (0.0, 0.1, 0.5, 1.0, 5.0):
        histogram.observe(seconds)
    (reading,) = histogram.readings()
    assert reading.counts == (2, 2, 1)
    assert reading.total == pytest.approx(6.6)


def test_each_set_of_labels_has_counts_of_its_own() -> None:
    histogram = Histogram("h", "what", (1.0,), "store", "operation")
    histogram.observe(0.5, "redis", "read")
    histogram.observe(2.0, "milvus", "search")
    histogram.observe(0.25, "redis", "read")
    assert histogram.readings() == [
        Reading(("redis", "read"), (2, 0), 0.75),
        Reading(("milvus", "search"), (0, 1), 2.0),
    ]


def test_a_block_is_measured_also_when_it_fails() -> None:
    histogram = Histogram("h", "what", (10.0,))
    with pytest.raises(ValueError, match="so"), histogram.timed():
        raise ValueError("so")
    assert [reading.counts for reading in histogram.readings()] == [(1, 0)]


def test_many_threads_lose_no_observation() -> None:
    histogram, counter = Histogram("h", "what", (1.0,)), Counter("c", "what", "store", ("redis",))

    def work() -> None:
        for _ in range(5000):
            histogram.observe(0.5)
            counter.count("redis")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert histogram.readings() == [Reading((), (20_000, 0), 10_000.0)]
    assert counter.readings() == {"redis": 20_000}


def test_what_a_counter_knows_begins_at_nought() -> None:
    assert Counter("c", "what", "store", ("redis", "milvus")).readings() == {"redis": 0, "milvus": 0}


def seen(operation: str) -> int:
    return sum(sum(one.counts) for one in STORE_SECONDS.readings() if one.labels == ("redis", operation))


@pytest.mark.parametrize("error", [StoreUnavailable("Redis", "u", "is away"), StoreRefused("Redis", "u", "refuses")])
def test_a_call_of_a_store_that_fails_is_measured_and_counted(error: Exception) -> None:
    calls, errors = seen("flush"), STORE_ERRORS.readings()["redis"]
    with store_call("redis", "flush"):
        pass
    with pytest.raises(type(error)), store_call("redis", "flush"):
        raise error
    assert (seen("flush") - calls, STORE_ERRORS.readings()["redis"] - errors) == (2, 1)
