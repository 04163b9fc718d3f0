"""Outage: each store is frozen or killed, again and again, under a workload; the daemon stays up, says so, and catches up by itself."""

from __future__ import annotations

import time
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import psutil

from tests.drills.installation import MILVUS, VALKEY, DrillError, Installation, wait_for
from tests.drills.workload import Busy, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.drills.oracle import Differences

STORE_NAMES = {VALKEY: "Redis", MILVUS: "Milvus"}
FROZEN_SECONDS = 3.0
NOTICE_SECONDS = 30.0
KILLS = ((VALKEY,), (MILVUS,), (VALKEY, MILVUS))


def run(rounds: int, seed: int, cache: Path) -> bool:
    """Do the rounds, tell of each, and return whether nothing was lost and no ghost was seen."""
    random = Random(seed)
    installation = Installation(cache=cache)
    lost = ghosts = 0
    Workload(installation.folder, random).grow()
    installation.start()
    try:
        for number in range(1, rounds + 1):
            what, found = _round(installation, number, random)
            lost, ghosts = lost + len(found.lost), ghosts + len(found.ghosts) + len(found.strays)
            print(f"round {number:4}  {what}  lost {len(found.lost)}, ghosts {len(found.ghosts)}\n{found}".rstrip())
    except DrillError as error:
        installation.close()
        print(f"{error}\nkept: {installation.root}")
        return False
    print(f"rounds {rounds}, lost {lost}, ghosts {ghosts} (--seed {seed})")
    if lost or ghosts:
        installation.close()
        print(f"kept: {installation.root}")
        return False
    installation.remove()
    return True


def _round(installation: Installation, number: int, random: Random) -> tuple[str, Differences]:
    workload = Workload(installation.folder, Random(random.random()))
    with Busy(workload, Random(random.random())):
        what = _freeze(installation, random) if number % 2 else _kill(installation, random)
    started = time.monotonic()
    installation.await_in_step()
    caught_up = time.monotonic() - started
    return f"{what}, {workload.changes} changes, caught up in {caught_up:.1f} s", installation.differences()


def _freeze(installation: Installation, random: Random) -> str:
    name = random.choice(sorted(STORE_NAMES))
    with _frozen(installation, name):
        started = time.monotonic()
        wait_for(lambda: _says_away(installation, name), f"it says that {STORE_NAMES[name]} is away", NOTICE_SECONDS)
        noticed = time.monotonic() - started
        # An outage is to outlast its being noticed.
        time.sleep(random.uniform(0, FROZEN_SECONDS))
    return f"froze {name}, noticed after {noticed:.1f} s"


def _kill(installation: Installation, random: Random) -> str:
    struck = random.choice(KILLS)
    before = _restarts(installation)
    installation.kill(struck, random)
    expected = {store: count + (store in {STORE_NAMES[name] for name in struck}) for store, count in before.items()}
    wait_for(lambda: _restarts(installation) == expected, f"{struck} are started again")
    return f"killed {' + '.join(struck)}"


@contextmanager
def _frozen(installation: Installation, name: str) -> Iterator[None]:
    process = installation.find(name)
    if process is None:
        raise DrillError(f"{name} does not run")
    process.suspend()
    try:
        yield
    finally:
        # Where it was killed meanwhile, the drill says so by itself.
        if psutil.pid_exists(process.pid):
            process.resume()


def _says_away(installation: Installation, name: str) -> bool:
    status = installation.status()
    return bool(
        status
        and status["state"] == "degraded"
        and status["reasons"]
        and any(store["name"] == STORE_NAMES[name] and store["state"] == "away" for store in status["stores"])
    )


def _restarts(installation: Installation) -> dict[str, int]:
    status: dict[str, Any] = wait_for(installation.status, "the daemon answers")
    return {store["name"]: store["restarts"] for store in status["stores"]}
