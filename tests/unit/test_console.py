"""What a person sees in a terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from daemon import console as module
from daemon.console import Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def terminal(*, interactive: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=interactive, width=100, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    reporter = Reporter(terminal(interactive=True))
    yield reporter
    reporter.close()


def test_the_first_time_that_everything_is_up_to_date_is_always_told(reporter: Reporter, clock: Clock) -> None:
    assert reporter.update(done=0, pending=0, idle=True)
    assert reporter.worth_telling
    clock.now += 10
    assert not reporter.update(done=0, pending=0, idle=True)
    assert not reporter.worth_telling


@pytest.mark.parametrize(("seconds", "worth"), [(0.5, False), (3.0, True)])
def test_later_ends_are_told_when_somebody_may_have_waited(
    reporter: Reporter,
    clock: Clock,
    seconds: float,
    worth: bool,  # noqa: FBT001
) -> None:
    reporter.update(done=0, pending=0, idle=True)
    assert not reporter.update(done=0, pending=5, idle=False)
    clock.now += seconds
    assert reporter.update(done=5, pending=0, idle=True)
    assert reporter.worth_telling is worth


def test_a_bar_shows_the_work_of_now_and_is_gone_when_it_is_done(reporter: Reporter, clock: Clock) -> None:
    reporter.update(done=100, pending=50, idle=False)
    assert reporter._progress is None, "short work shows no bar"
    clock.now += 1
    reporter.update(done=110, pending=40, idle=False)
    assert reporter._progress is not None
    task = reporter._progress.tasks[0]
    assert (task.completed, task.total) == (10, 50)
    reporter.update(done=130, pending=25, idle=False)
    assert (task.completed, task.total) == (30, 55)
    reporter.update(done=155, pending=0, idle=True)
    assert reporter._progress is None
    assert "indexing" in shown(reporter._console)


def test_where_there_is_no_terminal_no_bar_is_drawn(clock: Clock) -> None:
    reporter = Reporter(terminal(interactive=False))
    reporter.update(done=0, pending=50, idle=False)
    clock.now += 5
    reporter.update(done=1, pending=49, idle=False)
    assert reporter._progress is None
    assert reporter.update(done=50, pending=0, idle=True)
    assert shown(reporter._console) == ""


def test_closing_twice_is_harmless(reporter: Reporter) -> None:
    reporter.close()
    reporter.close()
