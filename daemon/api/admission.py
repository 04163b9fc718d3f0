"""Decides before a request is read whether its caller may send it, in which role, how often, and how many at once."""

from __future__ import annotations

import contextlib
import enum
import hmac
import os
import pwd
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.api.connections import peer_of
from daemon.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLERS = 1024
"""Callers that are remembered; who has not come for longest is forgotten first."""
MEMBERS_SECONDS = 60.0
"""How long it is believed who is in a group."""


KEPT_SHARE = 16
"""One place of so many is kept for callers that have none yet."""


class Role(enum.IntEnum):
    """The rights of a caller; each role includes the one before it."""

    ASKS = 1
    """Search, look, and wait for the index: nothing that a caller asks changes the library."""
    ADMINISTERS = 2
    """Decide what the library holds, and how the daemon runs."""


class Work(enum.Enum):
    """The work that a request makes. Each kind has its own places, so that no kind keeps the others out."""

    NONE = enum.auto()
    """Nothing worth counting: the daemon says how it is however busy it is."""
    LOOKS = enum.auto()
    """A look at what is known."""
    COMPUTES = enum.auto()
    WAITS = enum.auto()
    """It lasts long and computes little."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """How much is let in."""

    max_concurrent_requests: int
    requests_per_second: float


@dataclass(frozen=True, slots=True)
class Entitled:
    """The group on the Unix socket, and the token over TCP, that give a role. The daemon's own user and root have every role."""

    group: int | None = None
    token: str | None = None


NOBODY = Entitled()


class Caller:
    """The sender of a request: a user of this machine, or an address that has a token."""

    def __init__(self, name: str, role: Role, may: str, places: Places) -> None:
        """`may` ends the sentence that says who has the role which this caller lacks."""
        self.name = name
        self.role = role
        self._may = may
        self._places = places

    def require(self, role: Role) -> None:
        """Raise a QueryError with the code forbidden where the caller does not have the role."""
        if self.role < role:
            raise QueryError("forbidden", f"you may ask this lookaliked, but not administer it; {self._may}")

    def place(self, work: Work) -> contextlib.AbstractContextManager[None]:
        """Return a block in which the caller has a place; QueryError with the code overloaded where no place is free."""
        return contextlib.nullcontext() if work is Work.NONE else self._places.taken(self.name, work)


class Admission:
    """Lets requests in, or says with a QueryError why not; for any number of servers, each with a thread of its own."""

    def __init__(
        self,
        limits: Admitted,
        *,
        asks: Entitled = NOBODY,
        administers: Entitled = NOBODY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = Places(limits.max_concurrent_requests)
        self._rate = limits.requests_per_second
        self._members = {
            Role.ADMINISTERS: Members(administers.group, clock),
            Role.ASKS: Members(asks.group, clock),
        }
        self._tokens = {
            role: None if entitled.token is None else entitled.token.encode()
            for role, entitled in ((Role.ADMINISTERS, administers), (Role.ASKS, asks))
        }
        self._clock = clock
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._counting = threading.Lock()

    def of(self, scope: Any) -> Caller:
        """Return the sender of a request; QueryError with the code forbidden, unauthorized or too_many_requests where it may not send it."""
        caller = self._caller(scope)
        with self._counting:
            self._spend(caller.name)
        return caller

    def _caller(self, scope: Any) -> Caller:
        peer = peer_of(scope)
        if peer is not None:
            user, group = peer
            role = self._role_of(user, group)
            if role is None:
                raise QueryError(
                    "forbidden",
                    f"user {_name(user)} may not ask this lookaliked; its owner can set 'api.group' to a group that may",
                )
            may = "its user and root may, and the members of 'api.admin_group'"
            return Caller(f"user {user}", role, may, self._places)
        role = self._role_by_token(scope)
        if role is None:
            raise QueryError(
                "unauthorized", "over TCP a request carries the daemon's token, as in 'Authorization: Bearer TOKEN'"
            )
        client = scope.get("client")
        name = f"address {client[0] if client else ''}"
        return Caller(name, role, "a request that carries 'api.admin_token' may", self._places)

    def _role_of(self, user: int, group: int) -> Role | None:
        if user in (0, os.geteuid()):
            return Role.ADMINISTERS
        return next((role for role, members in self._members.items() if members.include(user, group)), None)

    def _role_by_token(self, scope: Any) -> Role | None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        if kind.lower() != b"bearer":
            return None
        # Takes the same time wherever they differ.
        fits = [
            role
            for role, known in self._tokens.items()
            if known is not None and hmac.compare_digest(token.strip(), known)
        ]
        return max(fits, default=None)

    def _spend(self, caller: str) -> None:
        """Take one request from a caller's budget, which fills up at the allowed rate to what a second allows."""
        now, rate = self._clock(), self._rate
        left, since = self._budgets.pop(caller, (max(1.0, rate), now))
        left = min(max(1.0, rate), left + (now - since) * rate)
        self._budgets[caller] = (left - 1 if left >= 1 else left, now)
        if len(self._budgets) > CALLERS:
            self._budgets.popitem(last=False)
        if left < 1:
            raise QueryError(
                "too_many_requests",
                f"more requests came in a second than the {rate:g} that api.requests_per_second allows; try again in a moment",
            )


def caller_of(scope: Any) -> Caller:
    """Return the caller whom the admission has noted in a request."""
    caller: Caller = scope["caller"]
    return caller


class Places:
    """How many requests of each kind of work are answered at once. The last ones are for callers that have none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = most // KEPT_SHARE
        self._taken = {work: Counter[str]() for work in Work}
        self._counting = threading.Lock()

    @contextlib.contextmanager
    def taken(self, caller: str, work: Work) -> Iterator[None]:
        """Hold a place for the length of a block."""
        taken = self._taken[work]
        with self._counting:
            free = self._most - taken.total()
            if not free or (taken[caller] and free <= self._kept):
                under_way = f"{taken[caller]} requests of yours" if free else f"{self._most} requests"
                raise QueryError(
                    "overloaded",
                    f"{under_way} are under way, as many as api.max_concurrent_requests allows; try again in a moment",
                )
            taken[caller] += 1
        try:
            yield
        finally:
            with self._counting:
                taken[caller] -= 1
                if not taken[caller]:
                    del taken[caller]


class Members:
    """The members of a group; nobody is one where no group is named."""

    def __init__(self, group: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._group = group
        self._clock = clock
        self._known: OrderedDict[int, tuple[bool, float]] = OrderedDict()

    def include(self, user: int, group: int) -> bool:
        """Return whether a process of this user and this group is a member's."""
        if self._group is None:
            return False
        return group == self._group or self._is_member(user)

    def _is_member(self, user: int) -> bool:
        # Asking may mean a server on the network.
        is_one, at = self._known.get(user, (False, float("-inf")))
        now = self._clock()
        if now - at > MEMBERS_SECONDS:
            is_one = self._group in _groups(user)
            self._known[user] = (is_one, now)
            if len(self._known) > CALLERS:
                self._known.popitem(last=False)
        return is_one


def _groups(user: int) -> list[int]:
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return []
    return os.getgrouplist(entry.pw_name, entry.pw_gid)


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
