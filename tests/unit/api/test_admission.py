"""Who is let in, how often, and how many at once."""

from __future__ import annotations

import os
import pwd
from contextlib import ExitStack
from typing import Any

import pytest

from daemon.api.admission import CALLERS, Admission, Admitted, Members
from daemon.api.connections import UNIX
from daemon.errors import QueryError

TOKEN = "0123456789abcdef"
STRANGER = 54_321
"""No user of any machine that runs this."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def unix(user: int, group: int = STRANGER, method: str = "POST", path: str = "/v1/search") -> dict[str, Any]:
    return {"method": method, "path": path, "headers": [], "client": None, "state": {UNIX: (user, group)}}


def tcp(*headers: tuple[bytes, bytes], host: str = "192.0.2.1", path: str = "/v1/search") -> dict[str, Any]:
    return {"method": "POST", "path": path, "headers": list(headers), "client": (host, 1), "state": {}}


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", f"Bearer {token}".encode()


def admission(concurrent: int = 4, rate: float = 1000.0, **more: Any) -> Admission:
    return Admission(Admitted(concurrent, rate), **more)


def refusal(one: Admission, scope: dict[str, Any]) -> str:
    with pytest.raises(QueryError) as caught, one.of(scope):
        pass
    assert "\n" not in str(caught.value)
    return caught.value.code


def passes(one: Admission, scope: dict[str, Any]) -> bool:
    with one.of(scope):
        return True


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
    assert not members.may_ask(STRANGER, 1)
    groups.append(7)
    assert not members.may_ask(STRANGER, 1)
    clock.now += 61
    assert members.may_ask(STRANGER, 1)


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
    own, other = unix(os.geteuid(), method="GET"), tcp(bearer(TOKEN))
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


def test_what_computes_what_waits_and_what_looks_do_not_keep_one_another_out() -> None:
    one = admission(concurrent=2)
    search, sync, look = unix(0), unix(0, path="/v1/sync"), unix(0, method="GET", path="/v1/status")
    with ExitStack() as under_way:
        for scope in (search, search, sync, sync):
            under_way.enter_context(one.of(scope))
        assert refusal(one, search) == "overloaded"
        assert refusal(one, sync) == "overloaded"
        assert refusal(one, unix(0, method="GET", path="/v1/export")) == "overloaded"
        assert [passes(one, look) for _ in range(20)] == [True] * 20
    assert passes(one, search)


def test_a_request_that_fails_leaves_its_place() -> None:
    one = admission(concurrent=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), one.of(unix(0)):
            _ = 1 / 0
