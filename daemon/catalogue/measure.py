"""What a model does on this machine: its vectors, its pace, its memory, and which photos it finds alike."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from daemon.catalogue.samples import Sample, Samples, generated_photos, given_photos
from daemon.encode.encoder import Encoder
from daemon.encode.images import decode
from daemon.encode.providers import CPU
from daemon.encode.text import TextEncoder
from daemon.errors import PhotoError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from daemon.encode.models import Model
    from daemon.encode.providers import Provider

_SHOWN = 5
_NEIGHBOURS = 3
_MEASURED_SECONDS = 2.0
_QUERY = "a red boat at dusk"


@dataclass(frozen=True)
class Neighbour:
    path: str
    score: float
    """By the spec's metric, as search shows it: greater is nearer, but for l2, where it is the squared distance."""


@dataclass(frozen=True)
class Measurement:
    """Photos a second, by the number of threads; bytes of resident memory; `photos` are those of the user."""

    model: str
    version: str
    dim: int
    metric: str
    provider: str
    norm: float
    encoded_per_second: dict[int, float]
    photos_per_second: dict[int, float]
    memory_before: int
    memory_after: int
    text_seconds: float | None
    photos: int
    unreadable: list[str] = field(default_factory=list)
    neighbours: dict[str, list[Neighbour]] = field(default_factory=dict)


def measure(
    model: Model, given: Sequence[Path], *, threads: int, max_pixels: int, provider: Provider = CPU
) -> Measurement:
    """Run `model` over some of the photos at or below `given`, or over generated ones where none is given.

    ModelError when it cannot be used.
    """
    before = _resident_bytes()
    encoder = Encoder([model], threads=1, provider=provider)
    after = _resident_bytes()

    def load(photo: Sample) -> np.ndarray:
        decoded = decode(photo.content, photo.name, min_side=encoder.min_side, max_pixels=max_pixels)
        return encoder.preprocess(decoded.image)

    photos = Samples()
    for photo in given_photos(given, photos.unreadable) if given else generated_photos():
        photos.add(photo, load)
    if not photos.inputs:
        raise PhotoError(", ".join(map(str, given)), "there is no photo that can be read; name others.")
    inputs, kept = photos.inputs, photos.kept
    rows = np.concatenate([encoder.encode(one[np.newaxis])[model.version] for one in inputs])
    counts = sorted({1, threads})
    return Measurement(
        model=model.spec.name,
        version=model.version,
        dim=rows.shape[1],
        metric=model.spec.metric,
        provider=encoder.provider,
        norm=float(np.linalg.norm(rows, axis=1).mean()),
        encoded_per_second={n: _pace(lambda i: encoder.encode(inputs[i % len(inputs)][np.newaxis]), n) for n in counts},
        photos_per_second={
            n: _pace(lambda i: encoder.encode(load(kept[i % len(kept)])[np.newaxis]), n) for n in counts
        },
        memory_before=before,
        memory_after=after,
        text_seconds=_text_seconds(model),
        photos=len(inputs) if given else 0,
        unreadable=photos.unreadable,
        neighbours=_neighbours(photos.names, rows, model.spec.metric) if given else {},
    )


def _pace(work: Callable[[int], object], threads: int) -> float:
    """Return how many times a second `work` is done by so many threads at once."""
    started = time.perf_counter()
    end = started + _MEASURED_SECONDS

    def repeat(first: int) -> int:
        done = 0
        while done == 0 or time.perf_counter() < end:
            work(first + done)
            done += 1
        return done

    with ThreadPoolExecutor(threads, thread_name_prefix="measure") as pool:
        done = sum(pool.map(repeat, range(threads)))
    return done / (time.perf_counter() - started)


def _neighbours(names: list[str], rows: np.ndarray, metric: str) -> dict[str, list[Neighbour]]:
    """Return for each of the first photos those of the others that are nearest; rows are of length 1."""
    found = {}
    for index, name in enumerate(names[:_SHOWN]):
        likeness = rows @ rows[index]
        nearest = [int(other) for other in np.argsort(-likeness) if other != index][:_NEIGHBOURS]
        # Of unit vectors, |a - b|^2 = 2 - 2 a.b, so that all metrics rank alike.
        score = 2 - 2 * likeness if metric == "l2" else likeness
        found[name] = [Neighbour(names[other], float(score[other])) for other in nearest]
    return found


def _text_seconds(model: Model) -> float | None:
    if model.text_graph is None:
        return None
    tower = TextEncoder(model, threads=1)
    started = time.perf_counter()
    tower.encode(_QUERY)
    return time.perf_counter() - started


def _resident_bytes() -> int:
    # proc(5): the second number of statm is the resident set, in pages.
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
