from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from cli.report.deletions import deletion_lines
from tests.unit.cli.conftest import deletions

if TYPE_CHECKING:
    from pathlib import Path

    from cli.answers import DeletionsAnswer
    from tests.unit.cli.conftest import FakeDaemon, Lookalike


def answer(*folders: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "folders": list(folders)}


def decided(folder: str, files: int) -> dict[str, Any]:
    return {"schema": 1, "folder": deletions(folder), "files": files}


def test_held_deletions_come_with_the_commands_that_decide() -> None:
    five_minutes_later = 1767225600 + 300
    missing = deletions("/mnt/my nas", state="missing", reason="It is not mounted.", files=2, recorded=2)
    missing["paths"] = missing["paths"][:2]
    kept = deletions("/kept\x1b", state="kept", reason="They are kept.", files=1, recorded=1, paths=["/kept\x1b/a.jpg"])

    shown = deletion_lines(cast("DeletionsAnswer", answer(deletions("/photos"), missing, kept)), now=five_minutes_later)

    assert shown == [
        "/photos  held",
        "  12 of 640 files are gone at once.",
        "  12 of 640 files, 5 min ago",
        "    /photos/0.jpg",
        "    /photos/1.jpg",
        "    /photos/2.jpg",
        "    /photos/3.jpg",
        "    /photos/4.jpg",
        "    and 7 more: lookalike deletions list --paths /photos",
        "  deleted on purpose:  lookalike deletions approve /photos",
        "  to be kept:          lookalike deletions reject /photos",
        "",
        "/mnt/my nas  missing",
        "  It is not mounted.",
        "  2 of 2 files, 5 min ago",
        "    /mnt/my nas/0.jpg",
        "    /mnt/my nas/1.jpg",
        "  deleted on purpose:  lookalike deletions approve '/mnt/my nas'",
        "  to be kept:          lookalike deletions reject '/mnt/my nas'",
        "",
        "/kept\\x1b  kept",
        "  They are kept.",
        "  1 of 1 file, 5 min ago",
        "    /kept\\x1b/a.jpg",
        "  deleted on purpose:  lookalike deletions approve '/kept\\x1b'",
    ]


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_every_folder_is_listed(lookalike: Lookalike, daemon: FakeDaemon, arguments: list[str]) -> None:
    daemon.will_answer(answer(deletions("/photos"), deletions("/mnt/nas")))

    done = lookalike("deletions", *arguments)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"/photos  held\n")
    assert b"\n\n/mnt/nas  held\n" in done.stdout
    assert (daemon.requests[0].method, daemon.requests[0].target) == ("GET", "/v1/deletions")


@pytest.mark.parametrize("arguments", [[], ["--paths"]])
def test_nothing_held_is_said_aloud_and_is_no_error(
    lookalike: Lookalike, daemon: FakeDaemon, arguments: list[str]
) -> None:
    daemon.will_answer(answer())

    done = lookalike("deletions", *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"No deletions are held.\n")


def test_all_paths_of_every_folder_are_asked_for_and_written_exactly(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(answer(deletions("/a"), deletions("/b")))
    daemon.will_answer(answer(deletions("/a", paths=["/a/caf\udce9\n.jpg", "/a/2.jpg"])))
    daemon.will_answer(answer(deletions("/b", paths=["/b/1.jpg"])))

    done = lookalike("deletions", "list", "--paths", "-0")

    assert (done.returncode, done.stdout) == (0, b"/a/caf\xe9\n.jpg\0/a/2.jpg\0/b/1.jpg\0")
    assert [request.target for request in daemon.requests] == [
        "/v1/deletions",
        "/v1/deletions?folder=%2Fa",
        "/v1/deletions?folder=%2Fb",
    ]


def test_one_folder_can_be_asked_for(lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(answer(deletions("/home/anna/Pictures")))

    done = lookalike("deletions", "list", "/home/anna/Pictures/", "--paths")

    assert done.stdout.count(b"\n") == 12
    assert daemon.requests[1].target == "/v1/deletions?folder=%2Fhome%2Fanna%2FPictures"


def test_json_is_the_daemons_answer_unchanged(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(b'{"schema": 1,  "folders": []}')

    assert lookalike("deletions", "--json").stdout == b'{"schema": 1,  "folders": []}\n'


@pytest.mark.parametrize(
    ("decision", "outcome"),
    [("approve", "taken out of the index"), ("reject", "kept in the index until they are back")],
)
def test_a_decision_is_about_one_folder(
    lookalike: Lookalike,
    daemon: FakeDaemon,
    status_answer: dict[str, Any],
    tmp_path: Path,
    decision: str,
    outcome: str,
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(decided("/home/anna/\x1b", 1))

    done = lookalike("deletions", decision, "gone")

    assert (done.returncode, done.stdout.decode()) == (0, f"/home/anna/\\x1b: 1 file {outcome}\n")
    request = daemon.requests[1]
    assert (request.method, request.target) == ("POST", f"/v1/deletions/{decision}")
    assert json.loads(request.body) == {"folder": str(tmp_path / "gone")}


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_decision_can_be_about_every_folder_that_waits_for_one(
    lookalike: Lookalike, daemon: FakeDaemon, decision: str
) -> None:
    daemon.will_answer(answer(deletions("/a"), deletions("/b", state="kept"), deletions("/c", state="missing")))
    daemon.will_answer(decided("/a", 12))
    daemon.will_answer(decided("/c", 640))

    done = lookalike("deletions", decision, "--all")

    assert done.returncode == 0
    assert [line.partition(" file")[0] for line in done.stdout.decode().splitlines()] == ["/a: 12", "/c: 640"]
    assert [json.loads(request.body) for request in daemon.requests[1:]] == [{"folder": "/a"}, {"folder": "/c"}]


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_folder_that_needs_no_decision_any_more_does_not_keep_the_others_from_theirs(
    lookalike: Lookalike, daemon: FakeDaemon, decision: str
) -> None:
    daemon.will_answer(answer(deletions("/a"), deletions("/c")))
    daemon.will_refuse("not_held", "/a: the deletion was approved before.")
    daemon.will_answer(decided("/c", 640))

    done = lookalike("deletions", decision, "--all")

    assert (done.returncode, done.stderr) == (0, b"/a: the deletion was approved before.\n")
    assert done.stdout.startswith(b"/c: 640 files ")


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_any_other_refusal_ends_a_decision_about_every_folder(
    lookalike: Lookalike, daemon: FakeDaemon, decision: str
) -> None:
    daemon.will_answer(answer(deletions("/a"), deletions("/c")))
    daemon.will_refuse("internal", "It broke.")

    done = lookalike("deletions", decision, "--all")

    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"It broke.\n")


def test_deciding_on_everything_when_nothing_is_held_is_no_error(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(answer())

    done = lookalike("deletions", "approve", "--all")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"No deletions are held.\n")


@pytest.mark.parametrize("decision", ["approve", "reject"])
@pytest.mark.parametrize("held", [[], [deletions("/kept", state="kept")]])
def test_deciding_on_nothing_as_json_is_an_empty_list(
    lookalike: Lookalike, daemon: FakeDaemon, decision: str, held: list[dict[str, Any]]
) -> None:
    daemon.will_answer(answer(*held))

    done = lookalike("deletions", decision, "--all", "--json")

    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, answer(), b"")


def test_a_decision_as_json_is_the_daemons_answer(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(answer(deletions("/a")))
    daemon.will_answer(decided("/a", 12))

    assert json.loads(lookalike("deletions", "reject", "--all", "--json").stdout) == decided("/a", 12)


def test_a_folder_that_holds_nothing_is_the_daemons_sentence(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_refuse("not_held", "No deletions are held for /a.")

    done = lookalike("deletions", "approve", "/a")

    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"No deletions are held for /a.\n")


@pytest.mark.parametrize(
    "arguments",
    [["approve"], ["reject"], ["approve", "/a", "--all"], ["lst"], ["list", "--json", "--paths"], ["list", "-0"]],
)
def test_wrong_usage_is_exit_code_2(lookalike: Lookalike, arguments: list[str]) -> None:
    done = lookalike("deletions", *arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Usage: lookalike deletions")
