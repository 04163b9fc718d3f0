"""Commands to the walker: each is carried out once, in order, on the thread that owns the folders, and answered."""

from __future__ import annotations

import threading

import pytest

from daemon.errors import QueryError
from daemon.watch.commands import Commands


def test_a_command_is_carried_out_by_the_owner_and_its_result_returned() -> None:
    woken = threading.Event()
    commands = Commands(woken.set)
    commands.expect()
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(commands.call(threading.get_ident)))
    asking.start()
    assert woken.wait(10)
    commands.open()
    commands.serve()
    asking.join(10)
    assert answers == [threading.get_ident()]


def test_an_error_is_raised_where_the_command_was_given() -> None:
    commands = Commands(lambda: None)

    def fail() -> None:
        raise QueryError("bad_request", "no")

    with pytest.raises(QueryError, match="no"):
        commands.call(fail)
    commands.open()
    assert isinstance(commands.post(fail).exception(), QueryError)


def test_the_owner_itself_and_whoever_comes_before_it_need_not_wait() -> None:
    commands = Commands(lambda: None)
    assert commands.call(lambda: 1) == 1
    commands.open()
    assert commands.call(lambda: 2) == 2


def test_what_was_accepted_before_the_end_is_done_and_the_rest_refused() -> None:
    commands, done = Commands(lambda: None), []
    commands.expect()
    accepted = [commands.post(lambda n=n: done.append(n)) for n in range(3)]  # type: ignore[misc]
    commands.close()
    assert done == [0, 1, 2]
    assert all(future.done() for future in accepted)
    with pytest.raises(QueryError, match="is stopping"):
        commands.call(lambda: None)
    assert done == [0, 1, 2]


def test_no_command_of_many_threads_is_lost_or_done_twice() -> None:
    wake, stop = threading.Event(), threading.Event()
    commands = Commands(wake.set)
    commands.expect()
    done: list[int] = []

    def own() -> None:
        commands.open()
        while not stop.is_set():
            wake.wait(0.01)
            wake.clear()
            commands.serve()
        commands.close()

    accepted: list[int] = []

    def ask(first: int) -> None:
        for n in range(first, first + 500):
            try:
                commands.call(lambda n=n: done.append(n))  # type: ignore[misc]
            except QueryError:
                return
            accepted.append(n)

    owner = threading.Thread(target=own)
    askers = [threading.Thread(target=ask, args=(1000 * n,)) for n in range(4)]
    for thread in (owner, *askers):
        thread.start()
    askers[0].join(30)
    stop.set()
    for thread in (owner, *askers):
        thread.join(30)
    assert sorted(done) == sorted(accepted)
