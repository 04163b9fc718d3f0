"""A flood of the same line is few lines, and nothing that differs is lost among them."""

from __future__ import annotations

import itertools
import logging
import threading
import time

import pytest

from daemon.logs.floods import FloodHandler, Floods


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Kept(logging.Handler):
    """Keeps what it is handed."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.closed = False

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def floods(clock: Clock) -> Floods:
    return Floods(clock, first=2, window_seconds=60, most_kinds=3)


def failure(path: str, *, kind: str = "damaged", level: int = logging.WARNING) -> logging.LogRecord:
    return logging.getLogger("t").makeRecord(
        "t", level, __file__, 1, "%s is not indexed", (path,), None, extra={"path": path, "kind": kind}
    )


def said(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]


def test_the_first_of_a_kind_pass_and_the_others_are_counted_when_the_window_ends(floods: Floods, clock: Clock) -> None:
    assert [len(floods.passing(failure(f"/{n}"))) for n in range(1500)] == [1, 1] + [0] * 1498
    assert floods.ended() == []
    assert floods.seconds_left() == 60
    clock.now += 60
    (line,) = floods.ended()
    assert line.getMessage() == "1,498 more in the last 60 s like: /1499 is not indexed"
    assert (line.levelno, line.name) == (logging.WARNING, "t")
    # What is true of all is a field; what is true of the last alone is not.
    assert (line.__dict__["kind"], line.__dict__["count"], line.__dict__["path"]) == ("damaged", 1498, None)
    assert floods.seconds_left() is None


def test_a_flood_that_goes_on_is_one_line_for_each_window(floods: Floods, clock: Clock) -> None:
    for n in range(10):
        floods.passing(failure(f"/{n}"))
    clock.now += 60
    floods.ended()
    assert floods.passing(failure("/again")) == []
    clock.now += 60
    assert said(floods.ended()) == ["1 more in the last 60 s like: /again is not indexed"]


def test_after_a_window_without_any_the_first_pass_again(floods: Floods, clock: Clock) -> None:
    for n in range(10):
        floods.passing(failure(f"/{n}"))
    clock.now += 60
    floods.ended()
    clock.now += 60
    assert said(floods.passing(failure("/later"))) == ["/later is not indexed"]


def test_a_line_that_comes_now_and_then_passes_once_in_a_window(floods: Floods, clock: Clock) -> None:
    """Whenever it comes, and whatever else of its kind does: two lines without a count lie a window apart."""
    written: dict[str, list[float]] = {}
    for second in range(0, 600, 7):
        clock.now = 1000.0 + second
        for record in floods.passing(failure("/a" if second % 3 else "/b")):
            if "more in the last" not in record.getMessage():
                written.setdefault(record.getMessage(), []).append(clock.now)
    assert len(written) == 2
    for times in written.values():
        assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))


def test_a_line_that_comes_less_often_than_once_in_a_window_is_never_held(floods: Floods, clock: Clock) -> None:
    for _ in range(20):
        assert len(floods.passing(failure("/a"))) == 1
        clock.now += 61


def test_lines_that_differ_only_in_their_numbers_are_the_same_line(floods: Floods) -> None:
    def retry(seconds: float) -> logging.LogRecord:
        return logging.LogRecord("t", logging.WARNING, __file__, 1, "it is tried again in %.0f s", (seconds,), None)

    assert len(floods.passing(retry(1))) == 1
    assert [floods.passing(retry(seconds)) for seconds in (2.0, 4.0, 8.0)] == [[], [], []]
    assert said(floods.rest()) == ["3 more in the last 0 s like: it is tried again in 8 s"]


def test_another_kind_level_or_wording_is_no_part_of_a_flood(floods: Floods) -> None:
    for n in range(10):
        floods.passing(failure(f"/{n}"))
    assert len(floods.passing(failure("/x", kind="unreadable"))) == 1
    assert len(floods.passing(failure("/x", level=logging.ERROR))) == 1
    other = logging.LogRecord("t", logging.WARNING, __file__, 1, "the disk is away", (), None)
    assert floods.passing(other)[-1] is other


def test_information_passes_whatever_it_is_about_and_repeats_once_in_a_window(floods: Floods, clock: Clock) -> None:
    assert all(floods.passing(failure(f"/{n}", level=logging.INFO)) for n in range(3))
    assert [floods.passing(failure("/2", level=logging.INFO)) for _ in range(9)] == [[]] * 9
    clock.now += 60
    (line,) = floods.ended()
    assert (line.levelno, line.getMessage()) == (logging.INFO, "9 more in the last 60 s like: /2 is not indexed")


def test_what_is_told_for_debugging_is_never_held(floods: Floods) -> None:
    assert all(floods.passing(failure("/a", level=logging.DEBUG)) for _ in range(100))


def test_of_more_kinds_than_are_known_none_loses_its_count(floods: Floods) -> None:
    for n in range(4):
        floods.passing(failure(f"/{n}"))
    told = [line for kind in "abc" for line in said(floods.passing(failure("/x", kind=kind)))]
    assert "2 more in the last 0 s like: /3 is not indexed" in told
    assert len(floods._kinds) == 3


def test_what_is_held_when_the_handler_is_closed_is_told_then() -> None:
    kept = Kept()
    handler = FloodHandler(kept)
    for n in range(100):
        handler.handle(failure(f"/{n}"))
    assert len(kept.records) == 5
    handler.close()
    assert said(kept.records[5:]) == ["95 more in the last 0 s like: /99 is not indexed"]
    assert kept.closed
    for thread in threading.enumerate():
        if thread.name == "log":
            thread.join(5)
    assert "log" not in [thread.name for thread in threading.enumerate()]


def test_a_library_that_configures_logging_takes_nothing_from_it() -> None:
    kept = Kept()
    handler = FloodHandler(kept, Floods(first=1, window_seconds=0.05))
    for n in range(3):
        handler.handle(failure(f"/{n}"))
    # As pymilvus does when it is imported; here for a handler that is no part of pytest.
    handler.close()
    assert len(kept.records) == 2
    for n in range(3):
        handler.handle(failure(f"/{n}", kind="unreadable"))
    deadline = time.monotonic() + 5
    while len(kept.records) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    handler.close()


def test_the_count_comes_by_itself_when_the_window_ends() -> None:
    kept = Kept()
    handler = FloodHandler(kept, Floods(first=1, window_seconds=0.05))
    for n in range(3):
        handler.handle(failure(f"/{n}"))
    deadline = time.monotonic() + 5
    while len(kept.records) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert said(kept.records)[1].startswith("2 more in the last 0 s like")
    handler.close()


def test_lines_of_many_threads_are_all_counted() -> None:
    kept = Kept()
    handler = FloodHandler(kept)
    threads = [
        threading.Thread(target=lambda: [handler.handle(failure(f"/{n}")) for n in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.close()
    assert len(kept.records) == 6
    assert kept.records[-1].__dict__["count"] == 1995
