"""Who is let in, how often, and how many at once."""

from __future__ import annotations

import itertools
import os
import pwd
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from daemon.api.admission import CALLERS, Admission, Admitted, Caller, Entitled, Members, Places, Role, Work
from daemon.api.connections import UNIX
from daemon.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "0123456789abcdef"
ADMIN_TOKEN = "fedcba9876543210"
STRANGER = 54_321
"""No user of any machine that runs this."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def unix(user: int, group: int = STRANGER) -> dict[str, Any]:
    return {"headers": [], "client": None, "state": {UNIX: (user, group)}}


def tcp(*headers: tuple[bytes, bytes], host: str = "192.0.2.1") -> dict[str, Any]:
    return {"headers": list(headers), "client": (host, 1), "state": {}}


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


def admission(rate: float = 1000.0, *, group: int | None = None, token: str | None = None, **more: Any) -> Admission:
    return Admission(Admitted(4, rate), asks=Entitled(group, token), **more)


def code_of(work: Callable[[], Any]) -> str:
    with pytest.raises(QueryError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return caught.value.code


def refusal(one: Admission, scope: dict[str, Any]) -> str:
    return code_of(lambda: one.of(scope))


def passes(one: Admission, scope: dict[str, Any]) -> bool:
    return one.of(scope).role >= Role.ASKS


def test_the_daemon_s_user_and_root_may_ask_and_others_may_not() -> None:
    one = admission()
    assert passes(one, unix(os.geteuid()))
    assert passes(one, unix(0))
    assert refusal(one, unix(STRANGER)) == "forbidden"


def test_members_of_the_group_may_ask_by_their_own_group_or_by_the_group_s_list() -> None:
    member = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, os.geteuid()))
    one = admission(group=member.pw_gid)
    assert passes(one, unix(STRANGER, member.pw_gid))
    assert passes(one, unix(member.pw_uid, STRANGER))
    assert refusal(one, unix(STRANGER)) == "forbidden"


def test_who_is_in_a_group_is_looked_up_anew_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, groups = Clock(), [1]
    monkeypatch.setattr("daemon.api.admission._groups", lambda _: groups)
    members = Members(7, clock)
    assert not members.include(STRANGER, 1)
    groups.append(7)
    assert not members.include(STRANGER, 1)
    clock.now += 61
    assert members.include(STRANGER, 1)


def test_over_tcp_the_token_and_nothing_else_lets_in() -> None:
    one = admission(token=TOKEN)
    assert passes(one, tcp(bearer(TOKEN)))
    assert passes(one, tcp((b"authorization", f"bearer  {TOKEN}".encode())))
    for headers in (
        [],
        [bearer("")],
        [bearer(TOKEN + "0")],
        [bearer(TOKEN[:-1])],
        [(b"authorization", TOKEN.encode())],
    ):
        assert refusal(one, tcp(*headers)) == "unauthorized"
    assert refusal(one, tcp((b"authorization", b"Bearer \xff\xfe"))) == "unauthorized"


def test_without_a_token_nobody_comes_in_over_tcp() -> None:
    for headers in ([], [bearer("")], [bearer("None")]):
        assert refusal(admission(), tcp(*headers)) == "unauthorized"


def test_a_header_does_not_make_a_tcp_client_a_local_one() -> None:
    assert refusal(admission(), tcp((UNIX.encode(), b"0, 0"), host="")) == "unauthorized"


def test_a_caller_has_as_many_requests_a_second_as_allowed_and_no_other_s() -> None:
    clock = Clock()
    one = admission(rate=5, token=TOKEN, clock=clock)
    own, other = unix(os.geteuid()), tcp(bearer(TOKEN))
    assert [passes(one, own) for _ in range(5)] == [True] * 5
    assert refusal(one, own) == "too_many_requests"
    assert passes(one, other)
    clock.now += 0.2
    assert passes(one, own)
    assert refusal(one, own) == "too_many_requests"
    clock.now += 3600
    assert [passes(one, own) for _ in range(5)] == [True] * 5
    assert refusal(one, own) == "too_many_requests"


def test_less_than_one_a_second_is_one_now_and_then() -> None:
    clock = Clock()
    one = admission(rate=0.5, clock=clock)
    assert passes(one, unix(0))
    clock.now += 1.9
    assert refusal(one, unix(0)) == "too_many_requests"
    clock.now += 0.2
    assert passes(one, unix(0))


def test_callers_are_remembered_up_to_a_bound() -> None:
    one = admission(token=TOKEN)
    for number in range(2 * CALLERS):
        assert passes(one, tcp(bearer(TOKEN), host=f"2001:db8::{number:x}"))
    assert len(one._budgets) == CALLERS


def test_a_stranger_without_the_token_takes_no_place_among_the_callers() -> None:
    one = admission(token=TOKEN)
    refusal(one, tcp(bearer("guess"), host="198.51.100.1"))
    assert not one._budgets


# Roles


def test_the_owner_and_root_administer_and_the_group_and_the_token_ask() -> None:
    one = admission(group=7, token=TOKEN)
    assert [one.of(unix(user)).role for user in (0, os.geteuid())] == [Role.ADMINISTERS] * 2
    assert one.of(unix(STRANGER, 7)).role == Role.ASKS
    assert one.of(tcp(bearer(TOKEN))).role == Role.ASKS


def test_the_administrators_group_and_token_administer_with_and_without_those_that_ask() -> None:
    administers = Entitled(8, ADMIN_TOKEN)
    for one in (admission(administers=administers), admission(group=7, token=TOKEN, administers=administers)):
        assert one.of(unix(STRANGER, 8)).role == Role.ADMINISTERS
        assert one.of(tcp(bearer(ADMIN_TOKEN))).role == Role.ADMINISTERS
        assert refusal(one, unix(STRANGER, 9)) == "forbidden"
        assert refusal(one, tcp(bearer(ADMIN_TOKEN[:-1]))) == "unauthorized"


def test_a_role_includes_the_one_below_it_and_not_the_one_above() -> None:
    asks, administers = (Caller("user 1", role, "root may", Places(1)) for role in Role)
    asks.require(Role.ASKS)
    administers.require(Role.ASKS)
    administers.require(Role.ADMINISTERS)
    assert code_of(lambda: asks.require(Role.ADMINISTERS)) == "forbidden"


# Places


def took(places: Places, caller: str, stack: ExitStack, work: Work = Work.COMPUTES) -> int:
    """Return how many places a caller gets before it is refused one."""
    for count in itertools.count():
        try:
            stack.enter_context(places.taken(caller, work))
        except QueryError:
            return count
    return -1


def test_each_kind_of_work_has_places_of_its_own() -> None:
    places = Places(2)
    with ExitStack() as under_way:
        assert [took(places, "a", under_way, work) for work in (Work.COMPUTES, Work.WAITS, Work.LOOKS)] == [2, 2, 2]
        caller = Caller("a", Role.ASKS, "", places)
        for _ in range(20):
            under_way.enter_context(caller.place(Work.NONE))
    with ExitStack() as under_way:
        assert took(places, "a", under_way) == 2


@pytest.mark.parametrize(("most", "greedy"), [(1, 1), (4, 4), (32, 30), (100, 94)])
def test_a_caller_that_takes_all_it_gets_leaves_places_to_others(most: int, greedy: int) -> None:
    places = Places(most)
    with ExitStack() as under_way:
        assert took(places, "greedy", under_way) == greedy
        for other in range(most - greedy):
            assert took(places, f"other {other}", under_way) == 1


def test_a_request_that_fails_leaves_its_place() -> None:
    places = Places(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), places.taken("a", Work.COMPUTES):
            _ = 1 / 0
