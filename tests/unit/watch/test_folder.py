"""A view of a folder says one thing in all of its facts."""

from __future__ import annotations

import pytest

from daemon.changes import Hold
from daemon.watch.folder import FolderView, view_of

KEPT = Hold("why", frozenset({"/p/a.jpg"}), 100, 1.0, decision="kept")
ASKED = Hold("why", frozenset({"/p/b.jpg"}), 100, 1.0)
APPROVED = Hold("why", frozenset({"/p/c.jpg"}), 100, 1.0, decision="approved")


@pytest.mark.parametrize("before", ["starting", "watching", "held", "kept"])
@pytest.mark.parametrize(
    ("holds", "state", "asks"),
    [
        ((KEPT,), "kept", False),
        ((KEPT, ASKED), "held", True),
        ((APPROVED,), "held", False),
        ((KEPT, APPROVED), "kept", False),
    ],
)
def test_the_state_is_the_one_that_the_holds_mean(
    before: str, holds: tuple[Hold, ...], state: str, *, asks: bool
) -> None:
    view = view_of(FolderView(state=before), holds)
    assert (view.state, view.asks, view.held) == (state, asks, frozenset[str]().union(*(hold.paths for hold in holds)))


@pytest.mark.parametrize("before", ["held", "kept"])
def test_nothing_is_held_once_no_hold_is_left(before: str) -> None:
    view = view_of(view_of(FolderView(state=before), (KEPT,)), ())
    assert (view.state, view.note, view.asks, view.held) == ("watching", "", False, frozenset())


@pytest.mark.parametrize("before", ["missing", "unreadable"])
def test_a_folder_that_is_away_stays_so_whatever_is_held(before: str) -> None:
    assert view_of(FolderView(state=before, note="why"), (KEPT,)).state == before
