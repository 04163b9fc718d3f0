from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from daemon.transfer.frames import DONE, HEAD, STOPPED
from tests.unit.cli.conftest import EXPORT, IMPORTED, RELOCATED, TOTALS, exported

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import FakeDaemon, Lookalike

STOPPED_EXPORT = exported((HEAD, {"photos": 2}), (STOPPED, {"reason": "Redis cannot be reached"}))


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup"
    path.write_bytes(EXPORT)
    return path


# Export


def test_an_export_is_written_whole_and_only_its_owner_may_read_it(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], tmp_path: Path
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(EXPORT)

    done = lookalike("export", "backup")

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"backup: 2 photos in 3 files, 3 vectors, {len(EXPORT)} bytes\n".encode()
    assert (tmp_path / "backup").read_bytes() == EXPORT
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["backup"]
    assert [request.target for request in daemon.requests] == ["/v1/status", "/v1/export"]


def test_what_was_exported_is_printed_as_json_on_request(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(EXPORT)

    answer = json.loads(lookalike("export", "backup", "--json").stdout)

    assert answer == {"schema": 1, "file": "backup", "bytes": len(EXPORT)} | TOTALS


def test_an_export_may_go_to_standard_output(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(EXPORT)

    done = lookalike("export", "-")

    assert (done.returncode, done.stdout) == (0, EXPORT)
    assert b"2 photos in 3 files" in done.stderr
    assert lookalike("export", "-", "--json").returncode == 2


def test_an_export_is_not_shown_at_a_terminal(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(EXPORT)
    terminal, standard_output = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "export", "-"],
            stdout=standard_output,
            stderr=subprocess.PIPE,
            env=lookalike.environment(),
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(standard_output)

    assert done.returncode == 1
    assert b"name a file, or send it on" in done.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            STOPPED_EXPORT,
            "the export cannot be used: it is not complete, for while it was made: Redis cannot be reached",
        ),
        (EXPORT[:-50], f"the export cannot be used: it ends early, after {len(EXPORT) - 50} bytes"),
        (EXPORT[:60] + b"x" + EXPORT[61:], "the export cannot be used: it is damaged at byte"),
        (b"", "the export cannot be used: it is no export of lookalike"),
    ],
    ids=["stopped", "short", "damaged", "empty"],
)
def test_an_export_that_does_not_come_whole_leaves_no_file(
    lookalike: Lookalike,
    daemon: FakeDaemon,
    status_answer: dict[str, Any],
    tmp_path: Path,
    body: bytes,
    said: str,
) -> None:
    (tmp_path / "backup").write_bytes(b"the one before")
    daemon.will_answer(status_answer)
    daemon.will_answer(body)

    done = lookalike("export", "backup", "--force")

    assert (done.returncode, done.stdout) == (1, b"")
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert os.listdir(tmp_path) == ["backup"]
    assert (tmp_path / "backup").read_bytes() == b"the one before"


def test_a_refusal_is_the_daemons_sentence(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_refuse("unavailable", "Redis is away", status=503)

    done = lookalike("export", "backup")

    assert (done.returncode, done.stderr) == (1, b"Redis is away\n")


def test_a_file_that_is_there_is_replaced_only_on_request(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], backup: Path
) -> None:
    backup.write_bytes(b"the one before")
    daemon.will_answer(status_answer)
    daemon.will_answer(status_answer)
    daemon.will_answer(EXPORT)

    done = lookalike("export", "backup")

    assert (done.returncode, done.stderr) == (1, b"backup is there already; --force replaces it\n")
    assert backup.read_bytes() == b"the one before"
    assert lookalike("export", "backup", "--force").returncode == 0
    assert backup.read_bytes() == EXPORT


def test_what_is_no_file_is_never_replaced(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("/dev/null", ".", "link"):
        daemon.will_answer(status_answer)
        done = lookalike("export", name, "--force")
        assert (done.returncode, done.stderr) == (1, f"{name} is there, and is no file; name another one\n".encode())


def test_a_link_in_the_place_of_the_part_is_not_followed(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "backup.part").symlink_to("precious")
    daemon.will_answer(status_answer)
    daemon.will_answer(EXPORT)

    assert lookalike("export", "backup").returncode == 0
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_nothing_is_written_below_a_watched_folder(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], tmp_path: Path
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    (tmp_path / "link").symlink_to(watched)
    status_answer["folders"][0]["path"] = str(watched)
    for name in ("watched/backup", "link/backup", "link/.hidden/backup"):
        daemon.will_answer(status_answer)
        done = lookalike("export", name, "--force")
        assert done.returncode == 1
        assert f"{name} lies in {watched}, which is watched, and nothing is written there" in done.stderr.decode()
    assert os.listdir(watched) == []


def test_a_place_that_cannot_be_written_is_one_sentence(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)

    done = lookalike("export", "missing/backup")

    assert (done.returncode, done.stderr) == (1, b"missing/backup cannot be written: no such file or directory\n")


def test_a_disk_that_is_full_is_one_sentence_and_leaves_no_file(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], tmp_path: Path
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(EXPORT)
    script = f"ulimit -f 0; exec '{sys.executable}' -m cli.main export backup"

    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, cwd=tmp_path, env=lookalike.environment(), check=False
    )

    assert (done.returncode, done.stderr) == (1, b"backup cannot be written: file too large\n")
    assert os.listdir(tmp_path) == []


# Import


def test_a_file_is_sent_as_it_is(lookalike: Lookalike, daemon: FakeDaemon, backup: Path) -> None:
    daemon.will_answer(IMPORTED)

    done = lookalike("import", "backup", "--moved", "/a=b=/c d", "--moved", "/e/=/f/")

    assert (done.returncode, done.stdout) == (0, b"imported: 2 photos; new vectors: 2 of one\n")
    assert done.stderr == b"1 file as exported: known without having been read\n"
    (request,) = daemon.requests
    assert (request.method, request.body) == ("POST", EXPORT)
    assert request.target == "/v1/import?from=%2Fa%3Db&to=%2Fc+d&from=%2Fe&to=%2Ff"
    assert request.headers["Content-Length"] == str(len(EXPORT))


def test_standard_input_is_sent_as_it_comes(lookalike: Lookalike, daemon: FakeDaemon) -> None:
    daemon.will_answer(IMPORTED)

    assert lookalike("import", "-", stdin=EXPORT).returncode == 0
    assert daemon.requests[0].body == EXPORT


def test_what_was_not_used_and_what_is_left_is_said(lookalike: Lookalike, daemon: FakeDaemon, backup: Path) -> None:
    daemon.will_answer(IMPORTED | {"kept": 5, "known": 6, "left": 7, "vectors": {}, "notes": ["vgg16: not used"]})

    done = lookalike("import", "backup")

    assert done.stdout == b"imported: 2 photos; new vectors: none\n"
    assert done.stderr.decode().splitlines() == [
        "vgg16: not used",
        "1 file as exported: known without having been read",
        "6 files known before",
        "5 files in folders that are away or empty: kept until they are back (see lookalike deletions)",
        "7 files changed, moved or gone: those that are there are being found (lookalike sync waits for that)",
    ]


@pytest.mark.parametrize(
    "body",
    [
        STOPPED_EXPORT,
        EXPORT[:-50],
        EXPORT + b"x",
        b"a photo, perhaps",
        exported((HEAD, {"photos": "many"})),
        exported((HEAD, [])),
        exported((HEAD, {"photos": 1}), (DONE, {"photos": 1})),
        exported((HEAD, {"photos": 1}), (DONE, TOTALS | {"vectors": []})),
    ],
)
def test_of_a_file_that_is_damaged_nothing_is_sent(
    lookalike: Lookalike, daemon: FakeDaemon, backup: Path, body: bytes
) -> None:
    backup.write_bytes(body)

    done = lookalike("import", "backup")

    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"backup cannot be used: ")
    assert daemon.requests == []


def test_a_refused_import_is_the_daemons_sentence(lookalike: Lookalike, daemon: FakeDaemon, backup: Path) -> None:
    daemon.will_refuse("busy", "a verification is running; try again when it is done", status=409)

    done = lookalike("import", "backup")

    assert (done.returncode, done.stderr) == (1, b"a verification is running; try again when it is done\n")


@pytest.mark.parametrize("moved", ["/a", "/a=b", "a=/b", "=/b"])
def test_moved_takes_two_absolute_paths(lookalike: Lookalike, backup: Path, moved: str) -> None:
    done = lookalike("import", "backup", "--moved", moved)

    assert done.returncode == 2
    assert b"--moved takes two absolute paths" in done.stderr


def test_an_import_as_json_is_the_daemons_answer(lookalike: Lookalike, daemon: FakeDaemon, backup: Path) -> None:
    raw = json.dumps(IMPORTED).encode() + b"  "
    daemon.will_answer(raw)

    done = lookalike("import", "backup", "--json")

    assert (json.loads(done.stdout), done.stderr) == (IMPORTED, b"")


# Relocate


def test_the_old_place_is_taken_as_it_is_written_and_the_new_one_as_the_daemon_spells_it(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "disk" / "2024").mkdir(parents=True)
    (tmp_path / "old").symlink_to("disk")
    status_answer["folders"][0]["path"] = str(tmp_path / "disk")
    daemon.will_answer(status_answer)
    daemon.will_answer(RELOCATED)

    done = lookalike("relocate", "old/2024/", "disk/2024")

    old, new = f"{tmp_path}/old/2024", f"{tmp_path}/disk/2024"
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"12 of 12 files known below {new}, without being read\n".encode()
    assert json.loads(daemon.requests[1].body) == {"from": old, "to": new, "dry_run": False}


def test_a_dry_run_says_what_would_be_done_with_each_file(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(RELOCATED | {"moved": 7, "kept": 1, "changed": 2, "missing": 2, "failures": 3, "dry_run": True})

    done = lookalike("relocate", "/old", "/new", "--dry-run")

    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == [
        "7 of 12 files would be known below /new, without being read",
        "1 missing file kept there, as it was decided",
        "3 files that could not be indexed would be known as such",
        "2 files with another size or mtime there: left to be read by a walk",
        "2 files not there: they stay known below /old",
    ]


def test_a_relocation_that_finds_nothing_is_exit_code_1(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)
    daemon.will_answer(RELOCATED | {"moved": 0, "missing": 12})

    assert lookalike("relocate", "/old", "/new").returncode == 1


def test_an_empty_file_is_no_export(lookalike: Lookalike, backup: Path) -> None:
    backup.write_bytes(b"")

    done = lookalike("import", "backup")

    assert (done.returncode, done.stderr) == (1, b"backup is empty\n")
