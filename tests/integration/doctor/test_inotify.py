from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from daemon.doctor.machine import Machine
from daemon.doctor.processes import inotify_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.doctor.conftest import Clinic

WATCHES = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(0)
for path in sys.argv[1:]:
    libc.inotify_add_watch(fd, os.fsencode(path), 0x100)
print("ready", flush=True)
sys.stdin.read()
"""


def directories(clinic: Clinic, number: int) -> None:
    for index in range(number):
        (clinic.folder / f"d{index}").mkdir()


def test_fewer_watches_than_directories_are_a_problem_with_the_sysctl_that_mends_it(clinic: Clinic) -> None:
    directories(clinic, 30)
    clinic.limits(max_user_watches=20)

    found = clinic.worst("inotify")

    assert found.level == "problem"
    assert "watches: 31 for the directories here, " in found.sentence
    assert "20 allowed (fs.inotify.max_user_watches): what gets none is polled, every 60 s" in found.sentence
    assert found.mend == (
        "sudo sysctl -w fs.inotify.max_user_watches=524288",
        (
            "echo fs.inotify.max_user_watches=524288 | sudo tee /etc/sysctl.d/60-lookalike-max-user-watches.conf"
            "  # keeps it after a restart of the machine"
        ),
    )


def test_little_that_is_left_is_a_warning(clinic: Clinic) -> None:
    directories(clinic, 30)
    clinic.limits(max_user_watches=35)

    assert clinic.worst("inotify").level == "warning"


def test_enough_is_said_with_its_numbers(clinic: Clinic) -> None:
    clinic.limits()

    (found,) = clinic.look("inotify")

    assert found.level == "ok"
    assert found.sentence.startswith("watches: 1 for the directories here, 0 held by other programs")


@pytest.mark.parametrize(("limit", "level"), [(0, "problem"), (5, "warning")])
def test_instances_are_counted_by_the_folder(clinic: Clinic, limit: int, level: str) -> None:
    clinic.limits(max_user_instances=limit)

    found = clinic.worst("inotify")

    assert (found.level, "max_user_instances" in found.sentence) == (level, True)
    assert found.mend[0] == "sudo sysctl -w fs.inotify.max_user_instances=512"


def test_a_short_queue_is_a_warning(clinic: Clinic) -> None:
    clinic.limits(max_queued_events=100)

    found = clinic.worst("inotify")

    assert (found.level, found.mend[0]) == ("warning", "sudo sysctl -w fs.inotify.max_queued_events=16384")


def test_a_folder_that_is_polled_needs_no_watch(clinic: Clinic) -> None:
    directories(clinic, 30)
    clinic.limits(max_user_watches=20)
    clinic.configure(f"folders: [{{path: {clinic.folder}, watch: poll}}]\n")

    assert clinic.worst("inotify", folders=()).level == "ok"


def test_what_another_program_of_the_user_holds_counts(clinic: Clinic) -> None:
    directories(clinic, 12)
    paths = [str(path) for path in clinic.folder.iterdir()]
    with subprocess.Popen(
        [sys.executable, "-c", WATCHES, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        clinic.limits(max_user_watches=20)
        (clinic.machine.proc / str(process.pid)).symlink_to(f"/proc/{process.pid}")

        held = inotify_of(os.geteuid(), clinic.machine.proc)
        found = clinic.worst("inotify")
        process.communicate(b"")

    assert (held.instances, held.watches, held.hidden) == (1, 12, 0)
    assert found.level == "problem"
    assert "13 for the directories here, 12 held by other programs" in found.sentence


def test_a_system_without_these_limits_is_told_of(clinic: Clinic, tmp_path: Path) -> None:
    clinic.machine = Machine(tmp_path)

    assert [finding.level for finding in clinic.look("inotify")] == ["note"]
