"""The commands that tell whether the index equals the disk, and decide where it does not: sync, verify, failures, deletions."""

from __future__ import annotations

import json
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Wait = Callable[..., Any]

CONFIGURATION = """
folders: [{folder}]
watch:
  rescan_seconds: 3600
  poll_seconds: {poll}
  max_delete_count: 2
"""


@pytest.fixture
def running(lookalike: Any, photos: Any) -> Any:
    """A daemon that holds deletions of more than two files, and looks at what it holds every second."""
    photos.fill(lookalike.folder / "trip", 5)
    photos.write(lookalike.folder / "keep.jpg", 9)
    start(lookalike)
    assert lookalike.asked("sync")[0] == 0
    return lookalike


def start(lookalike: Any, poll: float = 1) -> None:
    file = lookalike.root / "lookalike.yaml"
    file.write_text(CONFIGURATION.format(folder=lookalike.folder, poll=poll))
    lookalike.start("--config", file)


def answer(lookalike: Any, *arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lookalike.asked(*arguments, "--json")[1])
    return found


def lose(lookalike: Any) -> None:
    """Have photos vanish while nobody looks, as with a disk that was not mounted."""
    lookalike.stop()
    (lookalike.folder / "trip").rename(lookalike.root / "trip")
    start(lookalike)


def test_a_sync_returns_when_what_was_saved_before_it_is_found(running: Any, photos: Any) -> None:
    for seed in range(100, 130):
        path = photos.write(running.folder / f"{seed}.jpg", seed)
    status, out, err = running.asked("sync")
    assert (status, err) == (0, "")
    assert "36 files" in out
    assert running.holders(path) == [str(path)]
    path.unlink()
    assert answer(running, "sync", running.folder)["files"] == 35


def test_a_sync_may_be_of_one_file_or_one_directory(running: Any, photos: Any) -> None:
    path = photos.write(running.folder / "new" / "a.jpg", 50)
    assert answer(running, "sync", path)["files"] == 1
    photos.write(running.folder / "new" / "b.jpg", 51)
    assert answer(running, "sync", path.parent)["files"] == 2
    shutil.rmtree(path.parent)
    gone = answer(running, "sync", path.parent)
    assert (gone["complete"], gone["files"], gone["held"]) == (True, 0, [])


def test_a_search_finds_what_was_saved_just_before_it(running: Any, photos: Any) -> None:
    path = photos.write(running.folder / "just now.jpg", 60)
    first = running.search(path, "--sync")["results"][0]
    assert first["paths"] == [str(path)]


def test_a_sync_that_is_not_through_in_time_says_so(running: Any) -> None:
    with (running.folder / "slow.jpg").open("wb") as file:
        still = threading.Event()

        def write() -> None:
            while not still.wait(0.1):
                file.write(b"x")
                file.flush()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            status, _, err = running.asked("sync", "--timeout", "2")
        finally:
            still.set()
            writer.join()
    assert status == 1
    assert "still" in err
    assert "\n" not in err.strip()


def test_a_path_that_is_not_watched_is_one_sentence(at_rest: Any) -> None:
    status, _, err = at_rest.asked("sync", "/usr/share")
    assert (status, err.count("\n")) == (1, 1)
    assert "/usr/share lies in none of the watched folders" in err


def test_a_sync_and_the_failures_say_which_files_cannot_be_read_and_retry_tries_them(running: Any) -> None:
    bad = running.folder / "bad.jpg"
    bad.write_bytes(b"no photo")
    status, _, err = running.asked("sync")
    assert status == 0
    assert str(bad) in err
    assert [failure["path"] for failure in answer(running, "failures")["failures"]] == [str(bad)]
    assert str(bad) in running.asked("failures", "list", running.folder)[1]
    assert answer(running, "failures", "list", running.folder / "trip")["total"] == 0
    # Once, or again where it was closed after it had been looked at.
    attempts = answer(running, "failures")["failures"][0]["attempts"]
    assert answer(running, "failures", "retry")["retried"] == 1
    answer(running, "sync")
    assert answer(running, "failures")["failures"][0]["attempts"] == attempts + 1


def test_what_is_missing_in_a_suspicious_way_is_held_marked_and_deleted_when_somebody_says_so(
    running: Any, wait_for: Wait
) -> None:
    lose(running)
    wait_for(lambda: running.status()["state"] == "degraded")
    sentence = "5 of 6 photos are missing from it"
    assert sentence in running.status()["reasons"][0]
    assert sentence in running.said()
    status, out, _ = running.asked("deletions")
    assert status == 0
    assert sentence in out
    _, out, err = running.asked("search", running.root / "trip" / "3.jpg")
    assert out.splitlines()[0] == f"1.000  {running.folder}/trip/3.jpg  (unverified)"
    assert "could not be verified" in err
    assert [one["files"] for one in answer(running, "sync")["held"]] == [5]
    assert running.asked("verify")[0] == 1
    assert {one["kind"]: one["count"] for one in answer(running, "verify", "--repair")["differences"]} == {"held": 5}
    assert running.status()["files"] == 6

    assert running.asked("deletions", "approve", running.folder)[0] == 0
    assert answer(running, "sync")["files"] == 1
    running.assert_equals_disk()
    assert running.asked("verify")[0] == 0
    assert running.up_to_date()["held_deletions"] == 0


def test_rejected_deletions_are_kept_through_a_restart_and_lift_by_themselves(running: Any, wait_for: Wait) -> None:
    lose(running)
    wait_for(lambda: running.status()["held_deletions"] == 5)
    assert running.asked("deletions", "reject", running.folder)[0] == 0
    assert running.up_to_date()["held_deletions"] == 5
    running.stop()
    start(running)
    status = running.up_to_date()
    assert (status["held_deletions"], status["folders"][0]["state"], status["files"]) == (5, "kept", 6)
    (running.root / "trip").rename(running.folder / "trip")
    wait_for(lambda: running.status()["held_deletions"] == 0)
    running.assert_equals_disk()
    assert running.status()["encoded"] == 0


def test_a_folder_that_is_away_can_be_given_up(running: Any, wait_for: Wait) -> None:
    running.folder.rename(running.root / "away")
    wait_for(lambda: answer(running, "deletions")["folders"])
    assert answer(running, "deletions", "approve", running.folder)["files"] == 6
    wait_for(lambda: running.status()["photos"] == 0)
    assert running.asked("deletions", "approve", "/elsewhere")[0] == 1
    (running.root / "away").rename(running.folder)
    wait_for(lambda: running.status()["files"] == 6)


def test_deleting_many_at_once_by_hand_is_not_held(running: Any) -> None:
    shutil.rmtree(running.folder / "trip")
    assert answer(running, "sync")["files"] == 1
    assert running.up_to_date()["held_deletions"] == 0
    running.assert_equals_disk()


def test_once_says_why_deletions_are_held(running: Any) -> None:
    running.stop()
    (running.folder / "trip").rename(running.root / "trip")
    done = running.daemon("run", "--config", running.root / "lookalike.yaml", "--once")
    assert done.returncode == 0
    assert b"the index may differ from the disk" in done.stderr
    assert b"5 of 6 photos are missing from it" in done.stderr


def test_a_sound_library_verifies_deeply(at_rest: Any) -> None:
    status, out, _ = at_rest.asked("verify", "--deep")
    assert status == 0
    found = answer(at_rest, "verify", "--deep")
    assert (found["differences"], found["sampled"], found["files"], found["photos"]) == ([], 6, 6, 6)
    assert out


def test_metrics_are_served_on_the_socket(at_rest: Any) -> None:
    import http.client
    import socket

    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.fspath(at_rest.socket))
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    assert "\nlookalike_files 6.0\n" in text
    assert "\nlookalike_overflows_total 0.0\n" in text


def test_stopping_answers_whoever_waits_for_a_sync(running: Any, wait_for: Wait) -> None:
    still = open(running.folder / "slow.jpg", "wb")  # noqa: SIM115 - held open for the whole test
    results: list[tuple[int, str, str]] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.1):
            still.write(b"x")
            still.flush()

    writers = [threading.Thread(target=write), threading.Thread(target=lambda: results.append(running.asked("sync")))]
    for one in writers:
        one.start()
    try:
        wait_for(lambda: running.status()["pending"])
        assert running.stop() == 0
        wait_for(lambda: results)
    finally:
        stop.set()
        for one in writers:
            one.join()
        still.close()
    assert results[0][0] in (1, 69)
