"""The installed commands as processes: a daemon with directories of its own, and photos made or shipped by test dependencies."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from PIL import Image

from cli.client import Client, Query
from cli.errors import CliError
from cli.photo import find_similar
from cli.terms import Term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BIN = Path(sys.executable).parent
DEADLINE_SECONDS = 60.0
ONE_MODEL = ("--model", "efficientnet-lite0")


HANGS_SECONDS = 300.0
"""Some tests start the daemon three times, which a busy machine takes a minute each for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(HANGS_SECONDS))


def eventually(condition: Callable[[], Any], what: str = "", seconds: float = DEADLINE_SECONDS) -> Any:
    """Return what the condition returns once it is true; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"did not come true within {seconds:g} s: {what or condition}"
        time.sleep(0.02)
    return value


class Photos:
    """Photos whose contents all differ: noise over a few colours, so that each has a vector of its own."""

    @staticmethod
    def image(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
        random = np.random.default_rng(seed)
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)

    def data(self, seed: int, format_name: str = "JPEG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        self.image(seed).save(buffer, format_name, **options)
        return buffer.getvalue()

    def write(self, path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data(seed))
        return path

    def fill(self, folder: Path, count: int) -> None:
        """Write photos 0.jpg, 1.jpg and so on, each with its number for a seed."""
        for seed in range(count):
            self.write(folder / f"{seed}.jpg", seed)


@dataclass
class Lookalike:
    """One user's lookalike: its directories, its library folder, and its daemon while one runs."""

    root: Path
    cache: Path
    folder: Path = field(init=False)
    log: Path = field(init=False)
    before: list[str] = field(default_factory=list)
    """What the daemon's command is put behind."""
    process: subprocess.Popen[bytes] | None = None
    children: list[psutil.Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder, self.log = self.root / "photos", self.root / "log"
        self.folder.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOOKALIKE_", "XDG_"))}
        own = {f"XDG_{kind}_HOME": str(self.root / kind.lower()) for kind in ("CONFIG", "DATA")}
        return kept | own | {"XDG_CACHE_HOME": str(self.cache), "XDG_RUNTIME_DIR": str(self.root / "run")}

    @property
    def data_dir(self) -> Path:
        return self.root / "data" / "lookalike"

    @property
    def socket(self) -> Path:
        return self.root / "run" / "lookalike" / "lookalike.sock"

    def command(self, *arguments: str | Path | bytes) -> subprocess.CompletedProcess[bytes]:
        """Run lookalike."""
        return subprocess.run(
            [BIN / "lookalike", *arguments], env=self.environment, capture_output=True, timeout=60, check=False
        )

    def asked(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Run lookalike; return its exit status, what it answers and what it complains of, which is never a library's error."""
        done = self.command(*arguments)
        assert b"Traceback" not in done.stderr
        return done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)

    def daemon(self, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        """Run lookaliked to its end."""
        return subprocess.run(
            [*self.before, BIN / "lookaliked", *arguments],
            env=self.environment,
            capture_output=True,
            timeout=100,
            check=False,
        )

    def once(self) -> subprocess.CompletedProcess[bytes]:
        return self.daemon("run", self.folder, *ONE_MODEL, "--once")

    def start(self, *arguments: str | Path) -> None:
        """Start the daemon in the background, with one model where nothing is said, and return when it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, BIN / "lookaliked", "run", *(arguments or (self.folder, *ONE_MODEL))],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: self._answers() or self._ended(), "the daemon answers")
        assert self.process.poll() is None, self.said()
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def _answers(self) -> bool:
        try:
            self.status()
        except CliError:
            return False
        return True

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="surrogateescape") if self.log.exists() else ""

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status once neither the daemon nor a child of it is left."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.process = None
        eventually(lambda: not any(map(_runs, self.children)), "the stores have ended")
        return status

    def client(self) -> Client:
        """Return the command's own connection to the daemon: a process for each of many questions would take the daemon's time."""
        return Client(self.socket, timeout_seconds=30)

    def status(self) -> dict[str, Any]:
        """Return what `lookalike status --json` prints."""
        with self.client() as client:
            return dict(client.status().answer)

    def up_to_date(self) -> dict[str, Any]:
        """Wait until the daemon says so, as long as it gets on with its work, and return its status."""
        done: tuple[Any, ...] = ()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (status := self.status())["state"] != "up to date":
            before, done = done, (status["encoded"], status["files"], *(model["built"] for model in status["models"]))
            # How long the work takes is not what a test waits for: other work may keep the machine busy.
            if done != before:
                deadline = time.monotonic() + DEADLINE_SECONDS
            assert time.monotonic() < deadline, f"nothing was done for {DEADLINE_SECONDS:g} s: {status}"
            time.sleep(0.02)
        return status

    def search(self, image: Path, *arguments: str) -> dict[str, Any]:
        done = self.command("search", image, "--json", *arguments)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def holders(self, image: Path) -> list[str]:
        """Return the paths under which the index has this very photo, which has to be the first found."""
        with self.client() as client:
            answer = find_similar(client, [Term("image", str(image))], Query(1)).answer
        if answer["query"]["id"] is None:
            return []
        assert answer["results"][0]["id"] == answer["query"]["id"]
        return list(answer["results"][0]["paths"])

    def assert_equals_disk(self) -> None:
        """Assert that every photo is found first by its own bytes, under exactly its current paths, and nothing else is there."""
        files = [path for path in self.folder.rglob("*.jpg") if path.is_file()]
        by_content: dict[bytes, list[str]] = {}
        for path in files:
            by_content.setdefault(path.read_bytes(), []).append(str(path))
        query = self.root / "query"
        for content, paths in by_content.items():
            query.write_bytes(content)
            assert sorted(self.holders(query)) == sorted(paths)
        status = self.status()
        assert (status["photos"], status["files"]) == (len(by_content), len(files))

    def close(self) -> None:
        """End everything that still runs, and assert that no library's error has reached the user."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        eventually(lambda: not any(map(_runs, self.children)), "the stores end with their daemon")
        assert "Traceback" not in self.said()


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model's graph is built once."""
    return tmp_path_factory.mktemp("cache")


@contextmanager
def _installed(cache: Path) -> Iterator[Lookalike]:
    # A socket's path has 107 bytes, which pytest's own directories can exceed.
    root = Path(tempfile.mkdtemp(prefix="la-"))
    one = Lookalike(root, cache)
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def lookalike(cache: Path) -> Iterator[Lookalike]:
    with _installed(cache) as one:
        yield one


@pytest.fixture
def other_lookalike(cache: Path) -> Iterator[Lookalike]:
    """One of another user, or of another machine."""
    with _installed(cache) as one:
        yield one


@pytest.fixture(scope="module")
def shared_lookalike(cache: Path) -> Iterator[Lookalike]:
    """One for all tests of a module, which leave it as it was."""
    with _installed(cache) as one:
        yield one


@pytest.fixture(scope="session")
def photos() -> Photos:
    return Photos()


@pytest.fixture(scope="module")
def at_rest(shared_lookalike: Lookalike, photos: Photos) -> Lookalike:
    """A daemon that is up to date with six photos, for the tests of a module that only ask it: a start costs seconds."""
    photos.fill(shared_lookalike.folder, 6)
    shared_lookalike.start()
    shared_lookalike.up_to_date()
    return shared_lookalike


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., Any]:
    return eventually
