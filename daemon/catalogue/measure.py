"""What a model does on this machine: its vectors, its pace, its memory, and which photos it finds alike."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from daemon.catalogue.confined import allow
from daemon.catalogue.measurement import Measurement, Neighbour
from daemon.catalogue.samples import Sample, Samples, generated_photos, given_photos
from daemon.encode.encoder import Encoder
from daemon.encode.images import decode
from daemon.encode.providers import CPU
from daemon.encode.text import TextEncoder
from daemon.errors import PhotoError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from daemon.catalogue.confined import Say
    from daemon.catalogue.installation import Installation
    from daemon.encode.models import Model
    from daemon.encode.providers import Provider
    from daemon.encode.specs import ModelSpec

_SHOWN = 5
_NEIGHBOURS = 3
_MEASURED_SECONDS = 2.0
_QUERY = "a red boat at dusk"


def measure_spec(
    spec: ModelSpec, installation: Installation, given: Sequence[Path], threads: int, say: Say
) -> Measurement:
    """Prepare the model of `spec` and measure it as the configuration has it run; errors as measure()."""
    say(f"{spec.name}: preparing it")
    model = installation.prepare(spec)
    allow(sum(file.stat().st_size for file in model.directory.rglob("*")))
    max_pixels, provider = installation.max_pixels, installation.provider
    return measure(model, given, threads=threads, max_pixels=max_pixels, provider=provider, say=say)


def measure(
    model: Model,
    given: Sequence[Path],
    *,
    threads: int,
    max_pixels: int,
    provider: Provider = CPU,
    say: Say = lambda _: None,
) -> Measurement:
    """Run `model` over some of the photos at or below `given`, or over generated ones where none is given.

    ModelError when it cannot be used, PhotoError when none of the photos can be read.
    """
    name = model.spec.name
    say(f"{name}: loading it")
    before = _resident_bytes()
    encoder = Encoder([model], threads=1, provider=provider)
    after = _resident_bytes()

    def load(photo: Sample) -> np.ndarray:
        decoded = decode(photo.content, photo.name, min_side=encoder.min_side, max_pixels=max_pixels)
        return encoder.preprocess(decoded.image)

    photos = Samples()
    for photo in given_photos(given, photos.unreadable) if given else generated_photos():
        photos.add(photo, load)
        say(f"{name}: reading photos, {len(photos.inputs)} so far")
    if not photos.inputs:
        raise _nothing_to_try(given, photos.unreadable)
    inputs, kept = photos.inputs, photos.kept
    rows = _rows(encoder, inputs, say)
    counts = sorted({1, threads})

    def pace(what: str, work: Callable[[int], object]) -> dict[int, float]:
        found = {}
        for number in counts:
            say(f"{name}: measuring {what} on {number} thread{'' if number == 1 else 's'}")
            found[number] = _pace(work, number)
        return found

    return Measurement(
        model=model.spec.name,
        version=model.version,
        dim=rows.shape[1],
        metric=model.spec.metric,
        provider=encoder.provider,
        norm=float(np.linalg.norm(rows, axis=1).mean()),
        encoded_per_second=pace("encoding", lambda i: encoder.encode(inputs[i % len(inputs)][np.newaxis])),
        photos_per_second=pace(
            "decoding and encoding", lambda i: encoder.encode(load(kept[i % len(kept)])[np.newaxis])
        ),
        memory_before=before,
        memory_after=after,
        text_seconds=_text_seconds(model, say),
        photos=len(inputs) if given else 0,
        unreadable=photos.unreadable,
        neighbours=_neighbours(photos.names, rows, model.spec.metric) if given else {},
    )


def _nothing_to_try(given: Sequence[Path], unreadable: Sequence[str]) -> PhotoError:
    """Return why there is no photo: the first reason, where there are some."""
    path, _, reason = unreadable[0].partition(": ") if unreadable else ("", "", "")
    if len(given) == 1 and path == str(given[0]):
        return PhotoError(path, reason)
    return PhotoError(", ".join(map(str, given)), "there is no photo that can be read; name others.")


def _rows(encoder: Encoder, inputs: Sequence[np.ndarray], say: Say) -> np.ndarray:
    (model,) = encoder.models
    rows = []
    for index, one in enumerate(inputs):
        say(f"{model.spec.name}: encoding photo {index + 1} of {len(inputs)}")
        rows.append(encoder.encode(one[np.newaxis])[model.version])
    return np.concatenate(rows)


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


def _text_seconds(model: Model, say: Say) -> float | None:
    if model.text_graph is None:
        return None
    say(f"{model.spec.name}: measuring texts")
    tower = TextEncoder(model, threads=1)
    started = time.perf_counter()
    tower.encode(_QUERY)
    return time.perf_counter() - started


def _resident_bytes() -> int:
    # proc(5): the second number of statm is the resident set, in pages.
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
