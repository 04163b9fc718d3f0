from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import FakeDaemon, Lookalike


def answer(*, dry_run: bool, failures: int = 0) -> dict[str, Any]:
    return {"schema": 1, "path": "/old", "files": 12, "photos": 1, "failures": failures, "dry_run": dry_run}


def asked(daemon: FakeDaemon) -> list[dict[str, Any]]:
    assert {(one.method, one.target) for one in daemon.requests} == {("POST", "/v1/forget")}
    return [json.loads(one.body) for one in daemon.requests]


def test_a_folder_is_forgotten_and_its_size_said(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(answer(dry_run=False, failures=2))
    done = lookalike("forget", "/old/../old", "--yes")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"/old: 1 photo in 12 files and 2 failures dropped\n"
    assert asked(daemon) == [{"path": "/old", "dry_run": False}]


def test_a_dry_run_asks_nobody_and_only_counts(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(answer(dry_run=True))
    done = lookalike("forget", "/old", "--dry-run")
    assert (done.returncode, done.stdout) == (0, b"/old: 1 photo in 12 files would be dropped\n")
    assert asked(daemon) == [{"path": "/old", "dry_run": True}]


def test_without_a_terminal_nothing_is_dropped_unless_yes_is_given(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(answer(dry_run=True))
    done = lookalike("forget", "/old")
    assert done.returncode == 1
    assert b"cannot ask whether to drop 1 photo in 12 files of /old; give --yes" in done.stderr
    assert asked(daemon) == [{"path": "/old", "dry_run": True}]


def test_a_refusal_is_said_before_anybody_is_asked(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_refuse("still_watched", "/old is watched", 409)
    done = lookalike("forget", "/old")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"/old is watched\n")


@pytest.mark.parametrize("arguments", [[], [""]])
def test_a_folder_has_to_be_named(lookalike: Lookalike, arguments: list[str]) -> None:
    assert lookalike("forget", *arguments).returncode in (1, 2)
