"""Who may ask, how often, and how many at once: decided before a request is read."""

from __future__ import annotations

import contextlib
import hmac
import os
import pwd
import threading
import time
from collections import OrderedDict
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
LOOKS = frozenset({"GET", "HEAD"})
"""Methods of requests that only look: they are answered however many others wait."""
EXPORT = "/v1/export"
WAITS = frozenset({"/v1/sync", EXPORT, "/v1/import"})
"""Requests that last long and compute little: so many of them do not keep searches out."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """How much is let in."""

    max_concurrent_requests: int
    requests_per_second: float


class Admission:
    """Lets requests in, or says with a QueryError why not; for any number of servers, each with a thread of its own."""

    def __init__(
        self,
        limits: Admitted,
        *,
        group: int | None = None,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`group` may use the Unix socket beside the daemon's own user and root; whoever has the token may use TCP."""
        self._limits = limits
        self._members = Members(group, clock)
        self._token = None if token is None else token.encode()
        self._clock = clock
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._under_way = {False: 0, True: 0}
        self._counting = threading.Lock()

    @contextlib.contextmanager
    def of(self, scope: Any) -> Iterator[None]:
        """Let one request in for as long as it takes; QueryError with the code forbidden, unauthorized, too_many_requests or overloaded."""
        caller = self._caller(scope)
        with self._counting:
            self._spend(caller)
        if scope["method"] in LOOKS and scope["path"] != EXPORT:
            yield
            return
        waits = scope["path"] in WAITS
        with self._counting:
            if self._under_way[waits] >= self._limits.max_concurrent_requests:
                raise QueryError(
                    "overloaded",
                    f"{self._under_way[waits]} requests are under way, as many as api.max_concurrent_requests allows; try again in a moment",
                )
            self._under_way[waits] += 1
        try:
            yield
        finally:
            with self._counting:
                self._under_way[waits] -= 1

    def _caller(self, scope: Any) -> str:
        peer = peer_of(scope)
        if peer is not None:
            user, group = peer
            if not self._members.may_ask(user, group):
                raise QueryError(
                    "forbidden",
                    f"user {_name(user)} may not ask this lookaliked; its owner can set 'api.group' to a group that may",
                )
            return f"user {user}"
        if not self._knows_token(scope):
            raise QueryError(
                "unauthorized", "over TCP a request carries the daemon's token, as in 'Authorization: Bearer TOKEN'"
            )
        client = scope.get("client")
        return f"address {client[0] if client else ''}"

    def _knows_token(self, scope: Any) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        if self._token is None or kind.lower() != b"bearer":
            return False
        # Takes the same time wherever they differ.
        return hmac.compare_digest(token.strip(), self._token)

    def _spend(self, caller: str) -> None:
        """Take one request from a caller's budget, which fills up at the allowed rate to what a second allows."""
        now, rate = self._clock(), self._limits.requests_per_second
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


class Members:
    """Who may use the Unix socket: the daemon's own user, root, and the members of a group."""

    def __init__(self, group: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._group = group
        self._clock = clock
        self._known: OrderedDict[int, tuple[bool, float]] = OrderedDict()

    def may_ask(self, user: int, group: int) -> bool:
        """Whether a process of this user and this group may ask."""
        if user in (0, os.geteuid()):
            return True
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
