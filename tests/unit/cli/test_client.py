from __future__ import annotations

import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cli.client import Client, Query
from cli.errors import CliError, DaemonUnreachable, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import FakeDaemon, Lookalike


def ask(path: Path, timeout_seconds: float = 5) -> Any:
    with Client(path, timeout_seconds=timeout_seconds) as client:
        return client.status().answer


def listen(path: Path, backlog: int = 5) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(backlog)
    return listener


def test_the_status_is_the_daemons(daemon: FakeDaemon, status_answer: dict[str, Any]) -> None:
    daemon.will_answer(status_answer)

    assert ask(daemon.socket) == status_answer


def test_a_refusal_has_a_code_and_a_sentence(daemon: FakeDaemon) -> None:
    daemon.will_refuse("unavailable", "Milvus is away.", status=503)

    with pytest.raises(RefusedError, match=r"^Milvus is away\.$") as caught:
        ask(daemon.socket)
    assert caught.value.code == "unavailable"


def test_a_later_schema_asks_for_an_upgrade(daemon: FakeDaemon) -> None:
    daemon.will_answer({"schema": 2})

    with pytest.raises(CliError, match=r"^this lookalike is older than the daemon: it knows schema 1, the daemon"):
        ask(daemon.socket)


@pytest.mark.parametrize("answer", [b"Internal Server Error", b"[]", b"{}", b"\xff", b""])
def test_an_answer_that_is_not_the_daemons_is_one_sentence(daemon: FakeDaemon, answer: bytes) -> None:
    daemon.will_answer(answer, status=500)

    with pytest.raises(CliError, match=r"does not answer like lookaliked \(HTTP status 500\)$"):
        ask(daemon.socket)


def test_without_a_daemon_the_sentence_says_how_to_start_it(socket_directory: Path) -> None:
    path = socket_directory / "x.sock"

    with pytest.raises(DaemonUnreachable) as caught:
        ask(path)
    assert str(caught.value) == (
        f"lookaliked is not running (nothing listens on {path}); start it with: lookaliked run ~/Pictures"
    )


def test_a_socket_left_behind_counts_as_no_daemon(socket_directory: Path) -> None:
    path = socket_directory / "x.sock"
    listen(path).close()

    with pytest.raises(DaemonUnreachable, match=r"^lookaliked is not running"):
        ask(path)


def test_a_socket_without_permission_is_one_sentence(socket_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    # Root, who may run the tests, may open every socket.
    monkeypatch.setattr(socket.socket, "connect", refuse)

    with pytest.raises(DaemonUnreachable, match=r"^you may not ask this lookaliked: permission denied on /"):
        ask(socket_directory / "x.sock")


def test_a_path_too_long_for_a_socket_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="longer than the 107 bytes"):
        ask(tmp_path / ("x" * 108))


def test_any_other_fault_of_the_path_is_one_sentence(photo: Path) -> None:
    with pytest.raises(DaemonUnreachable, match=r"^cannot connect to .*: Not a directory$"):
        ask(photo / "x.sock")


def test_a_silent_daemon_is_given_up(socket_directory: Path) -> None:
    path = socket_directory / "x.sock"

    with listen(path), pytest.raises(DaemonUnreachable, match=r"^lookaliked did not answer within 0\.05 seconds"):
        ask(path, timeout_seconds=0.05)


def test_a_daemon_that_was_told_to_wait_may_be_silent_for_longer(socket_directory: Path) -> None:
    path = socket_directory / "x.sock"

    with (
        listen(path),
        Client(path, timeout_seconds=0.05) as client,
        pytest.raises(DaemonUnreachable, match=r"^lookaliked did not answer within 0\.15 seconds"),
    ):
        client.sync(None, wait_seconds=0.1)


def test_a_daemon_that_takes_no_connection_is_given_up(socket_directory: Path) -> None:
    path = socket_directory / "x.sock"
    with listen(path, backlog=0), socket.socket(socket.AF_UNIX) as first:
        first.connect(str(path))

        with pytest.raises(DaemonUnreachable, match=r"^lookaliked did not take the connection within 0\.05 seconds"):
            ask(path, timeout_seconds=0.05)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"SSH-2.0\r\n"])
def test_a_daemon_that_hangs_up_is_one_sentence(socket_directory: Path, answer: bytes) -> None:
    path = socket_directory / "x.sock"

    def hang_up(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    with listen(path) as listener:
        thread = threading.Thread(target=hang_up, args=(listener,), name="daemon that hangs up")
        thread.start()
        with pytest.raises(DaemonUnreachable, match=r"^lookaliked closed the connection before it answered"):
            ask(path)
        thread.join()


def test_a_model_name_is_quoted() -> None:
    assert Query(5, ("a&b/\udcff", "c"), "rrf").target() == "/v1/search?limit=5&model=a%26b%2F%FF&model=c&fuse=rrf"
    assert Query(5).target() == "/v1/search?limit=5"
    assert Query().target() == "/v1/search"


def test_a_missing_daemon_is_exit_code_69(lookalike: Lookalike, photo: Path) -> None:
    for arguments in (
        ["status"],
        ["search", "photo.jpg"],
        ["search", "a", "+", "b"],
        ["compare", "a"],
        ["sync"],
        ["verify"],
        ["failures"],
        ["deletions", "list"],
    ):
        done = lookalike(*arguments)

        assert (done.returncode, done.stdout) == (69, b"")
        assert done.stderr.startswith(b"lookaliked is not running (nothing listens on /")
        assert done.stderr.count(b"\n") == 1


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock on the data directory of whoever has `tmp_path` for XDG_DATA_HOME, and answers nobody."""
    script = tmp_path / "lookaliked"
    script.write_text(
        "import sys; from pathlib import Path; from daemon.index.embedded import DataLock\n"
        "lock = DataLock(Path(sys.argv[2])); lock.acquire(); print(flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, str(script), "run", str(tmp_path / "lookalike")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process
        process.communicate()


def test_when_nothing_answers_each_command_names_the_process_that_holds_the_lock(
    lookalike: Lookalike, photo: Path, tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    named = f"{tmp_path}/lookalike is locked by process {holder.pid} (lookaliked run {tmp_path}/lookalike)"
    for arguments in (["status"], ["search", "photo.jpg"], ["sync"], ["failures"], ["export", "-"], ["reload"]):
        done = lookalike(*arguments, XDG_DATA_HOME=str(tmp_path))
        assert done.returncode == 69
        assert done.stderr.decode().startswith(f"lookaliked does not answer: nothing listens on {lookalike.socket}")
        assert named in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1
    assert named in lookalike("status", LOOKALIKE_DATA_DIR=str(tmp_path / "lookalike")).stderr.decode()
    with listen(lookalike.socket):
        done = lookalike("status", LOOKALIKE_TIMEOUT="0.05", XDG_DATA_HOME=str(tmp_path))
    assert done.stderr.decode().startswith("lookaliked did not answer within 0.05 seconds")
    assert named in done.stderr.decode()


def test_a_lock_file_that_nobody_holds_is_no_daemon(lookalike: Lookalike, tmp_path: Path) -> None:
    (tmp_path / "lookalike").mkdir()
    (tmp_path / "lookalike" / "lock").write_text("1\n")
    done = lookalike("status", XDG_DATA_HOME=str(tmp_path))
    assert done.stderr.startswith(b"lookaliked is not running (nothing listens on ")


def test_a_hanging_daemon_is_exit_code_69(lookalike: Lookalike) -> None:
    with listen(lookalike.socket):
        done = lookalike("status", LOOKALIKE_TIMEOUT="0.05")

    assert (done.returncode, done.stdout) == (69, b"")
    assert done.stderr == f"lookaliked did not answer within 0.05 seconds (on {lookalike.socket})\n".encode()


def test_the_socket_option_goes_before_the_environment(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any]
) -> None:
    daemon.will_answer(status_answer)

    done = lookalike("status", "--socket", str(daemon.socket), LOOKALIKE_SOCKET="/nonexistent.sock")

    assert done.returncode == 0
