"""The configuration read again by a daemon that runs: what changes is in force, nothing that is known is lost, and no query is refused."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.conftest import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.conftest import Lookalike, Photos

Wait = Any


class Configured:
    """A daemon with a configuration file that a test changes."""

    def __init__(self, one: Lookalike, photos: Photos) -> None:
        self.one = one
        self.photos = photos
        self.file = one.root / "lookalike.yaml"
        self.other = one.root / "other"
        self.other.mkdir()

    def write(self, *folders: Path, models: str = "efficientnet-lite0", more: str = "") -> None:
        listed = ", ".join(f"'{folder}'" for folder in folders)
        # At once: it may be read at any moment.
        whole = self.file.with_suffix(".new")
        whole.write_text(f"folders: [{listed}]\nmodels: [{models}]\n{more}\n", encoding="utf-8")
        whole.replace(self.file)

    def reload(self, *, status: int = 0) -> dict[str, Any]:
        done = self.one.command("reload", "--json")
        assert done.returncode == status, done.stderr.decode()
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def sync(self) -> None:
        done = self.one.command("sync")
        assert done.returncode == 0, done.stderr.decode()

    def found(self, path: Path) -> list[str]:
        """Return the files that a photo's bytes are found under, first."""
        done = self.one.command("search", path, "--json", "--limit", "1")
        assert done.returncode == 0, done.stderr.decode()
        results = json.loads(done.stdout)["results"]
        return [file for result in results if result["score"] > 0.999 for file in result["paths"]]

    def verified(self) -> bool:
        done = self.one.command("verify")
        assert done.returncode == 0, done.stdout.decode()
        return True


@pytest.fixture
def configured(lookalike: Lookalike, photos: Photos) -> Iterator[Configured]:
    one = Configured(lookalike, photos)
    for number in range(4):
        photos.write(lookalike.folder / f"{number}.jpg", number)
        photos.write(one.other / f"{number}.jpg", 10 + number)
    one.write(lookalike.folder)
    lookalike.start("--config", one.file)
    one.sync()
    yield one
    assert "Traceback" not in lookalike.said()


def test_folders_come_and_go_and_come_back_without_being_encoded_again(configured: Configured) -> None:
    one, photo = configured.one, configured.other / "1.jpg"
    stores = {child.pid for child in one.children}
    configured.write(one.folder, configured.other)
    assert configured.reload() == {"schema": 1, "applied": ["folders"], "restart": []}
    configured.sync()
    assert configured.found(photo) == [str(photo)]
    assert one.status()["encoded"] == 8

    configured.write(one.folder)
    configured.reload()
    assert configured.found(photo) == []
    assert one.status()["files"] == 4

    configured.write(one.folder, configured.other)
    configured.reload()
    configured.sync()
    assert configured.found(photo) == [str(photo)]
    assert one.status()["encoded"] == 8, "what was known is encoded again"
    configured.photos.write(configured.other / "new.jpg", 99)
    configured.sync()
    assert one.status()["files"] == 9
    assert configured.verified()
    assert len(stores & {child.pid for child in one.children}) >= 2


def test_models_join_and_leave_while_others_answer(configured: Configured) -> None:
    one = configured.one
    configured.write(one.folder, models="efficientnet-lite0, efficientnet-lite1")
    assert configured.reload()["applied"] == ["models"]
    configured.sync()
    done = one.command("search", one.folder / "1.jpg", "--model", "efficientnet-lite1", "--paths", "--limit", "1")
    assert done.stdout.decode() == f"{one.folder / '1.jpg'}\n"
    configured.write(one.folder)
    configured.reload()
    assert one.command("search", one.folder / "1.jpg", "--model", "efficientnet-lite1").returncode == 1
    status = one.status()
    assert [model["name"] for model in status["models"]] == ["efficientnet-lite0"]
    assert [model["name"] for model in status["retired_models"]] == ["efficientnet-lite1"]
    configured.write(one.folder, models="efficientnet-lite1, efficientnet-lite0")
    encoded = one.status()["encoded"]
    configured.reload()
    configured.sync()
    assert one.status()["encoded"] == encoded, "vectors that were kept are made again"
    assert [model["name"] for model in one.status()["models"]] == ["efficientnet-lite1", "efficientnet-lite0"]
    assert configured.verified()


def test_limits_hold_for_what_comes(configured: Configured) -> None:
    one = configured.one
    configured.write(one.folder, more="limits: {max_pixels: 1000}\nsearch: {limit: 2}")
    assert configured.reload()["applied"] == ["limits.max_pixels", "search.limit"]
    configured.photos.write(one.folder / "large.jpg", 50)
    configured.sync()
    assert one.status()["failures"] == 1
    done = one.command("search", one.folder / "1.jpg", "--json")
    assert len(json.loads(done.stdout)["results"]) == 2
    configured.write(one.folder)
    configured.reload()
    assert one.command("failures", "retry").returncode == 0
    configured.sync()
    assert one.status()["failures"] == 0
    assert one.status()["files"] == 5


def test_a_bad_file_changes_nothing_and_says_all_that_is_wrong(configured: Configured, wait_for: Wait) -> None:
    one = configured.one
    before = one.status()
    configured.file.write_text(
        f"folders: ['{one.folder}']\nlimits: {{max_pixels: 0}}\nflavour: mild\n", encoding="utf-8"
    )
    done = one.command("reload")
    assert (done.returncode, done.stdout) == (78, b"")
    said = done.stderr.decode()
    assert f"{configured.file} cannot be used, and nothing has changed" in said
    assert "limits.max_pixels" in said
    assert "flavour" in said
    assert one.process is not None
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "the configuration stays as it was" in one.said())
    after = one.status()
    assert after["folders"] == before["folders"]
    assert after["models"] == before["models"]
    assert configured.found(one.folder / "1.jpg") == [str(one.folder / "1.jpg")]


def test_what_would_be_wrong_beside_what_cannot_change_is_refused(configured: Configured) -> None:
    one = configured.one
    # Not inside the directory that the file names, but inside the one that is in use.
    configured.write(one.folder, one.data_dir, more=f"data_dir: '{one.root / 'elsewhere'}'")
    done = one.command("reload")
    assert done.returncode == 78
    assert str(one.data_dir) in done.stderr.decode()


def test_keys_that_need_a_restart_are_named(configured: Configured) -> None:
    one = configured.one
    configured.write(one.folder, more="library: another\nwatch: {settle_seconds: 0.5}")
    assert configured.reload() == {"schema": 1, "applied": ["watch.settle_seconds"], "restart": ["library"]}
    assert one.status()["library"] == "default"
    assert "after a restart: library" in one.command("reload").stdout.decode()


def test_a_signal_does_the_same(configured: Configured, wait_for: Wait) -> None:
    one = configured.one
    configured.write(one.folder, configured.other)
    assert one.process is not None
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "the configuration was read again: folders" in one.said())
    configured.sync()
    assert configured.found(configured.other / "2.jpg") == [str(configured.other / "2.jpg")]


def test_signals_in_a_row_end_with_what_the_file_said_last(configured: Configured, wait_for: Wait) -> None:
    one = configured.one
    assert one.process is not None
    for number in range(5):
        configured.write(one.folder, more=f"search: {{limit: {10 + number}}}")
        one.process.send_signal(signal.SIGHUP)
    configured.write(one.folder, configured.other)
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(one.status()["folders"]) == 2)
    assert "the configuration stays as it was" not in one.said()


def test_a_signal_is_not_lost_while_an_import_is_running(configured: Configured, wait_for: Wait) -> None:
    one = configured.one
    configured.write(one.folder, configured.other)
    with socket.socket(socket.AF_UNIX) as importing:
        importing.connect(str(one.socket))
        # It has a turn as soon as something of it is there, and is waited for a while.
        importing.sendall(b"POST /v1/import HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nl\r\n")
        wait_for(lambda: "an import is running" in one.command("verify").stderr.decode())
        assert one.process is not None
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the configuration is read again a little later: an import is running" in one.said())
        assert len(one.status()["folders"]) == 1
    wait_for(lambda: len(one.status()["folders"]) == 2)


def test_a_model_that_cannot_be_used_leaves_the_others_as_they_were(configured: Configured) -> None:
    one = configured.one
    configured.write(one.folder, configured.other, models="efficientnet-lite0, clip-vit-b32")
    done = one.command("reload")
    assert done.returncode == 78
    assert "clip-vit-b32" in done.stderr.decode()
    assert len(one.status()["folders"]) == 1
    assert configured.verified()


def test_in_a_terminal_a_hangup_ends_it(lookalike: Lookalike, wait_for: Wait) -> None:
    leader, follower = pty.openpty()
    # It leads a session of its own, whose terminal is this one.
    command = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    with lookalike.log.open("ab") as log:
        process = subprocess.Popen(
            [BIN / "python", "-c", command, str(BIN / "lookaliked"), "run", str(lookalike.folder)],
            env=lookalike.environment, stdin=follower, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    os.close(follower)
    lookalike.process = process
    wait_for(lambda: "answers at" in lookalike.said())
    os.close(leader)
    assert process.wait(30) == 0
    assert "SIGHUP: finishing the work in hand" in lookalike.said()


def test_reloads_in_a_row_lose_neither_a_photo_nor_a_query(configured: Configured) -> None:
    one, refused = configured.one, []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            asked = one.command("search", one.folder / "1.jpg", "--paths", "--limit", "1")
            if asked.stdout.decode() != f"{one.folder / '1.jpg'}\n":
                refused.append(asked.stderr.decode())

    def copy() -> None:
        for number in range(60):
            configured.photos.write(configured.other / f"copied-{number}.jpg", 100 + number)
            time.sleep(0.05)

    threads = [threading.Thread(target=ask), threading.Thread(target=copy)]
    for thread in threads:
        thread.start()
    for number in range(8):
        models = "efficientnet-lite0, efficientnet-lite1" if number % 4 == 1 else "efficientnet-lite0"
        configured.write(one.folder, *([configured.other] if number % 2 else []), models=models)
        configured.reload()
    threads[1].join()
    done.set()
    threads[0].join()
    assert refused == []
    configured.write(one.folder, configured.other)
    configured.reload()
    configured.sync()
    assert one.status()["files"] == 68
    assert configured.verified()
