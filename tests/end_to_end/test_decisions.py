"""A decision that was answered is never lost: a thousand of them, while walks run, disks vanish and the daemon is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.drills.decisions import Stress
from tests.namespaces import obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DECISIONS, KILLS = 1000, 2
MOST_ROUNDS = 20

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=obstacle())


@pytest.fixture
def stress(cache: Path) -> Iterator[Stress]:
    one = Stress(1, cache)
    try:
        one.start()
        yield one
    finally:
        one.close()
    assert "Traceback" not in one.installation.said()
    one.installation.remove()


@pytest.mark.timeout(600)
def test_every_answered_decision_is_in_force_afterwards(stress: Stress) -> None:
    """In force means the following, also after `kill -9` and a restart, of the photos of a disk that has not been back since the answer.

    An approval has taken all of them out of the index, and nobody is asked about them. A rejection keeps all of them, marked as unverified
    and listed, and nobody is asked about them. A disk that is back is found as a whole and unmarked, and when it goes the next time all
    of it is held and somebody is asked: no decision acts twice.
    """
    rounds = 0
    while stress.decisions < DECISIONS or stress.kills < KILLS:
        rounds += 1
        assert rounds <= MOST_ROUNDS, f"{stress.decisions} decisions and {stress.kills} kills"
        found = stress.round(rounds)
        assert not found, str(found)
