"""What the daemon says of itself in the text formats of Prometheus."""

from __future__ import annotations

import datetime as dt
import functools
import platform
from importlib import metadata
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

import daemon
from daemon import instruments
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from daemon.api.schema import StatusAnswer

OPENMETRICS = "application/openmetrics-text"


def exposition(status: StatusAnswer, failures: Mapping[str, int], accept: str = "") -> tuple[bytes, str]:
    """Return the metrics of one moment and their content type, which the scraper's `accept` header chooses.

    `failures` are the files that are not indexed, by the kind of their failure.
    """
    registry = CollectorRegistry()
    registry.register(_Moment(status, failures))
    ProcessCollector(registry=registry)
    # Not by choose_encoder(), which an unusual version in the header makes raise a TypeError.
    if OPENMETRICS in accept:
        text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class _Moment:
    def __init__(self, status: StatusAnswer, failures: Mapping[str, int]) -> None:
        self._status = status
        self._failures = failures

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("lookalike_build", "What runs.", value=_build())
        yield from self._gauges()
        yield from self._counters()
        yield from self._by_label()
        for histogram in instruments.HISTOGRAMS:
            yield _family(histogram)
        for counter in instruments.COUNTERS:
            family = CounterMetricFamily(counter.name, counter.what, labels=[counter.label])
            for label, value in counter.readings().items():
                family.add_metric([printable(label)], value)
            yield family

    def _gauges(self) -> Iterator[Metric]:
        status = self._status
        gauges: dict[str, tuple[str, float]] = {
            "photos": ("Distinct photos of the watched folders in the index.", status.photos),
            "files": ("Files of the watched folders in the index.", status.files),
            "pending_paths": ("Paths that may differ from the index.", status.pending),
            "oldest_pending_seconds": ("How long the oldest of them has been pending.", status.oldest_pending_seconds),
            "held_deletions": ("Files that are missing and kept in the index.", status.held_deletions),
            "watches": ("Directories that the kernel tells of.", sum(one.watches for one in status.folders)),
            "unwatched_directories": (
                "Directories that are polled for want of a watch.",
                sum(one.unwatched for one in status.folders),
            ),
            "degraded": ("1 while something keeps the index from the disk.", status.state == "degraded"),
        }
        if status.last_reconcile is not None:
            finished = dt.datetime.fromisoformat(status.last_reconcile.finished_at).timestamp()
            gauges["last_reconcile_timestamp_seconds"] = ("When a whole folder was last compared.", finished)
        for name, (what, value) in gauges.items():
            yield GaugeMetricFamily(f"lookalike_{name}", what, value=value)

    def _counters(self) -> Iterator[Metric]:
        status = self._status
        counters = {
            "encoded_photos_total": ("Photos encoded since the start.", status.encoded),
            "overflows_total": ("Times that the kernel dropped events.", status.overflows),
            "reconciles_total": (
                "Walks that compared a folder, or a part of one, with the index.",
                status.reconciles,
            ),
        }
        for name, (what, value) in counters.items():
            yield CounterMetricFamily(f"lookalike_{name}", what, value=value)

    def _by_label(self) -> Iterator[Metric]:
        models, stores = self._status.models, self._status.stores
        yield _gauge("failures", "Files that could not be indexed.", "reason", self._failures)
        answering = {model.name: model.photos for model in models}
        yield _gauge("model_photos", "Photos in the collection that answers for a model.", "model", answering)
        newest = {model.name: model.built for model in models}
        yield _gauge("model_built_photos", "Photos that the newest version of a model knows.", "model", newest)
        up = {store.name.lower(): store.state == "ok" for store in stores}
        yield _gauge("store_up", "1 while a store answers.", "store", up)
        restarts = CounterMetricFamily(
            "lookalike_store_restarts_total", "Times that an embedded store was started again.", labels=["store"]
        )
        for store in stores:
            if store.embedded:
                restarts.add_metric([printable(store.name.lower())], store.restarts)
        yield restarts


def _gauge(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"lookalike_{name}", what, labels=[label])
    for value_of, value in values.items():
        family.add_metric([printable(value_of)], value)
    return family


def _family(histogram: instruments.Histogram) -> Metric:
    family = HistogramMetricFamily(histogram.name, histogram.what, labels=histogram.labels)
    readings = histogram.readings()
    if not readings and not histogram.labels:
        readings = [instruments.Reading((), (0,) * (len(histogram.bounds) + 1), 0.0)]
    for reading in readings:
        family.add_metric(
            [printable(label) for label in reading.labels], _buckets(histogram.bounds, reading.counts), reading.total
        )
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return each upper bound with how many are not above it, the last without one."""
    return list(zip([*map(str, bounds), "+Inf"], accumulate(counts), strict=True))


@functools.cache
def _build() -> dict[str, str]:
    versions = {name: metadata.version(name) for name in ("onnxruntime", "pillow", "pymilvus")}
    return {"version": daemon.__version__, "python": platform.python_version()} | versions
