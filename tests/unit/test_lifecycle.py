"""Services start in order and stop in reverse, whatever fails."""

from __future__ import annotations

import threading

import pytest

from daemon.errors import QueryError
from daemon.lifecycle import Services, Turns, Worker


class Part:
    def __init__(self, name: str, story: list[str], *, fails: str = "") -> None:
        self.name = name
        self._story = story
        self._fails = fails

    def _do(self, what: str) -> None:
        self._story.append(f"{what} {self.name}")
        if self._fails == what:
            raise RuntimeError(f"{self.name} cannot {what}")

    def start(self) -> None:
        self._do("start")

    def stop(self) -> None:
        self._do("stop")

    def check(self) -> None:
        self._do("check")


def test_services_start_and_are_checked_in_order_and_stop_in_reverse() -> None:
    story: list[str] = []
    services = Services()
    for name in "abc":
        services.start(Part(name, story))
    services.check()
    services.stop()
    assert story == [f"start {n}" for n in "abc"] + [f"check {n}" for n in "abc"] + [f"stop {n}" for n in "cba"]


def test_a_service_that_fails_to_start_is_stopped_with_those_before_it() -> None:
    story: list[str] = []
    services = Services()
    services.start(Part("a", story))
    with pytest.raises(RuntimeError, match="b cannot start"):
        services.start(Part("b", story, fails="start"))
    services.stop()
    assert story == ["start a", "start b", "stop b", "stop a"]


def test_a_service_that_fails_to_stop_does_not_keep_the_others_from_it(caplog: pytest.LogCaptureFixture) -> None:
    story: list[str] = []
    services = Services()
    for name in "abc":
        services.start(Part(name, story, fails="stop" if name != "a" else ""))
    services.stop()
    assert story[3:] == ["stop c", "stop b", "stop a"]
    assert "c did not stop cleanly" in caplog.text
    assert "b cannot stop" in caplog.text


def test_stopping_twice_or_with_nothing_started_is_harmless() -> None:
    story: list[str] = []
    services = Services()
    services.stop()
    services.start(Part("a", story))
    services.stop()
    services.stop()
    services.check()
    assert story == ["start a", "stop a"]


def test_a_check_raises_the_cause_of_the_first_dead_service() -> None:
    services = Services()
    services.start(Part("a", []))
    services.start(Part("b", [], fails="check"))
    with pytest.raises(RuntimeError, match="b cannot check"):
        services.check()


class Ended(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), Ended()])
def test_what_ends_a_worker_is_raised_by_its_check_again_and_again(error: BaseException) -> None:
    def target() -> None:
        raise error

    worker = Worker("test", target)
    worker.check()
    worker.start()
    worker.join(60)
    assert not worker.alive
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            worker.check()
        assert caught.value is error


def test_a_worker_is_alive_until_its_work_is_done_and_has_its_name() -> None:
    go, seen = threading.Event(), []

    def target() -> None:
        seen.append(threading.current_thread().name)
        go.wait(60)

    worker = Worker("look", target)
    assert not worker.alive
    worker.join()
    worker.start()
    assert worker.alive
    worker.join(0)
    assert worker.alive
    go.set()
    worker.join(60)
    assert not worker.alive
    worker.check()
    assert seen == ["look"]


def test_only_one_undertaking_has_its_turn_and_the_next_when_it_has_ended() -> None:
    turns = Turns()
    with turns.take("an import"), pytest.raises(QueryError, match="an import is running; try again") as caught:
        turns.take("a verification").__enter__()
    assert caught.value.code == "busy"
    with turns.take("a verification"):
        pass


def test_a_turn_ends_with_what_failed() -> None:
    turns = Turns()
    with pytest.raises(RuntimeError), turns.take("an import"):
        raise RuntimeError
    with turns.take("a verification"):
        pass
