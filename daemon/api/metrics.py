"""What the daemon says of itself in the text format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.api.schema import StatusAnswer

__all__ = ["CONTENT_TYPE", "exposition"]


def exposition(status: StatusAnswer) -> bytes:
    """Return the metrics of one moment."""
    registry = CollectorRegistry()
    registry.register(_Moment(status))
    return generate_latest(registry)


class _Moment:
    def __init__(self, status: StatusAnswer) -> None:
        self._status = status

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        status = self._status
        gauges = {
            "photos": ("Distinct photos in the index.", status.photos),
            "files": ("Files of the watched folders in the index.", status.files),
            "failures": ("Files that could not be indexed.", status.failures),
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
        counters = {
            "encoded_photos": ("Photos encoded since the start.", status.encoded),
            "overflows": ("Times that the kernel dropped events.", status.overflows),
            "reconciles": ("Walks that compared a folder, or a part of one, with the index.", status.reconciles),
        }
        for name, (what, value) in gauges.items():
            yield GaugeMetricFamily(f"lookalike_{name}", what, value=value)
        by_model = {
            "model_photos": ("Photos that the collection knows which answers for a model.", "photos"),
            "model_built_photos": ("Photos that the newest version of a model knows.", "built"),
        }
        for name, (what, key) in by_model.items():
            family = GaugeMetricFamily(f"lookalike_{name}", what, labels=["model"])
            for model in status.models:
                family.add_metric([model.name], getattr(model, key))
            yield family
        for name, (what, value) in counters.items():
            yield CounterMetricFamily(f"lookalike_{name}", what, value=value)
