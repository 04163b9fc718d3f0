from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import FakeDaemon, Lookalike

GHOSTS = {
    "kind": "ghost_path",
    "count": 1203,
    "what": "The index has a file that is not on disk.",
    "examples": ["/a\x1b.jpg", "/caf\udce9.jpg"],
}


def test_an_index_that_equals_the_disk_is_one_line(
    lookalike: Lookalike, daemon: FakeDaemon, verify_answer: dict[str, Any]
) -> None:
    daemon.will_answer(verify_answer)

    done = lookalike("verify")

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"no difference: 640 files, 630 photos, 630 vectors of efficientnet-lite0, in 12 s\n"
    (request,) = daemon.requests
    assert (request.method, request.target) == ("POST", "/v1/verify")
    assert json.loads(request.body) == {"deep": False, "repair": False}


def test_differences_are_listed_by_kind_and_are_exit_code_1(
    lookalike: Lookalike, daemon: FakeDaemon, verify_answer: dict[str, Any]
) -> None:
    stray = {"kind": "vector_stray", "count": 1, "what": "A vector belongs to no photo.", "examples": ["42"]}
    daemon.will_answer(verify_answer | {"differences": [GHOSTS, stray]})

    done = lookalike("verify")

    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [
        "ghost_path (1,203): The index has a file that is not on disk.",
        "  /a\\x1b.jpg",
        "  /caf\\xe9.jpg",
        "  and 1,201 more",
        "vector_stray (1): A vector belongs to no photo.",
        "  42",
        "1,204 differences: 640 files, 630 photos, 630 vectors of efficientnet-lite0, in 12 s",
    ]
    assert done.stderr == b"lookalike verify --repair mends what can be mended\n"


def test_of_very_many_differences_it_is_said_that_there_may_be_more(
    lookalike: Lookalike, daemon: FakeDaemon, verify_answer: dict[str, Any]
) -> None:
    daemon.will_answer(verify_answer | {"differences": [GHOSTS], "at_least": True})

    assert b"at least 1,203 differences: 640 files" in lookalike("verify").stdout


@pytest.mark.parametrize(("left", "exit_code", "found"), [([], 0, "no difference"), ([GHOSTS], 1, "1,203 differences")])
def test_after_a_repair_what_is_left_decides(
    lookalike: Lookalike,
    daemon: FakeDaemon,
    verify_answer: dict[str, Any],
    left: list[dict[str, Any]],
    exit_code: int,
    found: str,
) -> None:
    daemon.will_answer(verify_answer | {"repaired": True, "mended": 5, "differences": left})

    done = lookalike("verify", "--repair")

    assert (done.returncode, done.stderr) == (exit_code, b"")
    assert done.stdout.decode().splitlines()[-1].startswith(f"5 mended, {found} left: 640 files, ")
    assert json.loads(daemon.requests[0].body) == {"deep": False, "repair": True}


def test_a_deep_comparison_says_how_many_photos_it_read(
    lookalike: Lookalike, daemon: FakeDaemon, verify_answer: dict[str, Any]
) -> None:
    daemon.will_answer(verify_answer | {"deep": True, "sampled": 200, "failures": 1})

    done = lookalike("verify", "--deep")

    assert done.stdout.decode() == (
        "no difference: 640 files, 630 photos, 630 vectors of efficientnet-lite0, "
        "200 photos read again and searched for, 1 file that could not be indexed, in 12 s\n"
    )
    assert json.loads(daemon.requests[0].body) == {"deep": True, "repair": False}


def test_what_could_not_be_decided_is_counted_and_is_no_difference(
    lookalike: Lookalike, daemon: FakeDaemon, verify_answer: dict[str, Any]
) -> None:
    daemon.will_answer(verify_answer | {"pending": 5})

    done = lookalike("verify")

    assert done.returncode == 0
    assert done.stderr == b"5 more could not be decided, since their files are pending: see lookalike sync\n"


def test_json_is_the_daemons_answer_and_the_exit_code_is_the_same(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    raw = b'{"schema": 1,  "differences": [{}]}'
    daemon.will_answer(raw)

    done = lookalike("verify", "--json")

    assert (done.returncode, done.stdout, done.stderr) == (1, raw + b"\n", b"")


def test_one_comparison_at_a_time_is_the_daemons_sentence(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_refuse("busy", "Another comparison is under way.", status=409)

    done = lookalike("verify")

    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"Another comparison is under way.\n")


def test_the_timeout_of_other_commands_does_not_end_a_comparison(
    lookalike: Lookalike, daemon: FakeDaemon, verify_answer: dict[str, Any]
) -> None:
    daemon.will_answer(verify_answer)

    assert lookalike("verify", LOOKALIKE_TIMEOUT="nonsense").returncode == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("verify", "comparing the disk with the index; in a large library that takes minutes\r\n"),
        ("sync", "waiting until the index holds what is on disk, for up to 600 seconds\r\n"),
    ],
)
def test_a_person_at_a_terminal_is_told_what_is_waited_for(
    lookalike: Lookalike,
    daemon: FakeDaemon,
    verify_answer: dict[str, Any],
    sync_answer: dict[str, Any],
    command: str,
    said: str,
) -> None:
    daemon.will_answer(verify_answer | sync_answer)
    terminal, standard_error = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", command],
            stdout=subprocess.PIPE,
            stderr=standard_error,
            env=lookalike.environment(),
            check=True,
        )
        assert os.read(terminal, 65536).decode() == said
    finally:
        os.close(terminal)
        os.close(standard_error)
    assert done.stdout.count(b"\n") == 1
