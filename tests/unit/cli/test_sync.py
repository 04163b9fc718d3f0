from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cli.conftest import failure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import FakeDaemon, Lookalike


def test_everything_is_waited_for_unless_a_path_is_named(
    lookalike: Lookalike, daemon: FakeDaemon, sync_answer: dict[str, Any]
) -> None:
    daemon.will_answer(sync_answer)

    done = lookalike("sync")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"in step: 1,234 files\n", b"")
    (request,) = daemon.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1/sync?timeout=600.0", b"{}")
    assert request.headers["Content-Type"] == "application/json"


def test_a_path_travels_absolute(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], sync_answer: dict[str, Any], tmp_path: Path
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(sync_answer | {"files": 1})

    done = lookalike("sync", "2024", "--timeout", "2.5")

    assert (done.returncode, done.stdout) == (0, b"in step: 1 file\n")
    assert daemon.requests[1].target == "/v1/sync?timeout=2.5"
    assert json.loads(daemon.requests[1].body) == {"path": str(tmp_path / "2024")}


def test_what_is_held_or_failed_is_named_and_is_no_error(
    lookalike: Lookalike, daemon: FakeDaemon, sync_answer: dict[str, Any]
) -> None:
    held = {"folder": "/mnt/nas", "files": 12, "reason": "It is not mounted."}
    daemon.will_answer(sync_answer | {"held": [held], "failed": [failure("/a\x1b.jpg")], "failures": 1201})

    done = lookalike("sync")

    assert (done.returncode, done.stdout) == (0, b"in step: 1,234 files\n")
    assert done.stderr.decode().splitlines() == [
        "held: 12 files below /mnt/nas: It is not mounted.",
        "held: see lookalike deletions list",
        "failed: /a\\x1b.jpg: It is cut short.",
        "failed: 1,200 more, see lookalike failures list",
    ]


def test_what_is_not_in_step_in_time_is_exit_code_1(
    lookalike: Lookalike, daemon: FakeDaemon, sync_answer: dict[str, Any]
) -> None:
    daemon.will_answer(sync_answer | {"complete": False, "pending": 56, "reasons": ["Milvus is away."]})

    done = lookalike("sync")

    assert (done.returncode, done.stdout) == (1, b"not in step: 1,234 files, 56 paths to go\n")
    assert done.stderr == b"Milvus is away.\n"


def test_what_is_still_being_compared_has_no_number(
    lookalike: Lookalike, daemon: FakeDaemon, sync_answer: dict[str, Any]
) -> None:
    daemon.will_answer(sync_answer | {"complete": False, "reasons": ["The comparison is under way."]})

    assert lookalike("sync").stdout == b"not in step: 1,234 files\n"


def test_json_is_the_daemons_answer_and_the_exit_code_is_the_same(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    raw = b'{"schema": 1,  "complete": false}'
    daemon.will_answer(raw)

    done = lookalike("sync", "--json")

    assert (done.returncode, done.stdout, done.stderr) == (1, raw + b"\n", b"")


def test_a_path_outside_the_library_is_the_daemons_sentence(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_refuse("not_watched", "/etc lies in no watched folder.")

    done = lookalike("sync", "/etc")

    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"/etc lies in no watched folder.\n")


@pytest.mark.parametrize("arguments", [["--timeout", "0"], ["--timeout", "nan"], ["a", "b"], ["--deep"]])
def test_wrong_usage_is_exit_code_2(lookalike: Lookalike, arguments: list[str]) -> None:
    done = lookalike("sync", *arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Usage: lookalike sync")


def test_the_timeout_of_other_commands_is_not_how_long_it_waits(
    lookalike: Lookalike, daemon: FakeDaemon, sync_answer: dict[str, Any]
) -> None:
    daemon.will_answer(sync_answer)

    lookalike("sync", LOOKALIKE_TIMEOUT="1")

    assert daemon.requests[0].target == "/v1/sync?timeout=600.0"
