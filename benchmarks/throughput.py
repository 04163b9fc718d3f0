"""Indexing: photos per second of `lookaliked run --once`, against a bare loop that decodes and encodes the same files.

The bare loop reads, decodes, preprocesses and encodes with the daemon's own functions, and keeps nothing. Its best form, a pool
with one thread for each core, is the measure; one thread with a session that uses all cores is shown beside it. With `--add`, the
daemon is measured again with more models live, and compared with itself with one.
"""

from __future__ import annotations

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import (
    MAX_PIXELS,
    MODEL,
    Aim,
    Daemon,
    arguments,
    conclude,
    distinct,
    enlarged,
    fill,
    median,
    model,
    photo_sources,
    places,
    table,
)
from benchmarks.common import cores as all_cores
from daemon.encode.encoder import Encoder
from daemon.encode.images import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.common import Places

LARGE_SOURCES = 12
BARE = ("pool", "sequential")


@dataclass(frozen=True, slots=True)
class Speed:
    """One round: photos per second, and the processor time of a photo."""

    photos_per_second: float
    cpu_ms: float
    with_start_up: float | None = None
    """Photos per second from starting the process to its end."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of JPEG photos; without one, crops of sample images")
    parser.add_argument("--count", type=int, default=2000, help="photos at their own size; 0 leaves this part out")
    parser.add_argument("--large-count", type=int, default=200, help="photos of 12 megapixels; 0 leaves this part out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--add", nargs="*", default=[], metavar="MODEL", help=f"models to measure beside {MODEL}, one more at a time"
    )
    settings = parser.parse_args()
    measured, aims = {}, []
    with places() as where:
        sources = photo_sources(settings.photos)
        for title, count in (("as they are", settings.count), ("12 megapixels", settings.large_count)):
            if not count:
                continue
            folder = where.folder(f"photos-{count}-{title.partition(' ')[0]}")
            files = fill(
                folder, distinct(sources if title == "as they are" else enlarged(sources, LARGE_SOURCES)), count
            )
            rounds = _compare(where, folder, files, settings.rounds, settings.add)
            ratio = _tell(f"{count} photos, {title}", rounds)
            measured[title] = {side: [asdict(speed) for speed in speeds] for side, speeds in rounds.items()} | {
                "ratio": ratio,
                "to one model": _tell_added(rounds, settings.add),
            }
            aims.append(Aim(f"{title}: daemon / bare loop", ratio, 0.8, at_least=True))
    conclude("throughput", settings, measured, aims)


def _compare(
    where: Places, folder: Path, files: Sequence[Path], rounds: int, added: Sequence[str]
) -> dict[str, list[Speed]]:
    cores = all_cores()
    pooled, threaded = Encoder([model(where)], threads=1), Encoder([model(where)], threads=cores)
    sides: dict[str, list[Speed]] = {side: [] for side in ("daemon", *added, *BARE)}
    for number in range(rounds):
        sides["daemon"].append(_daemon(where, f"data-{number}", folder, len(files), [MODEL]))
        for place, name in enumerate(added, start=1):
            live = [MODEL, *added[:place]]
            sides[name].append(_daemon(where, f"data-{number}-{place}", folder, len(files), live))
        sides["pool"].append(_bare(files, pooled, cores))
        sides["sequential"].append(_bare(files, threaded, 1))
    return sides


def _daemon(where: Places, name: str, folder: Path, count: int, models: Sequence[str]) -> Speed:
    ended_before = _cpu_of_ended_processes()
    with Daemon(where, name, folder, once=True, settings={"models": list(models)}) as daemon:
        with daemon.client() as client:
            # Photos that were indexed before the first answer came do not count, and neither does the time until then.
            before = client.status().answer["photos"]
        begun, start_up_cpu = time.perf_counter(), daemon.cpu_seconds()
        seconds = daemon.said("up to date") - begun
        whole = daemon.ended() - daemon.started
    where.drop(name)
    photos = count - before
    # The daemon's and its stores', with what it takes to stop them.
    cpu = _cpu_of_ended_processes() - ended_before - start_up_cpu
    return Speed(photos / seconds, 1000 * cpu / photos, count / whole)


def _cpu_of_ended_processes() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _bare(files: Sequence[Path], encoder: Encoder, threads: int) -> Speed:
    def encode(file: Path) -> None:
        decoded = decode(file.read_bytes(), str(file), min_side=encoder.min_side, max_pixels=MAX_PIXELS)
        encoder.encode([encoder.preprocess(decoded.image)])

    cpu_before, begun = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(encode, files):
            pass
    seconds = time.perf_counter() - begun
    return Speed(len(files) / seconds, 1000 * (time.process_time() - cpu_before) / len(files))


def _tell(title: str, rounds: dict[str, list[Speed]]) -> float:
    """Print the medians; return the daemon's speed over that of the bare loop's better form, the median over the rounds."""
    names = {
        "daemon": "lookaliked run --once",
        "pool": f"bare loop, {all_cores()} threads x 1 intra-op",
        "sequential": f"bare loop, 1 thread x {all_cores()} intra-op",
    }
    rows = [
        (
            names.get(side, f"  and {side}"),
            median([one.photos_per_second for one in speeds]),
            median([one.cpu_ms for one in speeds]),
            median(whole) if (whole := [one.with_start_up for one in speeds if one.with_start_up]) else "",
        )
        for side, speeds in rounds.items()
    ]
    table(title, ("", "photos/s", "CPU ms a photo", "photos/s with start-up and end"), rows)
    # Chosen once: the better form of each round would be the luckier one.
    best = max(BARE, key=lambda side: median([one.photos_per_second for one in rounds[side]]))
    pairs = zip(rounds["daemon"], rounds[best], strict=True)
    ratio = median([daemon.photos_per_second / bare.photos_per_second for daemon, bare in pairs])
    print(f"\ndaemon / bare loop: {ratio:.2f}")
    return ratio


def _tell_added(rounds: dict[str, list[Speed]], added: Sequence[str]) -> dict[str, dict[str, float]]:
    """Print and return what each model added makes of the daemon's speed and processor time, the medians over the rounds."""
    ratios = {}
    for place, name in enumerate(added, start=1):
        pairs = list(zip(rounds[name], rounds["daemon"], strict=True))
        speed = median([more.photos_per_second / one.photos_per_second for more, one in pairs])
        cpu = median([more.cpu_ms / one.cpu_ms for more, one in pairs])
        print(
            f"{' + '.join([MODEL, *added[:place]])} / {MODEL}: {speed:.2f} of the photos/s, {cpu:.2f} of the CPU time"
        )
        ratios[name] = {"photos_per_second": speed, "cpu_ms": cpu}
    return ratios


if __name__ == "__main__":
    main()
