from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.unit.cli.conftest import failure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import FakeDaemon, Lookalike


def answer(*paths: str, total: int | None = None) -> dict[str, Any]:
    failed = [failure(path) for path in paths]
    return {"schema": 1, "failures": failed, "total": len(failed) if total is None else total}


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_each_failure_is_a_path_and_a_reason(lookalike: Lookalike, daemon: FakeDaemon, arguments: list[str]) -> None:
    failed = answer("/a\n.jpg", "/b.jpg")
    since = datetime.now(UTC) - timedelta(minutes=5, seconds=10)
    failed["failures"][0]["since"] = since.isoformat()
    failed["failures"][1] |= {"since": "some day", "attempts": 1}
    daemon.will_answer(failed)

    done = lookalike("failures", *arguments)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "/a\\n.jpg",
        "  It is cut short. (3 attempts, 5 min ago)",
        "/b.jpg",
        "  It is cut short. (1 attempt, some day)",
    ]
    assert (daemon.requests[0].method, daemon.requests[0].target) == ("GET", "/v1/failures")


def test_those_below_a_path_can_be_asked_for(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], tmp_path: Path
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(answer())

    lookalike("failures", "list", b"caf\xe9 & more")

    folder = quote(str(tmp_path), safe="")
    assert daemon.requests[1].target == f"/v1/failures?path={folder}%2Fcaf%E9+%26+more"


def test_no_failure_is_said_aloud_and_is_no_error(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(answer())

    done = lookalike("failures")

    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"No failures: every file that was looked at could be indexed.\n"


def test_what_is_not_shown_is_counted(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(answer("/a.jpg", total=1001))

    assert lookalike("failures").stderr == b"1,000 more are not shown; name a directory to see those below it\n"


def test_an_option_is_an_option_of_list(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    raw = b'{"schema": 1,  "failures": [], "total": 0}'
    daemon.will_answer(raw)

    done = lookalike("failures", "--json")

    assert (done.returncode, done.stdout, done.stderr) == (0, raw + b"\n", b"")


def test_they_are_tried_again(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer({"schema": 1, "retried": 1200})

    done = lookalike("failures", "retry")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"trying 1,200 files again\n", b"")
    (request,) = daemon.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1/failures/retry", b"{}")


def test_those_below_a_path_are_tried_again(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], tmp_path: Path
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer({"schema": 1, "retried": 1})

    done = lookalike("failures", "retry", "2024", "--json")

    assert json.loads(done.stdout) == {"schema": 1, "retried": 1}
    assert json.loads(daemon.requests[1].body) == {"path": str(tmp_path / "2024")}


@pytest.mark.parametrize("arguments", [["lst"], ["--unknown"], ["retry", "--unknown"], ["list", "a", "b"]])
def test_wrong_usage_is_exit_code_2(lookalike: Lookalike, arguments: list[str]) -> None:
    done = lookalike("failures", *arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Usage: lookalike failures")


def test_skipped_files_are_listed_one_a_line_and_counted(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    files = [("/a.cr2", ".cr2"), ("/b\n.CR2", ".cr2"), ("/c", "")]
    skipped = [{"path": path, "extension": extension} for path, extension in files]
    daemon.will_answer({"schema": 1, "skipped": skipped, "more": True})

    done = lookalike("failures", "--skipped")

    assert (done.returncode, done.stdout.decode().splitlines()) == (0, ["/a.cr2", "/b\\n.CR2", "/c"])
    assert done.stderr.decode().splitlines() == [
        "3 files look like pictures and are not read (2 .cr2, 1 without an extension)",
        "there are more; name a directory to see those below it",
    ]
    assert daemon.requests[0].target == "/v1/skipped"


def test_where_nothing_is_skipped_that_is_said(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer({"schema": 1, "skipped": [], "more": False})
    done = lookalike("failures", "list", "--skipped")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"No file that looks like a picture is skipped.\n"
