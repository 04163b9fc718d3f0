"""Sockets of every kind, with real clients: other users, strangers without the token, TLS, and clients that say nothing."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from daemon.api import app, bodies, connections
from daemon.api.admission import Admission, Admitted, Entitled
from daemon.api.listening import PassedListener, TcpListener, UnixListener, group_id, passed_socket
from daemon.api.schema import HealthAnswer
from daemon.api.server import Certificate, Server
from daemon.errors import ConfigError
from tests.integration.api.conftest import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.api.listening import Listener

TOKEN = "a-token-of-twenty-chars"
ADMIN_TOKEN = "another-token-of-twenty-chars"
NOBODY = 65_534
HEALTH = ("GET", "/v1/health")


@contextmanager
def served(listener: Listener, admission: Admission | None = None, **options: Any) -> Iterator[None]:
    status: Any = SimpleNamespace(health=lambda: HealthAnswer(status="ok", reasons=[]))
    application = app.build(status, status, status, status, max_bytes=1000, default_limit=1, admission=admission)
    server = Server(application, listener, **options)
    server.start()
    try:
        yield
    finally:
        server.stop()


def admission(group: int | None = None, admin_group: int | None = None) -> Admission:
    return Admission(Admitted(4, 1000.0), asks=Entitled(group, TOKEN), administers=Entitled(admin_group, ADMIN_TOKEN))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def as_another(path: Path, request: str = "GET /v1/health", group: int = NOBODY) -> str:
    """Return what a process of another user gets: a status, or why it cannot connect."""
    # It changes its user when it runs, since it may not be able to start an interpreter of ours.
    script = (
        "import os, socket, sys\n"
        f"os.setgroups([]); os.setgid({group}); os.setuid({NOBODY}); s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(sys.argv[1])\nexcept OSError as e: print(type(e).__name__); sys.exit()\n"
        f"s.sendall(b'{request} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'); print(s.recv(1000).split()[1].decode())"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


root = pytest.mark.needs_root("only root can act as another user")


@root
def test_another_user_cannot_open_the_socket(directory: Path) -> None:
    directory.chmod(0o711)
    with served(UnixListener(directory / "s"), admission()):
        assert as_another(directory / "s") == "PermissionError"


@root
def test_another_user_is_refused_also_where_the_socket_s_mode_lets_it_in(directory: Path) -> None:
    directory.chmod(0o711)
    with served(UnixListener(directory / "s"), admission()):
        (directory / "s").chmod(0o666)
        assert as_another(directory / "s") == "403"


@root
def test_a_member_of_the_group_may_ask_and_a_stranger_may_not(directory: Path) -> None:
    directory.chmod(0o711)
    with served(UnixListener(directory / "s", NOBODY), admission(NOBODY)):
        found = (directory / "s").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, NOBODY)
        assert as_another(directory / "s") == "200"
    with served(UnixListener(directory / "s", 1), admission(1)):
        assert as_another(directory / "s") == "PermissionError"


@root
def test_the_two_groups_reach_one_socket_and_only_one_of_them_administers(directory: Path) -> None:
    directory.chmod(0o711)
    asks, administers, neither = 1001, 1002, 1003
    remove = "POST /v1/models/remove"
    with served(UnixListener(directory / "s", asks, administers), admission(asks, administers)):
        assert as_another(directory / "s", group=asks) == "200"
        assert as_another(directory / "s", remove, asks) == "403"
        assert as_another(directory / "s", group=administers) == "200"
        # Let in, and told to name a model.
        assert as_another(directory / "s", remove, administers) == "400"
        assert as_another(directory / "s", group=neither) == "PermissionError"


def test_a_group_that_is_not_there_is_said() -> None:
    assert group_id("root", "api.group") == 0
    with pytest.raises(ConfigError, match=r"At 'api.group': there is no group no-such-group .*groupadd no-such-group"):
        group_id("no-such-group", "api.group")


# A socket that is passed


PASSED = """
import os, socket, sys
from daemon.api.listening import passed_socket
os.environ["LISTEN_PID"] = str(os.getpid())
found = passed_socket(os.environ)
print(found and found.path, [name for name in os.environ if name.startswith("LISTEN_")], os.get_inheritable(3))
"""


def passed(descriptor: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a process that is handed a socket as number 3, as a service manager does."""

    def at_three() -> None:
        os.dup2(descriptor, 3)

    return subprocess.run(
        [sys.executable, "-c", PASSED],
        env={"LISTEN_FDS": "1", **environment}, preexec_fn=at_three, close_fds=False,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_socket_of_the_service_manager_is_taken_and_kept_from_our_children(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(directory / "s"))
        one.listen()
        assert passed(one.fileno()).stdout == f"{directory / 's'} [] False\n"
        two = passed(one.fileno(), LISTEN_FDS="2")
        assert "it passes 2 sockets, and lookaliked takes one" in two.stderr
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        assert "has to be a path" in passed(tcp.fileno()).stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_sockets_for_another_process_are_left_alone(environment: dict[str, str]) -> None:
    assert passed_socket(environment) is None
    assert environment == {}


def test_a_passed_socket_answers_and_outlives_the_daemon(directory: Path) -> None:
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(directory / "s"))
    one.listen()
    kept = one.dup()
    with served(PassedListener(one)):
        assert Client(directory / "s")(*HEALTH)[0] == 200
    assert (directory / "s").exists()
    with kept, served(PassedListener(kept.dup())):
        assert Client(directory / "s")(*HEALTH)[0] == 200


# TCP


def over_tcp(port: int, token: str = "", context: ssl.SSLContext | None = None) -> tuple[int, dict[str, Any], Any]:
    kind: Any = http.client.HTTPConnection if context is None else http.client.HTTPSConnection
    options = {} if context is None else {"context": context}
    connection = kind("127.0.0.1", port, timeout=10, **options)
    connection.request(*HEALTH, headers={"Authorization": f"Bearer {token}"} if token else {})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer, response.headers


def test_tcp_takes_the_token() -> None:
    port = free_port()
    with served(TcpListener("127.0.0.1", port), admission(), name="api-tcp"):
        assert over_tcp(port, TOKEN)[0] == 200
        status, answer, headers = over_tcp(port)
        assert (status, answer["error"]["code"], headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer")
        assert over_tcp(port, TOKEN[:-1])[0] == 401


def test_an_address_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1 port {port} cannot be listened on: .*in use.*'api.listen'"):
            TcpListener("127.0.0.1", port).open()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Certificate:
    issued = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for part in issued.cert_chain_pems:
        part.write_to_path(str(chain), append=True)
    issued.private_key_pem.write_to_path(str(key))
    return Certificate(chain, key)


def test_a_certificate_makes_it_tls(authority: trustme.CA, certificate: Certificate) -> None:
    port, context = free_port(), ssl.create_default_context()
    authority.configure_trust(context)
    with served(TcpListener("127.0.0.1", port), admission(), certificate=certificate):
        assert over_tcp(port, TOKEN, context)[0] == 200
        assert over_tcp(port, "", context)[0] == 401
        with pytest.raises(ssl.SSLCertVerificationError):
            over_tcp(port, TOKEN, ssl.create_default_context())
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_2
        assert over_tcp(port, TOKEN, old)[0] == 200
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            over_tcp(port, TOKEN)


def test_clients_that_say_nothing_are_bounded_before_their_handshake_too(
    authority: trustme.CA, certificate: Certificate
) -> None:
    port, context = free_port(), ssl.create_default_context()
    authority.configure_trust(context)
    with served(TcpListener("127.0.0.1", port), admission(), certificate=certificate, max_connections=4):
        silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(8)]
        # The last four have taken the places of the others.
        assert [one.recv(1) for one in silent[:4]] == [b""] * 4
        assert over_tcp(port, TOKEN, context)[0] == 200
        for one in silent:
            one.close()


def test_files_that_make_no_certificate_are_named(certificate: Certificate, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate", encoding="ascii")
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(str(other))
    for chain, key, expected in (
        (tmp_path / "text.pem", certificate.key, "cannot be used"),
        (certificate.chain, other, "do not belong together"),
        (certificate.chain, tmp_path / "nowhere.pem", "there is no file .*nowhere.pem"),
    ):
        with pytest.raises(ConfigError, match=f"At 'api.certificate' and 'api.key': .*{expected}"):
            Certificate(chain, key).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read_is_told_as_that(certificate: Certificate, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0)
    with pytest.raises(ConfigError, match="cannot be used: Permission denied"):
        Certificate(certificate.chain, private / "key.pem").check()


# Clients that keep the daemon busy


def test_a_client_that_does_not_say_what_it_wants_is_hung_up_on(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADERS_SECONDS", 0.3)
    with served(UnixListener(directory / "s")):
        for first in (b"", b"GET /v1/hea", b"GET /v1/health HTTP/1.1\r\nHost: a\r\n"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(directory / "s"))
                client.sendall(first)
                began = time.monotonic()
                assert client.recv(1000) == b""
                assert 0.1 < time.monotonic() - began < 5


def trickle(client: socket.socket, request: bytes) -> None:
    for letter in request:
        client.sendall(bytes([letter]))
        time.sleep(0.05)


def test_a_client_that_drops_single_letters_gets_no_more_time(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADERS_SECONDS", 0.5)
    with served(UnixListener(directory / "s")), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(directory / "s"))
        began = time.monotonic()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            trickle(client, b"GET /v1/health HTTP/1.1\r\nX: " + b"a" * 10_000)
        assert time.monotonic() - began < 5


def test_a_body_that_does_not_come_is_not_waited_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PIECE_SECONDS", 0.3)
    with served(UnixListener(directory / "s")), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(directory / "s"))
        client.sendall(b"POST /v1/search HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nfive!")
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_of_more_connections_than_allowed_those_that_wait_longest_are_hung_up_on(directory: Path) -> None:
    with served(UnixListener(directory / "s"), max_connections=3):
        clients = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        for client in clients:
            client.settimeout(10)
            client.connect(str(directory / "s"))
        assert [client.recv(100) for client in clients[:2]] == [b"", b""]
        for client in clients[2:]:
            client.sendall(b"GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert Client(directory / "s")(*HEALTH)[0] == 200
        for client in clients:
            client.close()


def test_our_sockets_are_not_inherited(directory: Path) -> None:
    for listener in (UnixListener(directory / "s"), TcpListener("127.0.0.1", free_port())):
        with listener.open() as opened:
            assert fcntl.fcntl(opened.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
