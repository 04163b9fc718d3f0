"""One installed lookalike: directories of its own, its daemon and its stores as processes that can be killed, frozen, torn."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.drills.oracle import Differences, Disk, Stored, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from random import Random

BIN = Path(sys.executable).parent
DAEMON, VALKEY, MILVUS = "daemon", "valkey", "milvus"
STORES = (VALKEY, MILVUS)
COMMANDS = {VALKEY: "valkey-server", MILVUS: "milvus_lite_server"}

DEADLINE_SECONDS = 120.0
POLL_SECONDS = 0.05
QUIET_SECONDS = 1.0
"""For how long the daemon has to say that it is up to date, where it cannot be asked to wait: an event takes half a second to arrive."""
COLLECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""Longer than any answer takes that a drill asks for."""

CONFIGURATION = """
folders: ['{folder}']
# A drill may delete most of a library while the daemon is down, and means it.
watch: {{max_delete_count: 1000000, max_delete_ratio: 1.0}}
# A frozen store is to be noticed within a drill.
milvus: {{timeout_seconds: 2.0}}
"""


class DrillError(Exception):
    """The daemon did not do what a drill expects of it; the message says what."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Return what the condition returns once it is true; DrillError when it is not in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise DrillError(f"within {seconds:g} s it did not come to this: {what}")
        time.sleep(POLL_SECONDS)
    return value


@functools.cache
def has_command(name: str) -> bool:
    """Whether lookalike has a command of this name."""
    return subprocess.run([BIN / "lookalike", name, "--help"], capture_output=True, check=False).returncode == 0


@dataclass
class Installation:
    """A library, and the daemon that keeps it indexed."""

    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="drill-")))
    cache: Path | None = None
    """Where the model's graph is built, which takes seconds; one that several installations share saves them."""
    process: subprocess.Popen[bytes] | None = None
    library: str = "photos"
    """Where its folder is below its root."""
    settings: str = CONFIGURATION
    before: Sequence[str] = ()
    """What its commands are put behind."""

    def __post_init__(self) -> None:
        self.folder = self.root / self.library
        self.folder.mkdir(parents=True)
        self.log = self.root / "log"
        self.data_dir = self.root / "data" / "lookalike"
        self.runtime_dir = self.root / "run" / "lookalike"
        self.socket = self.runtime_dir / "lookalike.sock"
        self.sockets = self.runtime_dir / "stores"
        self.configuration = self.root / "lookalike.yaml"
        self.configuration.write_text(self.settings.format(folder=self.folder), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the user's own is read."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOOKALIKE_", "XDG_"))}
        return kept | {
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "XDG_DATA_HOME": str(self.root / "data"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "XDG_CACHE_HOME": str(self.cache or self.root / "cache"),
        }

    # The daemon

    def launch(self) -> None:
        """Start the daemon, and return at once."""
        with self.log.open("ab") as log:
            command: list[str | Path] = [*self.before, BIN / "lookaliked", "run", "--config", self.configuration]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def start(self) -> None:
        """Start the daemon, and return when it answers."""
        self.launch()
        self.answered()

    def answered(self) -> None:
        """Wait until the launched daemon answers."""
        wait_for(lambda: self.status() is not None, "the daemon answers")

    def stop(self) -> None:
        """End the daemon in order."""
        process = self._daemon()
        process.terminate()
        if process.wait(DEADLINE_SECONDS) != 0:
            raise DrillError(f"the daemon ended with status {process.returncode}")
        self._await_end()

    def kill(self, names: Collection[str], random: Random) -> None:
        """Kill the daemon or stores of these names, all at once, in any order; without the daemon, wait for what dies with it."""
        processes = {name: self.find(name) for name in names}
        for name in random.sample(sorted(names), len(names)):
            with suppress(psutil.NoSuchProcess):
                if (process := processes[name]) is not None:
                    process.kill()
        if DAEMON in names:
            self._daemon().wait(DEADLINE_SECONDS)
            self._await_end()

    def find(self, name: str) -> psutil.Process | None:
        """Return the process of the daemon or of a store, None while it does not run."""
        if name == DAEMON:
            return psutil.Process(self._daemon().pid)
        return next((process for process, command in self._processes() if COMMANDS[name] in command), None)

    def _daemon(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise DrillError("no daemon runs")
        return self.process

    def _processes(self) -> Iterator[tuple[psutil.Process, str]]:
        """Yield each process that was given a path in here, and its command line."""
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                command = " ".join(process.cmdline())
                if str(self.root) in command:
                    yield process, command

    def _await_end(self) -> None:
        self.process = None
        wait_for(lambda: not list(self._processes()), "the stores end with their daemon")

    # What it says

    def status(self) -> dict[str, Any] | None:
        """Return its status, None while it does not answer; DrillError when it has ended."""
        if (status := self._daemon().poll()) is not None:
            raise DrillError(f"the daemon has ended with status {status}")
        with suppress(OSError, HTTPException, ValueError):
            answer: dict[str, Any] = json.loads(ask(self.socket, "GET", "/v1/status")[1])
            return answer
        return None

    def asked(self, method: str, target: str, question: Any = None) -> dict[str, Any]:
        """Return an answer of the HTTP interface, an error included; OSError or HTTPException when there is none."""
        body = b"" if question is None else json.dumps(question).encode()
        answer: dict[str, Any] = json.loads(ask(self.socket, method, target, body)[1])
        return answer

    def command(self, *arguments: str | Path, seconds: float = DEADLINE_SECONDS) -> subprocess.CompletedProcess[bytes]:
        """Run lookalike."""
        return subprocess.run(
            [*self.before, BIN / "lookalike", *arguments],
            env=self.environment,
            capture_output=True,
            timeout=seconds + COLLECT_SECONDS,
            check=False,
        )

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="surrogateescape") if self.log.exists() else ""

    def await_in_step(self, seconds: float = DEADLINE_SECONDS) -> None:
        """Return when the daemon says that the index equals the disk; DrillError when it does not in time."""
        self.answered()
        if has_command("sync"):
            done = self.command("sync", "--timeout", f"{seconds:g}", seconds=seconds)
            if done.returncode != 0:
                raise DrillError(f"lookalike sync: {done.stderr.decode(errors='replace').strip()}; {self.status()}")
            wait_for(self._is_filled, "every model has every photo", seconds)
        else:
            self._await_quiet(seconds)

    def _is_filled(self) -> bool:
        """Whether every model has what it can have; a sync waits for the first one alone."""
        status = self.status()
        return status is not None and all(model["state"] == "complete" for model in status["models"])

    def _await_quiet(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        quiet_since: float | None = None
        while quiet_since is None or time.monotonic() - quiet_since < QUIET_SECONDS:
            status = self.status()
            is_quiet = status is not None and status["state"] == "up to date" and status["pending"] == 0
            quiet_since = (quiet_since or time.monotonic()) if is_quiet else None
            if time.monotonic() > deadline:
                raise DrillError(f"it is not up to date after {seconds:g} s: {status}")
            time.sleep(POLL_SECONDS)

    def differences(self, disk: Disk | None = None) -> Differences:
        """Return where the index differs from the disk; a vector of no photo counts when nobody has collected it in time."""
        disk = disk or Disk.read(self.folder)
        deadline = time.monotonic() + COLLECT_SECONDS
        while True:
            found = compare(disk, self._stored())
            if not found.strays or found.lost or found.ghosts or time.monotonic() > deadline:
                return found
            time.sleep(POLL_SECONDS)

    def _stored(self) -> Stored:
        """Read the stores; one that was killed when nothing was left to do is about to be started again."""

        def read() -> Stored | None:
            with suppress(ConnectionError):
                return Stored.read(self.sockets)
            return None

        stored: Stored = wait_for(read, "both stores can be read")
        return stored

    # Its end

    def close(self) -> None:
        """End everything that still runs."""
        for process, _ in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait()
        self._await_end()

    def remove(self) -> None:
        self.close()
        shutil.rmtree(self.root)


def ask(path: Path, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """Return the status and the body that the daemon answers with on its socket; OSError or HTTPException when it does not."""
    connection = HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(ANSWER_SECONDS)
        connection.sock.connect(str(path))
        connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
