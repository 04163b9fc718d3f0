"""The state of outages: a table of what happens in which order, and many threads at once."""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from daemon.errors import StoreUnavailable
from daemon.outages import Outage, Outages

if TYPE_CHECKING:
    from collections.abc import Iterator

REDIS = StoreUnavailable("Redis", "unix:///r", "cannot be reached")
NOTES = 500
MILVUS = StoreUnavailable("Milvus", "unix:///m", "does not answer in time")


def after(steps: str) -> Outages:
    """Return the state after steps: r and m note a trouble, ( begins a recovery, ) ends it well, and ! ends it with a trouble."""
    outages = Outages()
    with contextlib.ExitStack() as stack:
        for step in steps:
            match step:
                case "r" | "m":
                    outages.note(REDIS if step == "r" else MILVUS)
                case "(":
                    stack.enter_context(outages.recovery())
                case ")":
                    stack.pop_all().close()
                case "!":
                    with pytest.raises(StoreUnavailable), stack.pop_all():
                        raise REDIS
                    outages.note(REDIS)
        # What has begun goes on.
        stack.pop_all()
    return outages


@pytest.mark.parametrize(
    ("steps", "reason", "count", "recoveries"),
    [
        ("", "", 0, 0),
        ("()", "", 0, 1),
        ("r", str(REDIS), 1, None),
        ("rm", str(MILVUS), 1, None),
        ("r()", "", 1, 1),
        ("(r)", str(REDIS), 1, None),
        ("r(m)", str(MILVUS), 1, None),
        ("r(m)()", "", 1, 2),
        ("r()m()", "", 2, 2),
        ("r(!", str(REDIS), 1, None),
        ("r(!()", "", 1, 2),
    ],
)
def test_a_recovery_ends_the_outage_that_it_began_with_and_no_later_one(
    steps: str, reason: str, count: int, recoveries: int | None
) -> None:
    outages = after(steps)
    assert (outages.now.reason, outages.now.count, outages.recoveries()) == (reason, count, recoveries)


def test_while_a_recovery_runs_nothing_is_in_step() -> None:
    outages = Outages()
    with outages.recovery():
        assert outages.recoveries() is None
    assert outages.recoveries() == 1


def test_a_snapshot_stays_as_it_was() -> None:
    outages = after("r")
    before = outages.now
    with outages.recovery():
        pass
    outages.note(MILVUS)
    assert before == Outage("Redis", str(REDIS), 1)


def test_an_outage_is_told_when_it_begins_and_no_trouble_within_it(caplog: pytest.LogCaptureFixture) -> None:
    after("rmr()m")
    said = [record.getMessage().partition(";")[0] for record in caplog.records]
    assert said == [str(REDIS), str(MILVUS)]


@pytest.fixture
def _often_switching() -> Iterator[None]:
    """Let threads take turns at almost every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_often_switching")
def test_every_trouble_causes_a_recovery_that_begins_after_it() -> None:
    outages = Outages()
    clock = itertools.count(1)
    begun = [0]
    ended = threading.Event()
    pauses = random.Random(1)
    too_early: list[tuple[int, int]] = []

    def note() -> None:
        for _ in range(NOTES):
            outages.note(REDIS)
            # At any moment of the recovery that this causes, or behind it.
            time.sleep(pauses.random() * 0.001)
            noted = next(clock)
            outages.note(MILVUS)
            while outages.now.reason:
                time.sleep(0)
            if begun[0] < noted:
                too_early.append((begun[0], noted))

    def recover() -> None:
        while not ended.is_set():
            if outages.now.reason:
                with outages.recovery():
                    begun[0] = next(clock)
                    time.sleep(0.0005)
            time.sleep(0)

    recovering, noting = threading.Thread(target=recover), threading.Thread(target=note, daemon=True)
    recovering.start()
    noting.start()
    noting.join(60)
    ended.set()
    recovering.join(60)
    assert not noting.is_alive()
    assert too_early == []
