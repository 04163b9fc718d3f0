"""The lock, the socket, the service and the clock: real locks of real processes, real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.doctor import Heard, Patient, examine
from daemon.doctor.census import taken
from daemon.doctor.checks import clock
from daemon.doctor.context import assembled
from daemon.doctor.machine import Machine
from daemon.doctor.users import User
from daemon.holder import lock_holder
from daemon.index.embedded import DataLock, ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.doctor.conftest import Clinic

HOLD = """
import sys
from pathlib import Path
from daemon.index.embedded import DataLock
lock = DataLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(data_dir: Path) -> Iterator[int]:
    """Have another process hold the lock; yield its id."""
    command = [sys.executable, "-c", HOLD, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.communicate(b"")


def test_a_lock_that_is_held_while_nobody_answers_is_a_problem_with_its_process(clinic: Clinic) -> None:
    with holding(clinic.data_dir) as pid:
        found = clinic.worst("lock")

    assert found.level == "problem"
    assert f"is in the hands of process {pid} ({sys.executable} -c" in found.sentence
    assert found.mend[1].startswith(f"kill {pid} ")


def test_looking_at_a_lock_does_not_take_it(clinic: Clinic) -> None:
    lock = DataLock(clinic.data_dir)
    lock.acquire()

    assert lock_holder(clinic.data_dir / "lock", Machine().proc) == os.getpid()
    lock.release()
    assert lock_holder(clinic.data_dir / "lock", Machine().proc) is None
    DataLock(clinic.data_dir).acquire()


def test_a_lock_file_without_a_process_is_harmless(clinic: Clinic) -> None:
    clinic.data_dir.mkdir()
    (clinic.data_dir / "lock").write_text("4242\n")

    (found,) = clinic.look("lock")

    assert (found.level, "was left by process 4242, which has ended, and is harmless" in found.sentence) == ("ok", True)


def test_a_store_that_outlived_its_daemon_is_told_of(clinic: Clinic) -> None:
    clinic.data_dir.mkdir()
    (clinic.data_dir / "lock").touch()
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        identity.write(clinic.data_dir / "valkey.pid")
        found = clinic.worst("lock")
        process.kill()

    assert (found.level, found.mend) == ("warning", (f"kill {process.pid}",))


def bound(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    return one


def test_a_socket_that_nobody_listens_on_was_left(clinic: Clinic) -> None:
    bound(clinic.socket).close()

    found = clinic.worst("socket")

    assert (found.level, f"nobody listens on {clinic.socket}" in found.sentence) == ("warning", True)


def test_a_file_in_the_place_of_the_socket_is_a_problem(clinic: Clinic) -> None:
    clinic.socket.parent.mkdir()
    clinic.socket.touch()

    found = clinic.worst("socket")

    assert (found.level, found.mend) == ("problem", (f"mv {clinic.socket} {clinic.socket}.old",))


def test_a_path_that_no_socket_can_have_is_a_problem(clinic: Clinic) -> None:
    found = clinic.worst("socket", socket=clinic.root / ("x" * 120))

    assert (found.level, "has at most 107 bytes" in found.sentence) == ("problem", True)


def test_a_socket_for_everybody_is_a_problem(clinic: Clinic) -> None:
    bound(clinic.socket).close()
    clinic.socket.chmod(0o666)

    found = clinic.worst("socket")

    assert (found.level, found.mend) == ("problem", (f"chmod o-rw {clinic.socket}",))


@pytest.mark.needs_root("only root can become another user")
def test_a_socket_that_somebody_may_not_ask_on_is_a_problem_of_theirs(
    clinic: Clinic, as_nobody: Callable[[Callable[[], Any]], Any]
) -> None:
    clinic.root.chmod(0o755)
    bound(clinic.socket).close()
    clinic.socket.parent.chmod(0o755)
    clinic.socket.chmod(0o600)
    # Whatever is imported on the way, nobody may not be able to read.
    clinic.look("socket")

    look = clinic.prepared("socket")
    (found,) = as_nobody(lambda: [asdict(finding) for finding in look()])

    assert found["level"] == "problem"
    assert found["sentence"] == f"you may not ask on {clinic.socket}: it belongs to root and root, mode 0600"


def test_what_answers_in_another_language_is_told(clinic: Clinic) -> None:
    with bound(clinic.socket) as listening:
        listening.listen()
        found = clinic.worst("socket")

    assert (found.level, found.sentence) == ("problem", "the daemon does not answer: nobody answers")


def test_another_users_folders_are_looked_at_as_oneself_and_that_is_said(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.data_dir.mkdir()
    monkeypatch.setattr(User, "owning", lambda _: User(4242, 4242, (), "ann"))
    monkeypatch.setattr(User, "can_be_become", property(lambda user: user.uid != 4242))
    (clinic.folder / "a.jpg").touch()

    told, counted = clinic.look("folders")

    assert told.level == "note"
    assert told.sentence.startswith("the daemon runs as ann, and what follows is what ")
    assert told.mend == (
        f"sudo --preserve-env $(command -v lookalike) doctor --config {clinic.file} --socket {clinic.socket} {clinic.folder}",
    )
    assert counted.sentence == f"{clinic.folder}: 1 photo in 1 directory"


def test_another_version_than_this_is_a_warning(clinic: Clinic) -> None:
    bound(clinic.socket).close()
    clinic.status = {"data_dir": str(clinic.data_dir), "version": "0.0.1", "folders": [], "stores": []}

    found = clinic.worst("socket")

    assert (found.level, "lookaliked 0.0.1, and this is lookalike" in found.sentence) == ("warning", True)


def test_a_clock_that_is_behind_what_was_written_before_is_a_problem(clinic: Clinic) -> None:
    clinic.data_dir.mkdir()
    (clinic.data_dir / "lock").touch()
    os.utime(clinic.data_dir / "lock", (time.time() + 5 * 86_400,) * 2)

    found = clinic.worst("clock")

    assert (found.level, "5 days before" in found.sentence) == ("problem", True)


def systemd(clinic: Clinic, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Let systemd run here, as far as its commands are these shell scripts."""
    (clinic.root / "run" / "systemd" / "system").mkdir(parents=True)
    commands = clinic.root / "bin"
    commands.mkdir()
    for name, script in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    clinic.machine = Machine(clinic.root)


def unit(user: str, system: str = "LoadState=not-found", listening: str = "inactive") -> str:
    def printed(lines: str) -> str:
        return "; ".join(f"echo {line}" for line in lines.split())

    return (
        f'case "$*" in *lookaliked.socket*) echo ActiveState={listening};; '
        f"--user*) {printed(user)};; *) {printed(system)};; esac"
    )


FAILED = "LoadState=loaded UnitFileState=enabled ActiveState=failed Result=exit-code ExecMainStatus=78 NRestarts=0"
STOPPED = "LoadState=loaded UnitFileState=enabled ActiveState=inactive NRestarts=0"
RUNNING = "LoadState=loaded UnitFileState=enabled ActiveState=active NRestarts=3 NeedDaemonReload=yes"


def test_without_systemd_that_is_said(clinic: Clinic) -> None:
    clinic.machine = Machine(clinic.root)

    assert [finding.level for finding in clinic.look("service")] == ["note"]


def test_a_unit_that_failed_for_its_configuration_says_so(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd(clinic, monkeypatch, systemctl=unit(FAILED), loginctl="echo Linger=yes")

    (found,) = clinic.look("service")

    assert (found.level, "status 78: its configuration cannot be used" in found.sentence) == ("problem", True)
    assert found.mend[0] == "journalctl --user --unit lookaliked --lines 50"
    assert found.mend[1].startswith("systemctl --user restart lookaliked")


def test_a_unit_that_does_not_run_is_a_warning_unless_its_socket_waits(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd(clinic, monkeypatch, systemctl=unit(STOPPED), loginctl="echo Linger=yes")
    assert clinic.worst("service").mend[0] == "systemctl --user start lookaliked"

    (clinic.root / "bin" / "systemctl").write_text(f"#!/bin/sh\n{unit(STOPPED, listening='active')}\n")
    assert [finding.level for finding in clinic.look("service")] == ["ok"]


def test_lingering_restarts_and_a_changed_unit_are_told_of(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd(clinic, monkeypatch, systemctl=unit(RUNNING), loginctl="echo Linger=no")

    runs, restarts, changed, lingers = clinic.look("service")

    assert (runs.level, "restarted 3 times" in restarts.sentence) == ("ok", True)
    assert changed.mend == ("systemctl --user daemon-reload",)
    assert lingers.mend == (f"loginctl enable-linger {User.asking().name}",)


def test_no_unit_and_no_answer_are_two_things(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd(clinic, monkeypatch, systemctl=unit("LoadState=not-found"))
    assert clinic.look("service")[0].mend == ("lookaliked install-service --user",)

    (clinic.root / "bin" / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    assert "does not say" in clinic.look("service")[0].sentence


def test_a_command_that_hangs_is_given_up(tmp_path: Path) -> None:
    started = time.monotonic()

    assert Machine().run("sleep", "60", seconds=0.2) is None
    assert Machine().run("no-such-command-anywhere") is None
    assert time.monotonic() - started < 10


def ask(_: Path) -> Heard:
    return Heard(None, "nobody answers")


def test_a_check_that_fails_costs_no_other_one(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprised(_: Any) -> Any:
        raise ValueError("what is this?")

    monkeypatch.setattr(clock, "check", surprised)
    found = list(examine(Patient(ask, clinic.file, (clinic.folder,))))

    (told,) = [finding for finding in found if finding.check == "clock"]
    assert (told.level, "(ValueError: what is this?)" in told.sentence) == ("warning", True)
    assert found[-1].check == "state"


def test_a_configuration_that_hangs_whoever_reads_it_does_not_hang_the_examination() -> None:
    # As a file on a server that is away: what a shell passes is read to its end, and the end does not come.
    reader, writer = os.pipe()

    found = list(examine(Patient(ask, Path(f"/dev/fd/{reader}")), check_seconds=0.5))

    assert [(finding.check, finding.level) for finding in found] == [("configuration", "problem")]
    assert "did not come to an end within 0.5 s" in found[0].sentence
    # Lets the thread go that was left behind.
    os.close(writer)
    os.close(reader)


def test_a_folder_that_hangs_whoever_counts_it_is_given_up(clinic: Clinic) -> None:
    census = taken(clinic.folder, (), User.asking(), seconds=-10.0)

    assert census.reason == "its file system does not answer"


def test_the_daemon_of_the_machine_is_examined_where_there_is_no_other(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = clinic.root / "etc" / "lookalike" / "lookalike.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"folders: [{clinic.folder}]\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(clinic.root / "nobody"))
    for name in ("CONFIGURATION", "STATE", "CACHE", "RUNTIME"):
        # Restored after the test.
        monkeypatch.setenv(f"{name}_DIRECTORY", "")

    context = assembled(Patient(ask, machine=Machine(clinic.root)))

    assert (context.file, context.refusal) == (file, None)
    assert context.data_dir == clinic.root / "var" / "lib" / "lookalike"
    assert context.socket == clinic.root / "run" / "lookalike" / "lookalike.sock"


def test_a_user_without_a_home_is_told_so(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "LOOKALIKE_DATA_DIR", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    # The examination gives this process one that is not there.
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr("pwd.getpwuid", _nobody_knows)

    context = assembled(Patient(ask, machine=Machine(clinic.root)))

    assert context.refusal is not None
    assert "there is no home directory: set HOME" in str(context.refusal)


def test_a_user_without_a_home_whose_places_are_named_needs_none(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", _nobody_knows)

    assert assembled(Patient(ask, clinic.file)).refusal is None


def _nobody_knows(uid: int) -> None:
    raise KeyError(uid)
