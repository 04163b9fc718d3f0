"""The drills, with one command from the root of the repository.

The environment has to have the test dependencies:

    python -m tests.drills                         # 100 rounds of the crash drill
    python -m tests.drills --rounds 1000 --seed 7
    python -m tests.drills --drill outage          # or models, disks, decisions, overflow, rename, import; --list tells what they are

Exit code 0 when nothing was lost and no ghost was seen, 1 otherwise.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.drills import crash, decisions, disks, floods, models, outage

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Drill:
    """What is run, for how many rounds where nobody says, and what it is."""

    run: Callable[[int, int, Path], bool]
    rounds: int
    what: str


DRILLS = {
    "crash": Drill(crash.run, 100, "processes are killed at any moment, and the tails of their files are lost"),
    "models": Drill(models.run, 50, "a model changes with every start, and is rebuilt while processes are killed"),
    "outage": Drill(outage.run, 8, "each store is frozen or killed under a workload, and the daemon stays up"),
    "disks": Drill(disks.run, 40, "disks are mounted, unmounted and swapped, and a plain model says what comes of it"),
    "decisions": Drill(
        decisions.run, 10, "a thousand decisions while walks run, disks vanish and the daemon is killed"
    ),
    "overflow": Drill(floods.Flood(floods.overflow).run, 1, "more files are created than the kernel keeps events for"),
    "rename": Drill(floods.Flood(floods.rename).run, 1, "a folder of ten thousand photos is renamed"),
    "import": Drill(floods.Flood(floods.copy_in).run, 1, "five thousand photos are copied in"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description="What a library lives through.")
    parser.add_argument("--drill", choices=DRILLS, default="crash", help="default: crash")
    parser.add_argument("--rounds", type=int, help="default: what --list tells")
    parser.add_argument("--seed", type=int, help="repeats the choices of a run, though not its timing")
    parser.add_argument("--list", action="store_true", help="tell what drills there are")
    asked = parser.parse_args()
    if asked.list:
        for name, drill in DRILLS.items():
            print(f"{name:9} {drill.rounds:4} rounds  {drill.what}")
        return 0
    drill = DRILLS[asked.drill]
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    with tempfile.TemporaryDirectory(prefix="drill-cache-") as cache:
        passed = drill.run(drill.rounds if asked.rounds is None else asked.rounds, seed, Path(cache))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
