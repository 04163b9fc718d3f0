"""What the daemon measures while it works: counters and histograms that cost a microsecond, and do not know who reads them.

All of them are here, as loggers are in their modules: one process is one daemon. `daemon.api.metrics` tells them to Prometheus.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from daemon.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WORK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds in seconds for what a person or a thread waits for."""
WAITING = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Bounds in seconds for what may take as long as a library is large."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a histogram has seen with one set of labels: how many in each bucket, the last without a bound, and their sum."""

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    total: float


class Histogram:
    """Durations in seconds, in buckets with upper `bounds`; by the values of `labels`, which are few. Safe for threads."""

    def __init__(self, name: str, what: str, bounds: Sequence[float], *labels: str) -> None:
        self.name = name
        self.what = what
        self.bounds = tuple(bounds)
        self.labels = labels
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        bucket = bisect.bisect_left(self.bounds, seconds)
        with self._lock:
            if labels not in self._seen:
                self._seen[labels] = [0] * (len(self.bounds) + 1), [0.0]
            counts, total = self._seen[labels]
            counts[bucket] += 1
            total[0] += seconds

    @contextlib.contextmanager
    def timed(self, *labels: str) -> Iterator[None]:
        """Measure a block, whether it ends well or not."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - began, *labels)

    def readings(self) -> list[Reading]:
        with self._lock:
            return [Reading(labels, tuple(counts), total) for labels, (counts, [total]) in self._seen.items()]


class Counter:
    """How often something happened, by the values of `label`, of which the `known` begin at 0. Safe for threads."""

    def __init__(self, name: str, what: str, label: str, known: Sequence[str]) -> None:
        self.name = name
        self.what = what
        self.label = label
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(known, 0)

    def count(self, value: str) -> None:
        with self._lock:
            self._counts[value] = self._counts.get(value, 0) + 1

    def readings(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


DECODE_SECONDS = Histogram(
    "lookalike_decode_seconds", "How long it took to decode one photo, whether it could be or not.", WORK
)
ENCODE_SECONDS = Histogram(
    "lookalike_encode_seconds",
    "How long one photo took through a graph; models that share one are joined by a plus sign.",
    WORK,
    "model",
)
COMMIT_SECONDS = Histogram(
    "lookalike_commit_seconds", "How long it took to write one batch of changes to both stores.", WORK
)
LAG_SECONDS = Histogram(
    "lookalike_lag_seconds", "From an event to its change being found, or no longer being found.", WAITING
)
RECONCILE_SECONDS = Histogram(
    "lookalike_reconcile_seconds", "How long it took to compare a folder, or a part of one, with the index.", WAITING
)
REQUEST_SECONDS = Histogram(
    "lookalike_http_request_seconds",
    "How long a request took, from its head to the end of the answer.",
    WORK,
    "route",
    "method",
    "code",
)
STORE_SECONDS = Histogram(
    "lookalike_store_seconds", "How long a store took to do what was asked of it.", WORK, "store", "operation"
)
STORE_ERRORS = Counter(
    "lookalike_store_errors_total", "Calls that a store refused, or did not answer.", "store", ("redis", "milvus")
)

HISTOGRAMS = (
    DECODE_SECONDS,
    ENCODE_SECONDS,
    COMMIT_SECONDS,
    LAG_SECONDS,
    RECONCILE_SECONDS,
    REQUEST_SECONDS,
    STORE_SECONDS,
)
COUNTERS = (STORE_ERRORS,)

Operation = Literal["read", "write", "scan", "search", "flush", "manage"]
"""`scan` reads as much as the library is large; `manage` is what is done with whole collections."""


@contextlib.contextmanager
def store_call(store: Literal["redis", "milvus"], operation: Operation) -> Iterator[None]:
    """Measure what a store does in a block, and count the StoreError that it may raise."""
    try:
        with STORE_SECONDS.timed(store, operation):
            yield
    except StoreError:
        STORE_ERRORS.count(store)
        raise
