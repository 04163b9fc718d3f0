"""`lookalike doctor` beside a daemon that is well, one that is not, and none at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from daemon.doctor import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def examined(lookalike: Any, *arguments: str | Path) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Return the exit code, and what each check found."""
    done = lookalike.command("doctor", "--json", *arguments)
    assert b"Traceback" not in done.stderr
    answer = json.loads(done.stdout)
    by_check: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for finding in answer["findings"]:
        by_check[finding["check"]].append(finding)
    levels = [finding["level"] for finding in answer["findings"]]
    assert answer["schema"] == 1
    assert (answer["problems"], answer["warnings"]) == (levels.count("problem"), levels.count("warning"))
    assert answer["well"] == (not answer["problems"])
    return done.returncode, by_check


def tree(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in root.rglob("*")}


def test_a_daemon_that_is_well_is_told_so_by_every_check(lookalike: Any, photos: Any) -> None:
    photos.fill(lookalike.folder, 3)
    lookalike.start()
    lookalike.up_to_date()

    status, found = examined(lookalike)

    assert status == 0
    wrong = [one for findings in found.values() for one in findings if one["level"] in ("warning", "problem")]
    assert wrong == []
    assert all(found.values()), "each check says something"
    assert found["folders"][0]["sentence"] == f"{lookalike.folder}: 3 photos in 1 directory"
    assert f"process {lookalike.process.pid} (" in found["lock"][0]["sentence"]
    assert "up to date, 3 photos in 3 files" in found["state"][0]["sentence"]
    # Its own watches are not counted as another program's.
    assert found["inotify"][0]["level"] == "ok"

    shown = lookalike.command("doctor")
    assert (shown.returncode, shown.stdout.decode().splitlines()[-1]) == (0, "all is well")


def test_a_folder_that_went_away_and_a_file_that_is_none_are_told_with_what_mends_them(
    lookalike: Any, photos: Any, wait_for: Callable[..., Any]
) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    (lookalike.folder / "b.jpg").write_bytes(b"no photo")
    lookalike.start()
    lookalike.up_to_date()
    shutil.move(lookalike.folder, lookalike.root / "elsewhere")
    wait_for(lambda: lookalike.status()["state"] == "degraded", "the folder is missed")

    status, found = examined(lookalike)
    shown = lookalike.command("doctor").stdout.decode()

    assert status == 1
    assert [one["level"] for one in found["folders"]] == ["problem"]
    reason, failures = found["state"]
    assert f"{lookalike.folder}: the folder does not exist" in reason["sentence"]
    assert reason["mend"][0] == f"lookalike deletions list {lookalike.folder}"
    assert (failures["level"], failures["mend"][0]) == ("warning", "lookalike failures list")
    assert f"\n{' ' * 24}lookalike failures list\n" in shown
    assert shown.endswith("2 problems and 1 warning\n")
    shutil.move(lookalike.root / "elsewhere", lookalike.folder)


def test_without_a_daemon_nothing_is_wrong_and_nothing_is_written(lookalike: Any, photos: Any) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    before = tree(lookalike.root)

    status, found = examined(lookalike, lookalike.folder)

    assert status == 0
    assert [found[name][0]["level"] for name in ("socket", "state")] == ["note", "note"]
    assert tree(lookalike.root) == before


def test_a_killed_daemon_leaves_a_dead_socket_and_a_harmless_lock(lookalike: Any, photos: Any) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    lookalike.start()
    pid = lookalike.process.pid
    lookalike.stop(signal.SIGKILL)

    status, found = examined(lookalike, lookalike.folder)

    assert status == 0
    assert f"left by process {pid}, which has ended, and is harmless" in found["lock"][0]["sentence"]
    assert found["socket"][0]["level"] == "warning"
    assert "it was left by a daemon that was killed" in found["socket"][0]["sentence"]


def test_a_daemon_that_hangs_is_a_problem(lookalike: Any, photos: Any) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    lookalike.start()
    os.kill(lookalike.process.pid, signal.SIGSTOP)
    try:
        status, found = examined(lookalike, lookalike.folder, "--timeout", "0.5")
    finally:
        os.kill(lookalike.process.pid, signal.SIGCONT)

    assert status == 1
    assert f"kill {lookalike.process.pid}" in found["lock"][0]["mend"][1]
    assert "did not answer within 0.5 seconds" in found["socket"][0]["sentence"]


def test_a_bad_configuration_is_78_and_everything_else_is_checked(lookalike: Any) -> None:
    file = lookalike.root / "bad.yaml"
    file.write_text("folders: 3\nwatch: {settle_second: 1}\n")

    status, found = examined(lookalike, "--config", file)

    assert status == 78
    assert len(found["configuration"]) == 2
    assert found["configuration"][0]["mend"] == [f"lookaliked check-config {file}  # once it is corrected"]
    assert all(found[name] for name in NAMES)


@pytest.mark.parametrize("content", [b"\xff", b"folders: [", None], ids=["no text", "no YAML", "no file"])
def test_a_configuration_that_cannot_be_read_is_78(lookalike: Any, content: bytes | None) -> None:
    file = lookalike.root / "bad.yaml"
    if content is not None:
        file.write_bytes(content)

    status, found = examined(lookalike, lookalike.folder, "--config", file)

    assert status == 78
    assert found["folders"][0]["sentence"].startswith(f"{lookalike.folder}: 0 photos")


def test_wrong_usage_is_2(lookalike: Any) -> None:
    assert lookalike.command("doctor", "--nonsense").returncode == 2
    assert lookalike.command("doctor", "--timeout", "0").returncode == 2
