"""A query's time by the size of the library: POST /v1/search of a daemon with its embedded stores, through the socket.

The vectors are unit vectors around random centres, inserted through daemon.index before the daemon starts on them. A query by path
takes its vector from Milvus; a query by bytes is of a photo that is not in the library, which is decoded and encoded first.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import (
    Daemon,
    addition,
    arguments,
    conclude,
    distinct,
    fill,
    index_of,
    insert,
    percentile,
    photo_sources,
    places,
    table,
)
from cli.client import Query
from daemon.index.index import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.common import Places
    from cli.client import Client

COMMIT = 256
CENTRES = 100
SPREAD = 0.7
"""The length of what is added to a centre, whose own is 1: photos of one kind then have a cosine of about 0.7."""
WARM_UP = 10


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000], help="photos in the library")
    parser.add_argument("--queries", type=int, default=200, help="queries of each kind")
    parser.add_argument("--limit", type=int, default=10)
    settings = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    measured: dict[str, dict[str, list[float]]] = {}
    with places() as where:
        for size in settings.sizes:
            name = f"data-{size}"
            folder = where.folder(f"photos-{size}")
            files = fill(folder, (number.to_bytes(8, "big") for number in range(size)), size)
            inserted = _insert(where, name, files)
            with Daemon(where, name, folder) as daemon, daemon.client() as client:
                daemon.up_to_date()
                seconds = _measure(client, files, settings.queries, Query(settings.limit))
            where.drop(name)
            measured[str(size)] = seconds
            rows += [
                (f"{size:,} photos, {kind}", *(1000 * percentile(values, percent) for percent in (50, 95, 100)))
                for kind, values in seconds.items()
            ]
            print(f"{size:,} photos: {size / inserted:,.0f} inserted a second")
    table(f"{settings.queries} queries a line, milliseconds", ("", "p50", "p95", "max"), rows)
    conclude("search", settings, measured, [])


def _insert(where: Places, name: str, files: Sequence[Path]) -> float:
    """Fill the stores of the data directory `name`; return the seconds it took."""
    with index_of(where, name) as index:
        index.recover()
        begun = time.perf_counter()
        collection = index.collections[0]
        vectors = _clustered(collection.dim)
        for start in range(0, len(files), COMMIT):
            insert(
                index,
                [
                    Encoded(addition(file), {collection.version: next(vectors)})
                    for file in files[start : start + COMMIT]
                ],
            )
        index.vectors.flush()
        return time.perf_counter() - begun


def _clustered(dim: int) -> Iterator[NDArray[np.float32]]:
    random = np.random.default_rng(0)
    centres = _unit(random.standard_normal((CENTRES, dim), np.float32))
    while True:
        centre = centres[random.integers(CENTRES)]
        yield _unit(centre + SPREAD * _unit(random.standard_normal(dim, np.float32)))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def _measure(client: Client, files: Sequence[Path], queries: int, query: Query) -> dict[str, list[float]]:
    chosen = np.random.default_rng(1).integers(len(files), size=WARM_UP + queries)
    asked = [files[number] for number in chosen]
    outside = distinct(photo_sources(None))

    def by_path(file: Path) -> None:
        best = client.search_path(str(file), file.stat(), query).answer["results"][0]
        if best["paths"] != [str(file)]:
            raise SystemExit(f"{file.name} is not the photo most like itself")

    def by_bytes(_: Path) -> None:
        data = next(outside)
        client.search_bytes(iter([data]), len(data), query)

    return {"by path": _seconds(by_path, asked), "by bytes": _seconds(by_bytes, asked)}


def _seconds(search: Callable[[Path], None], asked: Sequence[Path]) -> list[float]:
    """Return what each search took but the first ones."""
    seconds = []
    for file in asked:
        begun = time.perf_counter()
        search(file)
        seconds.append(time.perf_counter() - begun)
    return seconds[WARM_UP:]


if __name__ == "__main__":
    main()
