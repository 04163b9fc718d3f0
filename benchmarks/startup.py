"""The whole process of `lookalike search PHOTO`, against `python -c "import typer"` and `python -c pass`, in turns."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.common import (
    Aim,
    Daemon,
    arguments,
    command,
    conclude,
    distinct,
    fill,
    median,
    percentile,
    photo_sources,
    places,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEARCH, TYPER, PASS = "lookalike search PHOTO", 'python -c "import typer"', "python -c pass"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--library", type=int, default=20, help="photos in the library")
    settings = parser.parse_args()
    with places() as where:
        folder = where.folder("photos")
        files = fill(folder, distinct(photo_sources(None)), settings.library)
        commands = {
            SEARCH: [command("lookalike"), "search", str(files[0])],
            TYPER: [sys.executable, "-c", "import typer"],
            PASS: [sys.executable, "-c", "pass"],
        }
        with Daemon(where, "data", folder) as daemon:
            daemon.up_to_date()
            seconds = _measure(commands, where.environment("data"), settings.rounds)
    ratio = median([search / bare for search, bare in zip(seconds[SEARCH], seconds[TYPER], strict=True)])
    rows = [(name, 1000 * median(values), 1000 * percentile(values, 95)) for name, values in seconds.items()]
    table(f"whole processes, {settings.rounds} rounds", ("", "median ms", "p95 ms"), rows)
    print(f"\nsearch / bare Typer import: {ratio:.2f}")
    conclude("startup", settings, {"seconds": seconds, "ratio": ratio}, [Aim("search / bare Typer import", ratio, 3)])


def _measure(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], rounds: int
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    # The first round fills caches, and is not counted.
    for counted in [False] + [True] * rounds:
        for name, arguments_ in commands.items():
            begun = time.perf_counter()
            subprocess.run(arguments_, env=environment, check=True, stdout=subprocess.DEVNULL)
            if counted:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


if __name__ == "__main__":
    main()
