"""The lease of a library: taken once, kept by counting on, free when its holder has ended or is silent for long enough."""

from __future__ import annotations

import itertools
import os
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import LibraryInUse, StoreUnavailable
from daemon.index.embedded import ProcessIdentity
from daemon.index.keys import Keys
from daemon.index.lease import LOOK_SECONDS, RENEW_SECONDS, SILENT_LOOKS, Lease, Owner
from daemon.index.mappings import Mappings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

HERE = Owner.here()
ELSEWHERE = replace(
    HERE, host="nas", process=ProcessIdentity(4321, 99, "its own boot"), command="lookaliked run /photos"
)
_numbers = itertools.count()


class Contest:
    """One library that several daemons want; nobody renews but by a call."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys = Keys(f"lease{next(_numbers)}")
        self.leases: list[Lease] = []
        self.pauses: list[float] = []
        self.mapping = Mappings(url, self.keys)

    def lease(
        self, owner: Owner = ELSEWHERE, meanwhile: Callable[[int], object] = lambda _: None, **more: Any
    ) -> Lease:
        """Return what wants the lease; it calls `meanwhile` with the number of each pause, and does not wait."""

        def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            meanwhile(len(self.pauses))

        mappings = Mappings(self.url, self.keys, timeout_seconds=2.0)
        self.leases.append(Lease(mappings, self.keys.owner, owner, pause=pause, **more))
        return self.leases[-1]

    def held(self, owner: Owner = ELSEWHERE) -> Lease:
        lease = self.lease(owner)
        lease.renew()
        return lease

    def writes(self, lease: Lease) -> bool:
        """Whether its holder may write now."""
        mappings = Mappings(self.url, self.keys, lease)
        try:
            mappings.check_lease()
        except (LibraryInUse, StoreUnavailable):
            return False
        finally:
            mappings.close()
        return True

    @property
    def redis(self) -> Any:
        return self.mapping._redis

    def close(self) -> None:
        for lease in self.leases:
            lease.stop()
        self.mapping.close()


@contextmanager
def contest_in(stores: Any) -> Iterator[Contest]:
    one = Contest(stores.valkey.url)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def contest(stores: Any) -> Iterator[Contest]:
    with contest_in(stores) as one:
        yield one
        one.redis.delete(one.keys.owner)


def epoch(lease: Lease) -> int:
    return int(lease.stamp.partition(":")[0])


def test_a_library_that_nobody_has_is_taken_at_once(contest: Contest) -> None:
    lease = contest.lease()
    assert not contest.writes(lease)
    lease.renew()
    assert (epoch(lease), contest.pauses, contest.writes(lease)) == (1, [], True)


def test_a_second_daemon_is_refused_with_a_sentence_that_names_the_first(contest: Contest) -> None:
    first = contest.held(ELSEWHERE)
    second = contest.lease(HERE, lambda _: first.renew())
    with pytest.raises(LibraryInUse) as refused:
        second.renew()
    said = str(refused.value)
    assert "lookaliked on nas (process 4321, lookaliked run /photos, since 20" in said
    assert f"already writes to the library {contest.keys.library} in Redis at {contest.url}; stop it, or" in said
    assert len(contest.pauses) == 1
    assert (contest.writes(first), contest.writes(second)) == (True, False)


def test_a_holder_that_renews_at_the_last_moment_keeps_the_lease(contest: Contest) -> None:
    first = contest.held()

    def renew(look: int) -> None:
        if look == SILENT_LOOKS:
            first.renew()

    second = contest.lease(HERE, renew)
    with pytest.raises(LibraryInUse):
        second.renew()
    assert contest.writes(first)


def test_a_silent_holder_loses_the_lease_after_ten_seconds_and_not_before(contest: Contest) -> None:
    first = contest.held()
    may_write: list[bool] = []
    second = contest.lease(HERE, lambda _: may_write.append(contest.writes(first)))
    second.renew()
    assert may_write == [True] * SILENT_LOOKS
    assert 5 * RENEW_SECONDS <= sum(contest.pauses) <= 15 - 2 * LOOK_SECONDS
    assert epoch(second) == epoch(first) + 1
    assert (contest.writes(first), contest.writes(second)) == (False, True)
    with pytest.raises(
        LibraryInUse, match=rf"lookaliked on {HERE.host} \(process {os.getpid()}, .* has taken over the library"
    ):
        first.renew()


def test_of_two_who_want_a_free_lease_one_gets_it(contest: Contest) -> None:
    first = contest.held()
    winners: list[Lease] = []

    def another(look: int) -> None:
        if look == SILENT_LOOKS:
            # It has waited as long, and comes a moment earlier.
            winners.append(contest.lease(replace(ELSEWHERE, host="third"), alone=True))
            winners[0].renew()
        elif winners:
            winners[0].renew()

    second = contest.lease(HERE, another)
    with pytest.raises(LibraryInUse, match="lookaliked on third"):
        second.renew()
    assert [contest.writes(one) for one in (first, second, winners[0])] == [False, False, True]


@contextmanager
def ended() -> Iterator[ProcessIdentity]:
    with zombie() as identity:
        pass
    yield identity


@contextmanager
def zombie() -> Iterator[ProcessIdentity]:
    """Give a process that has ended, and that its parent has not asked after."""
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield identity


@contextmanager
def former() -> Iterator[ProcessIdentity]:
    """Give a process whose number another one has now."""
    yield HERE.process._replace(started_ticks=HERE.process.started_ticks - 1)


@pytest.mark.parametrize("process", [ended, zombie, former])
def test_after_a_crash_on_this_machine_the_lease_is_free_at_once(
    contest: Contest, process: Callable[[], AbstractContextManager[ProcessIdentity]]
) -> None:
    with process() as identity:
        first = contest.held(replace(HERE, process=identity))
        second = contest.held(HERE)
    assert contest.pauses == []
    assert (contest.writes(first), contest.writes(second)) == (False, True)


@pytest.mark.parametrize(
    "other",
    [
        lambda gone: replace(HERE, process=gone._replace(boot="another")),
        lambda gone: replace(HERE, process=gone, namespace="pid:[1]"),
        lambda gone: replace(HERE, process=gone._replace(boot="")),
        lambda gone: replace(HERE, process=gone, namespace=""),
        lambda _: HERE,
    ],
    ids=["another boot", "another container", "no boot", "no namespace", "it lives"],
)
def test_who_may_live_is_waited_for(contest: Contest, other: Callable[[ProcessIdentity], Owner]) -> None:
    with ended() as gone:
        contest.held(other(gone))
    contest.held(HERE)
    assert len(contest.pauses) == SILENT_LOOKS


def test_who_cannot_know_its_own_machine_waits(contest: Contest) -> None:
    nowhere = ProcessIdentity(7, 0, "")
    with ended() as gone:
        contest.held(replace(HERE, process=gone._replace(boot=""), namespace=""))
    contest.held(replace(HERE, process=nowhere, namespace=""))
    assert len(contest.pauses) == SILENT_LOOKS


def test_a_stop_gives_the_lease_back(contest: Contest) -> None:
    first = contest.held()
    first.stop()
    assert not contest.writes(first)
    second = contest.held(HERE)
    assert (contest.pauses, epoch(second)) == ([], 2)


def test_a_stop_does_not_take_the_lease_from_who_has_it_now(contest: Contest) -> None:
    first = contest.held()
    second = contest.lease(HERE, alone=True)
    second.renew()
    first.stop()
    assert contest.writes(second)


def test_no_clock_decides(contest: Contest) -> None:
    first = contest.held()
    assert contest.redis.ttl(contest.keys.owner) == -1
    for since in ("0", "99999999999", "-5", "soon"):
        contest.redis.hset(contest.keys.owner, "since", since)
        contest.pauses.clear()
        second = contest.lease(HERE, lambda _: first.renew())
        with pytest.raises(LibraryInUse):
            second.renew()
        assert contest.writes(first)


def test_an_emptied_redis_gives_the_lease_back_to_who_had_it(contest: Contest) -> None:
    lease = contest.held()
    contest.redis.delete(contest.keys.owner)
    assert not contest.writes(lease)
    lease.renew()
    assert (epoch(lease), contest.pauses, contest.writes(lease)) == (2, [], True)


def test_an_emptied_redis_does_not_give_two_daemons_the_lease(contest: Contest) -> None:
    first = contest.held()
    contest.redis.delete(contest.keys.owner)
    second = contest.held(HERE)
    # Its epoch is the same, since nobody knows any more that there was one.
    assert epoch(first) == epoch(second)
    assert (contest.writes(first), contest.writes(second)) == (False, True)
    with pytest.raises(LibraryInUse):
        first.renew()


def test_a_redis_that_was_set_back_gives_the_lease_to_who_has_it_now(contest: Contest) -> None:
    contest.held()
    earlier = contest.redis.hgetall(contest.keys.owner)
    second = contest.held(HERE)
    contest.pauses.clear()
    contest.redis.delete(contest.keys.owner)
    contest.redis.hset(contest.keys.owner, mapping=earlier)
    assert not contest.writes(second)
    second.renew()
    # The first could still be there.
    assert len(contest.pauses) == SILENT_LOOKS
    assert (epoch(second), contest.writes(second)) == (3, True)


def test_who_lost_the_lease_to_a_holder_that_is_gone_has_lost_it_too(contest: Contest) -> None:
    first = contest.held()
    second = contest.lease(HERE, alone=True)
    second.renew()
    second.stop()
    assert not contest.writes(first)
    with pytest.raises(LibraryInUse, match="Another lookaliked has taken over the library"):
        first.renew()


def test_the_first_daemon_after_an_update_takes_the_lease_of_what_was_there(
    index: Any, stores: Any, photos: Any
) -> None:
    index.commit([photos.add("/p/a.jpg", "a")])
    index.mappings._lease.stop()
    index.mappings._redis.delete(index.mappings.keys.owner)
    assert stores.lease(index.mappings.keys).stamp.startswith("1:")
    again = stores.open(index.mappings.keys.library)
    again.recover()
    assert again.mappings.photos([photos.id("a")])[0][1] == ["/p/a.jpg"]
    again.stop()


def test_what_a_lease_says_of_its_holder_is_read_as_it_was(contest: Contest) -> None:
    contest.held(HERE)
    assert replace(Owner.read(contest.redis.hgetall(contest.keys.owner)), since=HERE.since) == HERE


# With its thread


@pytest.fixture
def own_contest(own_stores: Any) -> Iterator[Contest]:
    with contest_in(own_stores) as one:
        yield one


def renewals(contest: Contest) -> int:
    return int(contest.redis.hget(contest.keys.owner, "renewals") or 0)


def test_the_lease_is_renewed_while_its_daemon_lives(contest: Contest, kit: Any) -> None:
    lease = contest.lease()
    lease.start()
    kit.eventually(lambda: renewals(contest) >= 2)
    lease.check()


def test_an_outage_is_no_loss(own_contest: Contest, own_stores: Any, kit: Any) -> None:
    lease = own_contest.lease()
    lease.start()
    stamp = lease.stamp
    own_stores.valkey.stop()
    with pytest.raises(StoreUnavailable):
        lease.renew()
    own_stores.valkey.start()
    before = renewals(own_contest)
    kit.eventually(lambda: renewals(own_contest) > before)
    lease.check()
    assert (lease.stamp, own_contest.writes(lease)) == (stamp, True)


def test_a_redis_that_is_away_at_the_start_gives_the_lease_later(
    own_contest: Contest, own_stores: Any, kit: Any
) -> None:
    own_stores.valkey.stop()
    lease = own_contest.lease()
    lease.start()
    assert lease.stamp == ""
    own_stores.valkey.start()
    kit.eventually(lambda: lease.stamp)
    assert own_contest.writes(lease)


def test_whoever_took_the_lease_meanwhile_ends_the_service(contest: Contest, kit: Any) -> None:
    first = contest.lease()
    first.start()
    second = contest.lease(HERE, alone=True)
    second.renew()

    def has_ended() -> bool:
        try:
            first.check()
        except LibraryInUse:
            return True
        return False

    kit.eventually(has_ended)
