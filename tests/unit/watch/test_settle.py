from __future__ import annotations

import pytest

from daemon.changes import Hint
from daemon.watch.settle import RACY_SECONDS, Settle

SETTLE = Settle(settle_seconds=2.0, pause_seconds=0.1)


def test_what_a_walk_found_is_looked_at_at_once_and_events_after_a_pause() -> None:
    assert SETTLE.delay(Hint.FOUND) == 0
    assert SETTLE.delay(Hint.CLOSED) == SETTLE.delay(Hint.CREATED) == 0.1


def test_a_departure_waits_longer_than_an_arrival() -> None:
    assert SETTLE.delay(Hint.GONE) > SETTLE.delay(Hint.CLOSED)


def test_what_is_being_written_is_looked_at_when_it_may_have_settled() -> None:
    assert SETTLE.delay(Hint.WRITTEN) == SETTLE.settle_seconds
    assert Settle(settle_seconds=0.0, pause_seconds=0.1).delay(Hint.WRITTEN) == 0.1


def test_a_closed_file_is_ready_unless_its_mtime_may_still_hide_a_change() -> None:
    assert SETTLE.remaining(Hint.CLOSED, mtime=100.0, now=100.0 + 2 * RACY_SECONDS) == 0
    assert SETTLE.remaining(Hint.CLOSED, mtime=100.0, now=100.0) == pytest.approx(RACY_SECONDS)


@pytest.mark.parametrize("hint", [Hint.FOUND, Hint.CREATED, Hint.WRITTEN])
def test_a_file_nobody_was_seen_to_close_waits_for_quiet(hint: Hint) -> None:
    assert SETTLE.remaining(hint, mtime=100.0, now=100.5) == pytest.approx(1.5)
    assert SETTLE.remaining(hint, mtime=100.0, now=102.0) == 0


def test_a_time_in_the_future_says_nothing_about_writing() -> None:
    assert SETTLE.remaining(Hint.CREATED, mtime=200.0, now=100.0) == 0
