"""What a lease says of its holder, and what is read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.index.embedded import ProcessIdentity
from daemon.index.lease import LOOK_SECONDS, RENEW_SECONDS, SILENT_LOOKS, TIMEOUT_SECONDS, Owner, State
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_SECONDS = 15.0
"""After a crash the lease is free within this time."""
NUMBERS = st.integers(0, 2**62)
TEXTS = st.text(max_size=20).map(printable)
OWNERS = st.builds(
    Owner,
    host=TEXTS,
    process=st.builds(ProcessIdentity, pid=NUMBERS, started_ticks=NUMBERS, boot=TEXTS),
    namespace=TEXTS,
    command=TEXTS,
    since=st.integers(0, 2**32),
)


def stored(fields: Mapping[str, object]) -> list[bytes]:
    """Return fields as Redis gives them back."""
    return [word.encode() for name, value in fields.items() for word in (name, str(value))]


@given(OWNERS, st.integers(1), NUMBERS)
def test_what_a_lease_says_is_read_as_it_was(owner: Owner, epoch: int, renewals: int) -> None:
    state = State.read(stored({"epoch": epoch, "token": "t", "renewals": renewals} | owner.fields()))
    assert state == State(epoch, "t", str(renewals), owner)


def test_a_lease_that_nobody_took_yet_is_free() -> None:
    assert State.read([]) == State() == State(0, "", "", None)


def test_a_lease_that_was_given_back_is_free_and_keeps_its_epoch() -> None:
    assert State.read([b"epoch", b"7"]) == State(7)


@given(
    st.dictionaries(st.sampled_from(["epoch", "token", "process", "started", "since", "host", "command"]), st.binary())
)
def test_whatever_is_stored_there_is_shown_in_one_line(fields: dict[str, bytes]) -> None:
    state = State.read([word for name, value in fields.items() for word in (name.encode(), value)])
    assert (state.owner is None) == (not fields.get("token"))
    assert state.owner is None or str(state.owner).isprintable()


def test_a_time_that_no_clock_shows_is_shown_in_one_line_too() -> None:
    state = State.read(stored({"token": "t", "since": 10**30, "process": 10**30}))
    assert str(state.owner).isprintable()


def test_a_holder_is_named_by_its_host_its_process_and_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.index.lease.time.localtime", lambda _: (2026, 1, 2, 3, 4, 5, 0, 0, 0))
    owner = Owner("nas", ProcessIdentity(12, 3, "b"), "n", "lookaliked run /photos", 1)
    assert str(owner) == "lookaliked on nas (process 12, lookaliked run /photos, since 2026-01-02 03:04)"


def test_a_holder_has_time_for_a_lost_renewal_and_a_crash_is_waited_for_no_longer_than_promised() -> None:
    silent_seconds = SILENT_LOOKS * LOOK_SECONDS
    assert silent_seconds > TIMEOUT_SECONDS + 2 * RENEW_SECONDS
    assert silent_seconds + TIMEOUT_SECONDS <= LONGEST_SECONDS


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "\uff19"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert State.read(stored({"epoch": text})).epoch == 0
