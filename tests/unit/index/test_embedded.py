"""The parts of the embedded servers that need no server."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from daemon.directories import make_directory
from daemon.errors import AlreadyRunning, ConfigError, StoreUnavailable
from daemon.index import child
from daemon.index.embedded import (
    LOG_ROTATE_BYTES,
    RESTART_DELAYS_SECONDS,
    ChildLog,
    Damage,
    DataLock,
    EmbeddedMilvus,
    EmbeddedServer,
    EmbeddedValkey,
    ProcessIdentity,
    accepts_connections,
    ask,
    describe_exit,
    wait_until,
)
from daemon.logs.floods import FloodHandler, Floods

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


DAMAGED = 65


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sleeper(EmbeddedServer):
    """A child that does nothing; it is taken to answer at once."""

    name = "sleeper"
    store = "Redis"
    url_prefix = "unix:"
    program = "import time; time.sleep(60)"

    def command(self) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", self.program]

    def answers(self) -> bool:
        return True

    def damage_said(self, status: int) -> Damage | None:
        return Damage("torn", "it says so") if status == DAMAGED else None

    @property
    def dead(self) -> bool:
        return self._process is not None and self._process.poll() is not None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sleeper(tmp_path: Path, clock: Clock) -> Iterator[Sleeper]:
    server = Sleeper(tmp_path / "data", tmp_path / "run", clock=clock)
    yield server
    server.stop()


def kill(server: Sleeper) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: server.dead, 5)


def test_a_dead_child_is_started_again_after_the_first_delay(
    sleeper: Sleeper, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper.start()
    kill(sleeper)
    sleeper.check()
    assert sleeper.restarts == 0
    assert "sleeper was ended by SIGKILL and is started again in 1 s" in caplog.text

    clock.now += RESTART_DELAYS_SECONDS[0]
    sleeper.check()
    assert sleeper.restarts == 1
    assert not sleeper.dead


def test_the_delay_between_restarts_grows_to_a_limit(sleeper: Sleeper, clock: Clock) -> None:
    sleeper.start()
    for delay in (*RESTART_DELAYS_SECONDS, RESTART_DELAYS_SECONDS[-1]):
        before = sleeper.restarts
        kill(sleeper)
        sleeper.check()
        clock.now += delay - 0.5
        sleeper.check()
        assert sleeper.restarts == before
        clock.now += 0.5
        sleeper.check()
        assert sleeper.restarts == before + 1


def test_a_child_that_ran_well_starts_again_with_the_shortest_delay(sleeper: Sleeper, clock: Clock) -> None:
    sleeper.start()
    for _ in range(3):
        kill(sleeper)
        sleeper.check()
        clock.now += 100
        sleeper.check()
        clock.now += 100
    kill(sleeper)
    sleeper.check()
    clock.now += RESTART_DELAYS_SECONDS[0]
    sleeper.check()
    assert sleeper.restarts == 4


def test_a_restart_that_fails_is_tried_again_and_does_not_raise(
    sleeper: Sleeper, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper.start()
    kill(sleeper)
    sleeper.check()
    clock.now += 30
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        sleeper.check()
    assert sleeper.restarts == 0
    assert "sleeper cannot be started again" in caplog.text
    clock.now += 30
    sleeper.check()
    assert sleeper.restarts == 1


def test_what_a_restart_finds_damaged_is_moved_aside_and_the_child_started_again(
    sleeper: Sleeper, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper.start()
    torn = tmp_path / "data" / "sleeper" / "torn"
    with monkeypatch.context() as patch:
        patch.setattr(Sleeper, "program", f"raise SystemExit({DAMAGED})")
        for content in ("first", "second"):
            torn.write_text(content)
            kill(sleeper) if not sleeper.dead else None
            clock.now += 30
            sleeper.check()
            clock.now += 30
            sleeper.check()
            assert wait_until(lambda: sleeper.dead, 5)
            sleeper.check()
            assert not torn.exists()
    clock.now += 30
    sleeper.check()
    assert not sleeper.dead
    aside = sorted((tmp_path / "data").glob("sleeper.damaged-*/torn"))
    assert sorted(path.read_text() for path in aside) == ["first", "second"]
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 2
    assert all("torn is damaged (it says so); moved to " in sentence for sentence in said)


def test_a_child_that_calls_what_is_not_there_damaged_is_refused_the_start(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Sleeper, "program", f"raise SystemExit({DAMAGED})")
    monkeypatch.setattr(Sleeper, "answers", lambda _: False)
    with pytest.raises(StoreUnavailable, match="did not start, it exited with status 65"):
        sleeper.start()
    assert not list((tmp_path / "data").glob("*.damaged-*"))


def test_damage_that_cannot_be_moved_aside_does_not_end_the_daemon(
    sleeper: Sleeper, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper.start()
    (tmp_path / "data" / "sleeper" / "torn").touch()

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    monkeypatch.setattr(Sleeper, "program", f"raise SystemExit({DAMAGED})")
    kill(sleeper)
    sleeper.check()
    clock.now += 30
    sleeper.check()
    assert wait_until(lambda: sleeper.dead, 5)
    sleeper.check()
    assert "sleeper cannot be started again: [Errno 13] Permission denied" in caplog.text
    assert (tmp_path / "data" / "sleeper" / "torn").exists()


def test_stop_is_harmless_when_never_started_and_when_repeated(sleeper: Sleeper) -> None:
    sleeper.stop()
    sleeper.check()
    sleeper.start()
    sleeper.stop()
    sleeper.stop()
    sleeper.check()
    assert sleeper.pid is None


def test_a_child_has_a_session_of_its_own_and_default_signals(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        monkeypatch.setattr(
            Sleeper, "program", "import signal, time; print(signal.pthread_sigmask(0, ()), flush=True); time.sleep(60)"
        )
        sleeper.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    assert sleeper.pid is not None
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert wait_until(lambda: sleeper._log.last_words == "set()", 5)


def test_a_predecessor_that_ignores_sigterm_is_killed(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("daemon.index.embedded.STOP_GRACE_SECONDS", 0.2)
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        identity = ProcessIdentity.of(stubborn.pid)
        assert identity is not None
        (tmp_path / "data").mkdir()
        identity.write(tmp_path / "data" / "sleeper.pid")
        sleeper.start()
        assert stubborn.wait(5) == -signal.SIGKILL


def test_a_recycled_pid_is_not_signalled(sleeper: Sleeper, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        identity = ProcessIdentity.of(bystander.pid)
        assert identity is not None
        (tmp_path / "data").mkdir()
        identity._replace(started_ticks=identity.started_ticks - 1).write(tmp_path / "data" / "sleeper.pid")
        sleeper.start()
        sleeper.stop()
        assert bystander.poll() is None
        bystander.communicate(b"\n")
        assert bystander.returncode == 0


@pytest.mark.parametrize("content", ["", "12", "a b c", "1 2 3 4", "\0"])
def test_a_torn_pid_file_names_no_process(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.pid").write_text(content)
    assert ProcessIdentity.read(tmp_path / "x.pid") is None


def test_a_process_that_waits_to_be_reaped_is_not_running() -> None:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]) as process:
        assert wait_until(lambda: ProcessIdentity.of(process.pid) is None, 5)


def test_the_urls_are_known_before_the_start(tmp_path: Path) -> None:
    assert EmbeddedValkey(tmp_path, tmp_path).url == f"unix://{tmp_path}/stores/valkey.sock"
    assert EmbeddedMilvus(tmp_path, tmp_path).url == f"unix:{tmp_path}/stores/milvus.sock"


def test_a_socket_path_that_is_too_long_names_the_key_to_change(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "data", tmp_path / ("r" * 120))
    length = len(str(server.socket_path))
    with pytest.raises(
        ConfigError, match=rf"valkey\.sock is {length} bytes long.* at most 107; choose a shorter runtime_dir"
    ):
        server.start()
    assert not (tmp_path / "data").exists()


def test_directories_are_made_private(tmp_path: Path) -> None:
    make_directory(tmp_path / "new", "data_dir")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_an_open_directory_of_ours_is_closed_when_it_has_to_be_private(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    make_directory(tmp_path / "open", "runtime_dir", private=True)
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="belongs to another user; choose another runtime_dir"):
        make_directory(tmp_path, "runtime_dir")


def test_a_directory_that_everyone_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by every user"):
        make_directory(tmp_path, "data_dir")


def test_a_file_in_the_place_of_a_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made a directory of ours: File exists"):
        make_directory(tmp_path / "file", "data_dir")


def test_a_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    first, second = DataLock(tmp_path / "data"), DataLock(tmp_path / "data")
    first.acquire()
    # Its command is that of pytest, or of a worker that pytest started.
    holder = rf"data is locked by process {os.getpid()} \(python.*\)\. Stop that process"
    with pytest.raises(AlreadyRunning, match=holder):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_the_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    lock = DataLock(tmp_path)
    lock.acquire()
    command = [sys.executable, "-c", "print('ready', flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, close_fds=False) as process:
        assert process.stdout is not None
        process.stdout.readline()
        lock.release()
        other = DataLock(tmp_path)
        other.acquire()
        other.release()
        process.communicate(b"\n")


def test_a_lock_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ConfigError, match="lock cannot be opened: Is a directory"):
        DataLock(tmp_path).acquire()


def test_a_large_log_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"x" * (LOG_ROTATE_BYTES + 1))
    os.close(ChildLog(path).open())
    assert path.stat().st_size == 0
    assert (tmp_path / "x.log.1").stat().st_size > LOG_ROTATE_BYTES


def test_the_last_words_are_those_of_this_start(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("of an earlier start\n")
    child_log = ChildLog(path)
    descriptor = child_log.open()
    assert child_log.last_words == ""
    os.write(descriptor, b"first\n last \n\n")
    os.close(descriptor)
    assert child_log.last_words == "last"


def test_exits_are_described_in_words() -> None:
    assert describe_exit(3) == "exited with status 3"
    assert describe_exit(-signal.SIGKILL) == "was ended by SIGKILL"
    assert describe_exit(-200) == "was ended by signal 200"


def test_a_socket_that_nobody_serves_gives_an_empty_answer(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    assert ask(path, b"PING\r\n", answer_bytes=5) == b""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert ask(path, b"PING\r\n", answer_bytes=5) == b""


def connect_without_end(path: Path, stack: contextlib.ExitStack) -> None:
    while True:
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.setblocking(False)
        waiting.connect(str(path))


def test_a_socket_whose_backlog_is_full_is_served(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(0)
        with pytest.raises(BlockingIOError):
            connect_without_end(path, stack)
        assert accepts_connections(path)
    assert not accepts_connections(path)


def run_launcher(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", child.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)


def test_the_launcher_becomes_its_command() -> None:
    done = run_launcher(str(os.getpid()), sys.executable, "-c", "print('here')")
    assert (done.returncode, done.stdout) == (0, "here\n")


def test_the_launcher_does_not_start_a_command_whose_parent_is_gone() -> None:
    done = run_launcher("1", sys.executable, "-c", "print('here')")
    assert (done.returncode, done.stdout) == (child.EXIT_ORPHANED, "")


def test_the_launcher_says_what_it_cannot_execute() -> None:
    done = run_launcher(str(os.getpid()), "/nowhere/server")
    assert done.returncode == child.EXIT_CANNOT_EXECUTE
    assert done.stderr == "/nowhere/server cannot be executed: No such file or directory\n"


def test_an_outage_of_minutes_costs_a_line_a_minute(tmp_path: Path, clock: Clock) -> None:
    """The store cannot be started for ten minutes; with a count in the line, one that stands for several may come sooner."""
    written: list[tuple[float, str]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append((clock.now, re.sub(r"\d+", "#", record.getMessage())))

    handler = FloodHandler(Kept(), Floods(clock))
    server = Sleeper(tmp_path / "data", tmp_path / "run", clock=clock)
    logging.getLogger("daemon.index").addHandler(handler)
    try:
        server.start()
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").write_text("in the way")
        kill(server)
        began = clock.now
        while clock.now < began + 600:
            server.check()
            clock.now += 0.2
    finally:
        logging.getLogger("daemon.index").removeHandler(handler)
        server.stop()
        handler.close()
    assert any("cannot be started again" in text for _, text in written)
    for text in {text for _, text in written if "more in the last" not in text}:
        times = [at for at, one in written if one == text]
        assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times)), text
    assert len(written) <= 15
