from __future__ import annotations

import threading

import pytest

from daemon.changes import Hint
from daemon.watch.pending import Pending
from daemon.watch.settle import Settle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pending(clock: Clock) -> Pending:
    return Pending(Settle(2.0, 0.1), clock=clock)


def taken(pending: Pending, limit: int = 10) -> list[str]:
    return [path for path, _, _ in pending.take(limit)]


def test_arrivals_come_before_what_a_walk_found_and_departures_last(pending: Pending, clock: Clock) -> None:
    pending.put("gone", Hint.GONE)
    pending.put("found", Hint.FOUND)
    pending.put("new", Hint.CLOSED)
    clock.now += 1
    assert taken(pending) == ["new", "found"]
    assert taken(pending) == ["gone"]


def test_a_path_is_pending_once_however_often_it_changes(pending: Pending, clock: Clock) -> None:
    for _ in range(5):
        pending.put("a", Hint.CREATED)
        clock.now += 0.05
    clock.now += 1
    assert len(pending) == 1
    assert taken(pending) == ["a"]


def test_every_event_puts_the_look_off(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.CREATED)
    pending.put("b", Hint.CLOSED)
    clock.now += 0.09
    pending.put("a", Hint.CLOSED)
    clock.now += 0.05
    assert taken(pending) == ["b"]
    clock.now += 0.06
    assert pending.take(1) == [("a", Hint.CLOSED, 1000.0)]


def test_a_path_in_flight_is_not_handed_out_again_until_it_is_done(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.FOUND)
    assert taken(pending) == ["a"]
    pending.put("a", Hint.CLOSED)
    pending.put("b", Hint.FOUND)
    clock.now += 1
    assert taken(pending) == ["b"]
    pending.done("a")
    clock.now += 1
    assert taken(pending) == ["a"]
    pending.done("a")
    assert len(pending) == 1, "b is still in flight"


def test_a_walk_does_not_overtake_an_event(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.FOUND)
    pending.put("a", Hint.CLOSED)
    pending.put("b", Hint.FOUND)
    assert taken(pending) == ["b"]
    clock.now += 1
    assert taken(pending) == ["a"]


def test_what_is_put_off_comes_back_with_what_it_was_pending_for(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.FOUND)
    pending.put("b", Hint.FOUND)
    taken(pending)
    pending.later("a", 5.0)
    pending.later("b", 5.0)
    pending.put("b", Hint.CLOSED)
    clock.now += 1
    assert pending.take(10) == [("b", Hint.CLOSED, 1000.0)]
    clock.now += 5
    assert pending.take(10) == [("a", Hint.FOUND, 1000.0)]


def test_what_was_closed_during_the_look_that_puts_it_off_is_not_put_off(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.CREATED)
    clock.now += 0.1
    assert taken(pending) == ["a"]
    pending.put("a", Hint.CLOSED)
    pending.later("a", 60.0)
    clock.now += 0.1
    assert pending.take(10) == [("a", Hint.CLOSED, 1000.0)]
    pending.put("a", Hint.WRITTEN)
    pending.later("a", 0.02)
    clock.now += 1.99
    pending.put("b", Hint.FOUND)
    assert taken(pending) == ["b"]
    clock.now += 0.02
    assert pending.take(10) == [("a", Hint.WRITTEN, 1000.0)]
    pending.put("a", Hint.FOUND)
    pending.later("a", 3.0)
    clock.now += 2.9
    pending.put("c", Hint.FOUND)
    assert taken(pending) == ["c"], "that a walk met it says nothing new"


def test_a_closed_file_that_gets_its_times_is_still_a_closed_file(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.CLOSED)
    clock.now += 0.05
    pending.put("a", Hint.CREATED)
    clock.now += 0.09
    pending.put("b", Hint.FOUND)
    assert taken(pending) == ["b"], "the last event puts the look off all the same"
    clock.now += 0.02
    assert pending.take(10) == [("a", Hint.CLOSED, 1000.0)]


def test_a_closed_file_that_is_written_to_waits_until_it_is_closed_again(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.CLOSED)
    pending.put("a", Hint.WRITTEN)
    pending.put("a", Hint.CREATED)
    clock.now += 1.99
    pending.put("b", Hint.FOUND)
    assert taken(pending) == ["b"]
    pending.put("a", Hint.CLOSED)
    clock.now += 0.1
    assert pending.take(10) == [("a", Hint.CLOSED, 1000.0)]


def test_a_file_that_is_written_to_and_never_closed_is_handed_out_after_quiet(pending: Pending, clock: Clock) -> None:
    for _ in range(20):
        pending.put("a", Hint.WRITTEN)
        clock.now += 1.5
    clock.now += 0.5
    assert pending.take(10) == [("a", Hint.WRITTEN, 1000.0)]


def test_the_latest_of_coming_and_going_counts(pending: Pending, clock: Clock) -> None:
    for path, hints in {"a": (Hint.CLOSED, Hint.GONE), "b": (Hint.GONE, Hint.CREATED)}.items():
        for hint in hints:
            pending.put(path, hint)
    clock.now += 1
    assert pending.take(10) == [("b", Hint.CREATED, 1000.0)]
    assert pending.take(10) == [("a", Hint.GONE, 1000.0)]


def test_a_change_while_it_was_put_off_is_not_forgotten(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.FOUND)
    taken(pending)
    pending.put("a", Hint.CLOSED)
    pending.later("a", 3.0)
    clock.now += 4
    assert pending.take(10) == [("a", Hint.CLOSED, 1000.0)]
    pending.done("a")
    assert len(pending) == 0


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        ((Hint.CLOSED, Hint.FOUND, Hint.GONE), Hint.GONE),
        ((Hint.CLOSED, Hint.GONE, Hint.CREATED), Hint.CREATED),
        ((Hint.CLOSED, Hint.WRITTEN), Hint.WRITTEN),
        ((Hint.CREATED, Hint.WRITTEN, Hint.CLOSED, Hint.CREATED), Hint.CLOSED),
    ],
)
def test_of_several_changes_in_flight_the_latest_counts_as_it_does_else(
    pending: Pending, clock: Clock, hints: tuple[Hint, ...], expected: Hint
) -> None:
    pending.put("a", Hint.FOUND)
    taken(pending)
    for hint in hints:
        pending.put("a", hint)
        pending.put("b", hint)
    pending.done("a")
    clock.now += 3
    assert [(path, hint) for path, hint, _ in pending.take(10)] == [("a", expected), ("b", expected)]


def test_what_changed_in_flight_is_pending_since_that_change(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.FOUND)
    taken(pending)
    clock.now += 1
    pending.put("a", Hint.CREATED)
    clock.now += 1
    pending.put("a", Hint.CLOSED)
    clock.now += 1
    pending.done("a")
    clock.now += 1
    assert pending.take(10) == [("a", Hint.CLOSED, 1001.0)]


def test_a_path_that_has_differed_for_longer_is_pending_since_then(pending: Pending, clock: Clock) -> None:
    pending.put("waits", Hint.CLOSED)
    pending.put("in flight", Hint.FOUND)
    pending.put("changed in flight", Hint.FOUND)
    assert len(taken(pending)) == 2
    clock.now += 5
    pending.put("changed in flight", Hint.CLOSED)
    for path in ("new", "waits", "in flight", "changed in flight"):
        pending.put(path, Hint.GONE, since=999.0)
    pending.done("in flight")
    pending.done("changed in flight")
    assert pending.older_than(999.0) == 4
    clock.now += 5
    assert {hint for _, hint, _ in pending.take(10)} == {Hint.GONE}


def test_what_is_put_off_may_be_pending_for_something_else_since_the_same_moment(
    pending: Pending, clock: Clock
) -> None:
    pending.put("a", Hint.FOUND)
    pending.put("b", Hint.FOUND)
    assert taken(pending) == ["a", "b"]
    clock.now += 5
    pending.put("b", Hint.CLOSED)
    pending.later("a", 0.0, Hint.GONE)
    pending.later("b", 0.0, Hint.GONE)
    clock.now += 1
    assert pending.take(10) == [("b", Hint.CLOSED, 1000.0)], "what came after that counts"
    assert pending.take(10) == [("a", Hint.GONE, 1000.0)]


def test_places_in_the_queues_that_were_given_up_hand_nothing_out(pending: Pending, clock: Clock) -> None:
    for _ in range(3):
        for hint in (Hint.FOUND, Hint.GONE, Hint.CREATED, Hint.CLOSED, Hint.GONE):
            pending.put("a", hint)
            clock.now += 0.01
    clock.now += 5
    assert pending.take(10) == [("a", Hint.GONE, 1000.0)]
    pending.done("a")
    pending.put("b", Hint.FOUND)
    assert taken(pending) == ["b"]
    pending.close()
    assert taken(pending) == []


def test_nothing_is_handed_out_once_it_is_closed(pending: Pending) -> None:
    pending.put("a", Hint.FOUND)
    pending.close()
    assert taken(pending) == []


def test_whoever_waits_is_woken_by_what_comes() -> None:
    pending = Pending(Settle(0.0, 0.0))
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.extend(taken(pending)))
    thread.start()
    pending.put("a", Hint.CLOSED)
    thread.join(30)
    assert got == ["a"]


def test_no_more_are_handed_out_than_asked_for(pending: Pending) -> None:
    pending.put_all([str(n) for n in range(10)], Hint.FOUND)
    assert len(taken(pending, 4)) == 4
    assert len(taken(pending, 100)) == 6


def test_the_age_is_that_of_the_oldest(pending: Pending, clock: Clock) -> None:
    assert pending.oldest_seconds() == 0
    pending.put("a", Hint.FOUND)
    clock.now += 3
    pending.put("b", Hint.FOUND)
    assert pending.oldest_seconds() == 3


def test_what_was_put_before_a_moment_is_counted_until_it_is_done(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.FOUND)
    pending.put("b", Hint.CLOSED)
    moment = clock.now
    clock.now += 1
    pending.put("b", Hint.CLOSED)
    pending.put("c", Hint.FOUND)
    assert pending.older_than(moment - 1) == 0
    assert pending.older_than(moment) == 2, "b has changed again, but its first change has not been seen to either"
    clock.now += 1
    assert sorted(taken(pending)) == ["a", "b", "c"]
    pending.done("a")
    assert pending.older_than(moment) == 1, "b is in flight"
    pending.later("b", 5.0)
    assert pending.older_than(moment) == 1, "b is put off"
    clock.now += 5
    assert taken(pending) == ["b"]
    pending.done("b")
    assert pending.older_than(moment) == 0
    assert len(pending) == 1


def test_a_change_in_flight_is_counted_from_when_it_came(pending: Pending, clock: Clock) -> None:
    pending.put("a", Hint.FOUND)
    taken(pending)
    clock.now += 1
    pending.put("a", Hint.CLOSED)
    moment = clock.now
    clock.now += 1
    pending.done("a")
    assert pending.older_than(moment) == 1, "whoever asks at this moment has seen that change happen"
    clock.now += 1
    taken(pending)
    pending.put("a", Hint.CLOSED)
    pending.done("a")
    assert pending.older_than(moment) == 0, "this one came later"


@pytest.mark.parametrize(
    ("below", "expected"),
    [("", 4), ("/", 4), ("/p", 3), ("/p/", 3), ("/p/q", 1), ("/pq", 1), ("/p/a.jpg", 1), ("/x", 0)],
)
def test_what_is_pending_at_or_below_a_path_is_counted(
    pending: Pending, clock: Clock, below: str, expected: int
) -> None:
    pending.put_all(["/p/a.jpg", "/p/b.jpg", "/p/q/c.jpg", "/pq/d.jpg"], Hint.FOUND)
    assert pending.older_than(clock.now, below) == expected


def test_closing_wakes_whoever_waits() -> None:
    pending = Pending(Settle(2.0, 0.1))
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(pending.take(1)))
    thread.start()
    pending.close()
    thread.join(10)
    assert got == [[]]


def test_paths_put_by_many_threads_are_each_handed_out_once() -> None:
    pending = Pending(Settle(0.0, 0.0))
    names = [[f"{t}-{n}" for n in range(500)] for t in range(4)]
    writers = [threading.Thread(target=pending.put_all, args=(some, Hint.CLOSED)) for some in names]
    for writer in writers:
        writer.start()
    seen: list[str] = []
    while len(seen) < 2000:
        seen += taken(pending, 64)
    for writer in writers:
        writer.join()
    assert sorted(seen) == sorted(name for some in names for name in some)
