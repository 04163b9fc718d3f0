"""Crash: processes are killed at any moment of a busy day, the tails of their files are lost, and the next start has to mend it."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.drills.installation import DAEMON, MILVUS, STORES, VALKEY, DrillError, Installation, has_command
from tests.drills.oracle import Differences
from tests.drills.workload import Busy, Workload

if TYPE_CHECKING:
    from pathlib import Path

STRIKES = (
    (DAEMON,), (VALKEY,), (MILVUS,), (VALKEY, MILVUS), (DAEMON, VALKEY), (DAEMON, MILVUS), (DAEMON, VALKEY, MILVUS),
    (DAEMON, VALKEY, MILVUS),
)  # fmt: skip
TAILS = {VALKEY: "valkey/appendonlydir/*.incr.aof", MILVUS: "milvus/**/wal_*.arrow"}
"""The files whose last bytes a power cut can take: neither store syncs every write."""

BUSY_SECONDS = 1.2
AFTERMATH_SECONDS = 0.3
START_SECONDS = 2.0
POWER_LOSS, STRIKE_AGAIN, CHANGE_WHILE_DOWN = 0.5, 0.25, 0.5
"""Of the rounds in which the daemon is killed, the share that has this."""
VERIFY_EVERY = 10


@dataclass(slots=True)
class Round:
    """One strike, and what came of it."""

    number: int
    struck: tuple[str, ...] = ()
    lost_bytes: str = ""
    changes: int = 0
    seconds: float = 0.0
    found: Differences | None = None
    error: str = ""
    kept: Path | None = None
    """Where the library is that did not pass."""

    @property
    def passed(self) -> bool:
        return not self.error and not self.found

    def __str__(self) -> str:
        found = self.found or Differences()
        result = self.error or f"lost {len(found.lost)}, ghosts {len(found.ghosts) + len(found.strays)}"
        what = f"killed {' + '.join(self.struck)}{self.lost_bytes}"
        return f"round {self.number:4}  {self.seconds:5.1f} s  {self.changes:3} changes  {result}  {what}"


class Crash:
    """Rounds on one library; after one that failed, its directory is kept and the next begins with a new library."""

    def __init__(self, seed: int, cache: Path) -> None:
        self._seed = seed
        self._cache = cache
        self._installation: Installation | None = None
        self._store_deaths = 0

    def round(self, number: int) -> Round:
        """Strike, let it recover, and compare."""
        random = Random(f"{self._seed}/{number}")
        one = Round(number)
        started = time.monotonic()
        installation = self._installation = self._installation or self._begin(random)
        try:
            self._strike(installation, one, random)
            installation.await_in_step()
            one.found = installation.differences()
            if number % VERIFY_EVERY == 0:
                _verify(installation)
        except DrillError as error:
            one.error = str(error)
        one.seconds = time.monotonic() - started
        if not one.passed:
            installation.close()
            one.kept, self._installation = installation.root, None
        return one

    def close(self) -> None:
        if self._installation is not None:
            self._installation.remove()

    def _begin(self, random: Random) -> Installation:
        self._store_deaths = 0
        installation = Installation(cache=self._cache)
        self._configure(installation, random)
        Workload(installation.folder, random).grow()
        installation.start()
        return installation

    def _configure(self, installation: Installation, random: Random) -> None:
        """Change the configuration of a new library."""

    def _strike(self, installation: Installation, one: Round, random: Random) -> None:
        workload = Workload(installation.folder, Random(random.random()))
        one.struck = self._choose(random)
        with Busy(workload, Random(random.random())):
            # At any moment, which is the point of it.
            time.sleep(random.uniform(0, BUSY_SECONDS))
            installation.kill(one.struck, random)
            time.sleep(random.uniform(0, AFTERMATH_SECONDS))
        if DAEMON in one.struck:
            self._while_down(installation, one, workload, random)
        one.changes = workload.changes

    def _choose(self, random: Random) -> tuple[str, ...]:
        struck = random.choice(STRIKES)
        # The daemon waits ever longer before it starts a store again that keeps dying.
        if DAEMON not in struck and self._store_deaths:
            struck = (DAEMON, *struck)
        self._store_deaths = 0 if DAEMON in struck else 1
        return struck

    def _while_down(self, installation: Installation, one: Round, workload: Workload, random: Random) -> None:
        if random.random() < POWER_LOSS:
            one.lost_bytes = _lose_tails(installation, random)
        if random.random() < CHANGE_WHILE_DOWN:
            for _ in range(random.randint(1, 20)):
                workload.change()
        if random.random() < STRIKE_AGAIN:
            installation.launch()
            time.sleep(random.uniform(0, START_SECONDS))
            again = random.choice([strike for strike in STRIKES if DAEMON in strike])
            installation.kill(again, random)
            one.struck += again
        _keep_a_copy(installation)
        installation.start()


def _lose_tails(installation: Installation, random: Random) -> str:
    """Cut off the end of what the stores have written; return how much in words."""
    said = []
    for name in random.choice([STORES, STORES, (VALKEY,), (MILVUS,)]):
        for file in sorted(installation.data_dir.glob(TAILS[name])):
            size = file.stat().st_size
            # Mostly little, at times all of it.
            lost = min(size, int(2 ** random.uniform(0, 18)))
            with file.open("r+b") as cut:
                cut.truncate(size - lost)
            said.append(f"{lost} of {size} bytes of {file.name}")
    return f", lost {', '.join(said)}" if said else ""


def _keep_a_copy(installation: Installation) -> None:
    """Keep what the daemon is about to find, for the post-mortem of a round that fails."""
    kept = installation.root / "stores-before"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(installation.data_dir, kept)


def _verify(installation: Installation) -> None:
    if has_command("verify"):
        done = installation.command("verify")
        if done.returncode != 0:
            raise DrillError(f"lookalike verify: {(done.stdout + done.stderr).decode(errors='replace').strip()}")


def run(rounds: int, seed: int, cache: Path) -> bool:
    """Do the rounds, tell of each, and return whether nothing was lost and no ghost was seen."""
    return tell(Crash(seed, cache), rounds, seed)


def tell(crash: Crash, rounds: int, seed: int) -> bool:
    """Do the rounds of a drill, tell of each, and return whether nothing was lost and no ghost was seen."""
    lost = ghosts = failed = 0
    try:
        for number in range(1, rounds + 1):
            one = crash.round(number)
            print(one, flush=True)
            found = one.found or Differences()
            lost, ghosts = lost + len(found.lost), ghosts + len(found.ghosts) + len(found.strays)
            if not one.passed:
                failed += 1
                print(f"{found}\nkept: {one.kept}", flush=True)
    finally:
        crash.close()
    errors = f", {failed} rounds failed" if failed else ""
    print(f"rounds {rounds}, lost {lost}, ghosts {ghosts}{errors} (--seed {seed})")
    return not failed
