"""A Milvus server of its own for tests: the standalone one of the PyPI package `milvus`, alone in namespaces.

It listens on every interface that it sees, and in its network namespace that is a loopback which nothing else has. Who is to reach it
at ADDRESS enters the namespace too (`entering`); what is outside goes through a Unix socket (`url`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.namespaces import entering, refusal

PORT = 19530
TOKEN = "root:Milvus"
"""What a new server knows its first user by."""
ADDRESS = f"http://127.0.0.1:{PORT}"
START_SECONDS = 120.0
WITH_THE_TESTS = ("setpriv", "--pdeathsig", "KILL")
"""A process that ends when whoever started it does. It stands behind a change of user, which would undo it."""
TAKING_ALONG = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""A process that ends takes along what it started."""
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def obstacle() -> str:
    """Return why no server can be started here, or an empty string."""
    if find_spec("milvus") is None:
        return "the package milvus has no server for this machine"
    missing = [name for name in ("unshare", "nsenter", "setpriv") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    return refusal(*entering("--net"), *TAKING_ALONG, "true")


class MilvusServer:
    """The server with its data below a directory, whose path has to be short enough for a socket's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "milvus.sock"
        self._network: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"unix:{self._socket}"

    def start(self) -> None:
        """Start it, in the network that it had before, and return when it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._network is None:
            self._network = self._run([*entering("--net"), *WITH_THE_TESTS], "network", self._socket)
            self._await(self._socket, self._network)
        started = self._directory / "started"
        started.unlink(missing_ok=True)
        self._server = self._run([*self.entering(), *TAKING_ALONG], "server", self._directory, started)
        self._await(started, self._server)

    def crash(self) -> None:
        """End it at once, with all that it started; its network stays."""
        if self._server is not None:
            # Killed with it, and gone a little later: until then they hold its ports.
            others = psutil.Process(self._server.pid).children(recursive=True)
            self._server.kill()
            self._server.wait()
            self._server = None
            _, alive = psutil.wait_procs(others, timeout=START_SECONDS)
            assert not alive

    def close(self) -> None:
        self.crash()
        if self._network is not None:
            self._network.kill()
            self._network.wait()

    def entering(self) -> list[str]:
        """Return what a command is put behind for it to find the server at ADDRESS."""
        assert self._network is not None
        become = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", f"--target={self._network.pid}", *become, "--net", *WITH_THE_TESTS]

    def _run(self, before: list[str], *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Run a function of this module."""
        command = [*before, sys.executable, "-m", __name__, *arguments]
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _await(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            assert process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline, "Milvus did not start in time"
            time.sleep(0.1)


# In the namespace


def _loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(some, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(some, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        there, back = await asyncio.open_connection("127.0.0.1", PORT)
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError), contextlib.closing(writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


async def _listen(path: str) -> None:
    # Named when it listens: who sees it may connect.
    async with await asyncio.start_unix_server(_relay, f"{path}.new") as server:
        os.rename(f"{path}.new", path)
        await server.serve_forever()


def network(path: str) -> None:
    """Be the network namespace, and lead who connects to a socket at `path` to the server in it."""
    _loopback()
    asyncio.run(_listen(path))


def server(directory: str, started: str) -> None:
    """Run the server, and make a file when it answers."""
    # It keeps its process id in /run/milvus, or else in /tmp/milvus, and waits for ever where another user's server has made that.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    from milvus import MilvusServer as Standalone
    from milvus import MilvusServerConfig

    config = MilvusServerConfig(data_dir=directory, proxy_port=PORT)
    config.set("authorization_enabled", True)
    # It would take ports for used on which connections of its former self have not timed out.
    config.try_bind_port = lambda port: socket.create_server(("127.0.0.1", port))
    standalone = Standalone(config)
    standalone.start()
    Path(started).touch()
    signal.pause()


if __name__ == "__main__":
    (network if sys.argv[1] == "network" else server)(*sys.argv[2:])
