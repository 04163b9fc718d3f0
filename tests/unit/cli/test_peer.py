"""Whom a command asks: other users try to be asked instead, and learn nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cli import peer
from cli.client import Client
from cli.errors import DaemonUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.cli.conftest import FakeDaemon

NOBODY = 65534
ROOT = Path(__file__).parents[3]
root = pytest.mark.needs_root("only root can act as another user")
LISTENS = """
import os, socket, sys
path, user = sys.argv[1], int(sys.argv[2])
if sys.argv[3] == "there":
    listener = socket.socket(fileno=int(sys.argv[4]))
os.setgroups([]); os.setgid(user); os.setuid(user)
if sys.argv[3] != "there":
    if sys.argv[3] == "directory":
        os.makedirs(os.path.dirname(path), mode=0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
os.chmod(path, 0o777) if sys.argv[3] != "there" else None
listener.listen(5)
print("listens", flush=True)
heard = b""
listener.settimeout(60)
while True:
    connection, _ = listener.accept()
    connection.settimeout(1)
    try:
        heard = connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 13\\r\\n\\r\\n{\\"schema\\": 1}")
    except OSError:
        pass
    if heard:
        print("heard", heard, flush=True)
    else:
        print("nothing", flush=True)
"""


@contextlib.contextmanager
def stranger(path: Path, how: str, user: int = NOBODY) -> Iterator[subprocess.Popen[str]]:
    """Another user listens on `path`: in a `directory` of theirs, at a `socket` of theirs, or on ours that is `there`."""
    with contextlib.ExitStack() as stack:
        passed = stack.enter_context(socket.socket(socket.AF_UNIX))
        if how == "there":
            passed.bind(str(path))
            path.chmod(0o700)
        process = subprocess.Popen(
            [sys.executable, "-c", LISTENS, str(path), str(user), how, str(passed.fileno())],
            pass_fds=[passed.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listens\n"
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory such as /tmp."""
    with tempfile.TemporaryDirectory(prefix="lookalike-") as directory:
        Path(directory).chmod(0o1777)
        yield Path(directory)


def ask(path: Path) -> Any:
    with Client(path, timeout_seconds=5) as client:
        return client.status().answer


def heard(process: subprocess.Popen[str], path: Path) -> list[str]:
    """Return what the stranger has heard of a command."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        probe.sendall(b"the end")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "heard b'the end'\n")
    return [line for line in lines if line.startswith("heard")]


def as_user(user: int, code: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program as somebody who may not even read its modules."""
    become = (
        "import http.client, os, sys, cli.commands.search, cli.connection, cli.main, cli.files, cli.terms; "
        f"os.setgroups([]); os.setgid({user}); os.setuid({user}); "
    )
    command = [sys.executable, "-c", become + code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False, **options)


@root
@pytest.mark.parametrize("how", ["directory", "socket", "there"])
def test_nothing_is_sent_to_another_user_who_listens(shared: Path, how: str) -> None:
    place = shared / "lookalike-0" if how == "directory" else shared
    with stranger(place / "s", how) as process:
        with pytest.raises(DaemonUnreachable, match=r"(belongs to the user|of the user) nobody"):
            ask(place / "s")
        assert heard(process, place / "s") == []


@root
def test_a_private_picture_does_not_reach_whoever_owns_the_usual_directory(photo: Path, shared: Path) -> None:
    """Without XDG_RUNTIME_DIR and a session, the socket is looked for where everybody may make a directory."""
    user = NOBODY - 1
    place = shared / f"lookalike-{user}"
    variables = {"TMPDIR": str(shared), "HOME": "/nonexistent", "PATH": os.environ["PATH"]}
    with stranger(place / "lookalike.sock", "directory") as process:
        code = "sys.argv = ['lookalike', 'search', '-']; cli.main.main()"
        done = as_user(user, code, env=variables, input=photo.read_bytes())
        assert (done.returncode, done.stdout) == (69, b"")
        assert f"{place} is not used: it belongs to the user nobody" in done.stderr.decode()
        assert heard(process, place / "lookalike.sock") == []


@root
def test_the_socket_of_root_is_asked_by_everybody_who_may_reach_it(socket_directory: Path) -> None:
    socket_directory.chmod(0o711)
    with stranger(socket_directory / "s", "there", user=0):
        os.chown(socket_directory / "s", 0, NOBODY)
        (socket_directory / "s").chmod(0o660)
        code = (
            "from pathlib import Path; print(cli.client.Client(Path(sys.argv[1]), timeout_seconds=5).status().answer)"
        )
        done = as_user(NOBODY, code, socket_directory / "s")
        assert done.stdout == b"{'schema': 1}\n", done.stderr


@root
def test_the_daemon_of_another_user_is_asked_once_that_user_is_named(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stranger(shared / "d" / "s", "directory") as process:
        os.chmod(shared / "d" / "s", 0o700)
        with pytest.raises(DaemonUnreachable, match="set LOOKALIKE_DAEMON_USER=nobody"):
            ask(shared / "d" / "s")
        for name in ("nobody", str(NOBODY)):
            monkeypatch.setenv("LOOKALIKE_DAEMON_USER", name)
            assert ask(shared / "d" / "s") == {"schema": 1}
        monkeypatch.setenv("LOOKALIKE_DAEMON_USER", "no-such-user")
        with pytest.raises(DaemonUnreachable):
            ask(shared / "d" / "s")
        assert process.poll() is None


@root
def test_whoever_became_root_by_sudo_asks_their_own_daemon(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stranger(shared / "d" / "s", "directory"):
        os.chmod(shared / "d" / "s", 0o700)
        monkeypatch.setenv("SUDO_UID", str(NOBODY))
        assert ask(shared / "d" / "s") == {"schema": 1}


@root
@pytest.mark.parametrize("owner", ["directory", "socket"])
def test_the_service_of_the_machine_is_whoever_root_has_given_its_place_to(
    socket_directory: Path, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    """The socket unit makes its directory for root and its socket for the service; the service is given the directory later."""
    place = socket_directory / "lookalike"
    place.mkdir(mode=0o755)
    with stranger(place / "s", "there"):
        os.chown(place / "s", NOBODY, NOBODY)
        if owner == "directory":
            os.chown(place, NOBODY, NOBODY)
        with pytest.raises(DaemonUnreachable):
            ask(place / "s")
        monkeypatch.setattr(peer, "SYSTEM_SOCKET", place / "s")
        assert ask(place / "s") == {"schema": 1}
        # Where others could have made that directory, its owner says nothing.
        socket_directory.chmod(0o1777)
        with pytest.raises(DaemonUnreachable):
            ask(place / "s")


@pytest.mark.parametrize("mode", [0o777, 0o772])
def test_a_directory_in_which_others_could_replace_the_socket_is_refused(daemon: FakeDaemon, mode: int) -> None:
    daemon.socket.parent.chmod(mode)
    with pytest.raises(DaemonUnreachable, match="is not used: it can be written by every user"):
        ask(daemon.socket)
    assert daemon.requests == []


@root
def test_a_directory_in_which_a_group_could_replace_the_socket_is_refused(daemon: FakeDaemon) -> None:
    os.chown(daemon.socket.parent, 0, NOBODY)
    daemon.socket.parent.chmod(0o770)
    with pytest.raises(DaemonUnreachable, match="is not used: it can be written by its group"):
        ask(daemon.socket)


def test_a_socket_or_directory_that_is_a_link_is_refused(daemon: FakeDaemon) -> None:
    link = daemon.socket.with_name("link")
    link.symlink_to(daemon.socket)
    with pytest.raises(DaemonUnreachable, match="is not used: it is a symbolic link"):
        ask(link)
    with tempfile.TemporaryDirectory() as elsewhere:
        (Path(elsewhere) / "d").symlink_to(daemon.socket.parent)
        with pytest.raises(DaemonUnreachable, match="is not used: it is a symbolic link"):
            ask(Path(elsewhere) / "d" / daemon.socket.name)
    assert daemon.requests == []


def test_a_socket_that_every_user_can_write_to_is_refused(daemon: FakeDaemon) -> None:
    daemon.socket.chmod(0o777)
    with pytest.raises(DaemonUnreachable, match="is not used: every user can write to it"):
        ask(daemon.socket)


def test_a_socket_of_ours_in_a_shared_directory_is_asked(daemon: FakeDaemon, status_answer: dict[str, Any]) -> None:
    daemon.socket.parent.chmod(0o1777)
    daemon.will_answer(status_answer)
    assert ask(daemon.socket) == status_answer


def test_each_connection_is_looked_at_anew(daemon: FakeDaemon, status_answer: dict[str, Any]) -> None:
    daemon.will_answer(status_answer)
    with Client(daemon.socket, timeout_seconds=5) as client:
        client.status()
        client.close()
        daemon.socket.chmod(0o777)
        with pytest.raises(DaemonUnreachable, match="every user can write to it"):
            client.status()
    assert threading.active_count() < 10
