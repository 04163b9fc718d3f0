"""A sync keeps its word in whatever order the parts of the daemon take their turns.

The stages of the pipeline, the walker and the recovery are threads here that run one at a time: each pauses at every call of a
store and at every entry that it reads of a directory, and a random generator chooses whose turn is next. So a seed repeats an
interleaving. The parts, both stores and the files are the real ones.

LOOKALIKE_INTERLEAVINGS=5000 plays more of them; LOOKALIKE_INTERLEAVING=1234 plays one.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import shutil
import threading
import time
from random import Random
from typing import TYPE_CHECKING, Any

import blake3
import numpy as np
import pytest
from PIL import Image

from daemon.api.upkeep import Sync, Upkeep
from daemon.changes import Hint, Remembered, photo_id
from daemon.encode.images import decode
from daemon.errors import StoreUnavailable
from daemon.index.index import Index
from daemon.indexer import Indexer
from daemon.watch.brake import Brake
from daemon.watch.filters import NO_MEDIA, Filters
from daemon.watch.pending import Pending
from daemon.watch.reconcile import Recording
from daemon.watch.settle import Settle
from daemon.watch.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SEEDS = range(int(os.environ.get("LOOKALIKE_INTERLEAVINGS", "40")))
ASKED_SEED = os.environ.get("LOOKALIKE_INTERLEAVING")
ROUNDS = 4
STEPS = 30
SECONDS_A_PLAY = 5
MOST_TURNS = 20_000
"""In which a sync comes to its end."""
DIM = 8
MODEL = "one"
DIRECTORIES = ("", "a", "a/b", "c")
NAMES = ("1.png", "2.png")


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 250, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


CONTENTS = [*map(_png, range(4)), b"no image"]


class Clock:
    """Stands in for the module `time` in the parts under test: it moves when it is asked, and when the test says so."""

    def __init__(self) -> None:
        self._passed = time.monotonic()
        self.time = time.time

    def monotonic(self) -> float:
        self._passed += 1e-6
        return self._passed

    def wait(self, seconds: float) -> None:
        self._passed += seconds


class Stopped(BaseException):
    """Ends an actor at its next pause."""


class Actor:
    """A thread that works only while it has the turn."""

    def __init__(self, name: str, has_work: Callable[[], bool], work: Callable[[], None]) -> None:
        """Call `work`, which may pause, again and again; each call begins only when `has_work` says so."""
        self.name = name
        self.is_working = False
        self.waits_for: Turns | None = None
        self.fails: str = ""
        """Where its next call of a store fails: "before" the call reaches the store, or "after" it took effect."""
        self._has_work, self._work = has_work, work
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._is_stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def step(self) -> None:
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error

    @property
    def can_go_on(self) -> bool:
        return not self.waits_for.taken if self.waits_for else self.is_working or self._has_work()

    def pause(self) -> None:
        """Give the turn back; called on its own thread."""
        self._back.release()
        self._go.acquire()
        if self._is_stopped:
            raise Stopped

    def stop(self) -> None:
        self._is_stopped = True
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(Stopped):
            self._go.acquire()
            while not self._is_stopped:
                self.is_working = True
                try:
                    self._work()
                except Exception as error:  # noqa: BLE001 - the boundary of the thread: step() raises it again
                    self._error = error
                self.is_working = False
                self.pause()


class Turns:
    """Stands in for a lock or an event of the parts: whoever waits gives the turn back instead."""

    def __init__(self, actors: Mapping[threading.Thread, Actor]) -> None:
        self._actors = actors
        self.taken = False

    def __enter__(self) -> None:
        actor = self._actors.get(threading.current_thread())
        while self.taken:
            assert actor is not None, "the test itself would wait for ever"
            actor.waits_for = self
            actor.pause()
        if actor is not None:
            actor.waits_for = None
        self.taken = True

    def __exit__(self, *_: object) -> None:
        self.taken = False

    def is_set(self) -> bool:
        self.wait(0.0)
        return False

    def wait(self, _: float) -> bool:
        if (actor := self._actors.get(threading.current_thread())) is not None:
            actor.pause()
        return False


class Encoder:
    """Turns pixels into a vector that is theirs alone."""

    versions = (MODEL,)
    min_side = DIM

    def preprocess(self, image: Any) -> NDArray[Any]:
        pixels = np.asarray(image.resize((DIM, 1)).convert("L"), dtype=np.float32).ravel() + 1
        return np.asarray(pixels / np.linalg.norm(pixels), dtype=np.float32)

    def encode(self, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        return {MODEL: np.stack(inputs)}


class Memory:
    def __init__(self) -> None:
        self.folders: dict[str, Remembered] = {}

    def recall(self, folder: str) -> Remembered:
        return self.folders.get(folder, Remembered())

    def remember(self, folder: str, remembered: Remembered) -> None:
        self.folders[folder] = remembered


class Play:
    """One library, the parts that keep it, and what is done to its folder and to them."""

    def __init__(self, place: Path, index: Index, kit: Any, clock: Clock, seed: int) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.clock = clock
        self.log: list[str] = []
        self.folder, self.outside = place / "photos", place / "outside"
        self.top = self.folder / "top"
        self.top.mkdir(parents=True)
        self.outside.mkdir()
        # A folder without any photo would look like a missing disk.
        (self.folder / "anchor.png").write_bytes(_png(99))
        self._mtimes = itertools.count(1_600_000_000)
        self._told = self.random.choice([0.3, 0.7, 1.0])
        """The share of events that arrive."""
        self._untold: list[Callable[[], None]] = []
        self._by_thread: dict[threading.Thread, Actor] = {}
        mappings = kit.recorded(index.mappings, self._before("Redis"), self._after("Redis"))
        vectors = kit.recorded(index.vectors, self._before("Milvus"), self._after("Milvus"))
        self.bare = index
        self.index = Index(mappings, vectors, index.collections)
        self.index._writing = Turns(self._by_thread)  # type: ignore[assignment]
        settle = Settle(0.0, 0.0)
        self.pending = Pending(settle, clock=clock.monotonic)
        self.watcher = Watcher(
            [(str(self.folder), "poll")],
            Filters([".*"], [".png"]),
            self.pending,
            Recording(
                below=self.index.mappings.stream,
                failures=self.index.mappings.failure_signatures,
                recorded=self.index.recorded,
            ),
            Memory(),
            brake=Brake(ratio=1.0, count=10**6),
            rescan_seconds=1e9,
            poll_seconds=1e9,
            max_pending=10_000,
        )
        self.watcher._stop = Turns(self._by_thread)  # type: ignore[assignment]
        self.indexer = Indexer(
            self.index,
            kit.loaded([Encoder()]),
            self.pending,
            settle,
            self.watcher,
            threads=1,
            batch_photos=4,
            queue_bytes=10**8,
            max_file_bytes=10**6,
            decode=functools.partial(decode, max_pixels=10**6),
        )
        self.indexer._stop = self.indexer._committing_stop = Turns(self._by_thread)  # type: ignore[assignment]
        self.upkeep = Upkeep(self.index, self.indexer, self.watcher, self.pending, None)  # type: ignore[arg-type]
        self.index.recover()
        parts: dict[str, tuple[Callable[[], bool], Callable[[], None]]] = {
            "look": (self._is_due, self._look),
            "load": (lambda: not self.indexer._to_load.empty(), self._load),
            "encode": (lambda: not self.indexer._to_encode.empty(), self._encode),
            "commit": (lambda: not self.indexer._to_commit.empty(), self._commit),
            "tend": (self._is_to_be_tended, self._tend),
            "walk": (self.watcher._requests.any, self._walk),
        }
        self.actors = {name: Actor(name, *part) for name, part in parts.items()}
        self._by_thread |= {actor._thread: actor for actor in self.actors.values()}

    # What each part does

    def _is_due(self) -> bool:
        now = self.clock.monotonic()
        return any(not entry.in_flight and entry.due <= now for entry in self.pending._entries.values())

    def _look(self) -> None:
        tasks = [self.indexer._task(*taken) for taken in self.pending.take(self.random.choice([1, 2, 512]))]
        self.indexer._go_on_together(self.indexer._patiently(lambda: self.indexer._looked_at(tasks)))

    def _load(self) -> None:
        task = self.indexer._to_load.get_nowait()
        self.indexer._go_on(task, self.indexer._patiently(lambda: self.indexer._loaded(task)))

    def _encode(self) -> None:
        tasks = [self.indexer._to_encode.get_nowait(), *self.indexer._more_to_encode()]
        for task, outcome in self.indexer._patiently(lambda: self.indexer._encoded(tasks)):
            self.indexer._go_on(task, outcome)

    def _commit(self) -> None:
        batch = self.indexer._next_batch()
        self.indexer._record(batch)

    def _is_to_be_tended(self) -> bool:
        return (
            bool(self.indexer.outage.reason)
            or self.indexer.backfill.active
            or (self.indexer.collects and self.indexer._compared)
        )

    def _tend(self) -> None:
        try:
            self.indexer._ask_after_stores()
            if not self.indexer.outage.reason:
                self.indexer.backfill.feed()
        except StoreUnavailable as error:
            self.indexer._outages.note(error)

    def _walk(self) -> None:
        if request := self.watcher._requests.take():
            self.watcher._serve(request)

    # Stores that fail, as the parts see them

    def _before(self, store: str) -> Callable[[str], None]:
        return functools.partial(self._at_store, store, "before")

    def _after(self, store: str) -> Callable[[str], None]:
        return functools.partial(self._at_store, store, "after")

    def _at_store(self, store: str, where: str, call: str) -> None:
        actor = self._by_thread.get(threading.current_thread())
        if actor is None:
            return
        actor.pause()
        if actor.fails == where:
            actor.fails = ""
            self.log.append(f"  {actor.name}: {store} fails {where} {call}")
            raise StoreUnavailable(store, "unix:/x", "cannot be reached")

    # What may happen

    def play(self) -> None:
        """Do anything at all, some of it in the middle of what the parts do; then ask for a sync, and hold it to its word."""
        usual = {
            self.write: 6,
            self.delete: 3,
            self.move: 4,
            self.mark: 3,
            self.move_directory: 2,
            self.remove_directory: 2,
            self.put_aside: 2,
            self.put_back: 2,
            self.tell: 8,
            self.turns: 20,
            self.ask_for_walk: 2,
            self.let_fail: 1,
            self.pass_time: 1,
        }
        for _ in range(ROUNDS):
            # Each round has favourites, so that rare things happen more than once.
            weights = [weight * self.random.choice([0, 1, 1, 4]) for weight in usual.values()]
            for _ in range(self.random.randrange(STEPS)):
                self.random.choices(list(usual), weights)[0]()
            # While things are on their way.
            for _ in range(self.random.randrange(4)):
                self.random.choice(
                    [self.write, self.delete, self.move, self.mark, self.move_directory, self.remove_directory]
                )()
            self.sync()

    def write(self) -> None:
        path = self._place()
        content = self.random.choice(CONTENTS)
        self._say(f"write {CONTENTS.index(content)}", path)
        if self.random.random() < 0.5:
            # As most programs do.
            beside = path.with_name(".part")
            beside.write_bytes(content)
            self._stamp(beside)
            beside.rename(path)
        else:
            path.write_bytes(content)
            self._stamp(path)
        self._tell_of(path, Hint.CLOSED)

    def delete(self) -> None:
        if path := self._some_photo():
            self._say("delete", path)
            path.unlink()
            self._tell_of(path, Hint.GONE)

    def move(self) -> None:
        if path := self._some_photo():
            target = self._place()
            self._say(f"move to {target.relative_to(self.top)}", path)
            path.rename(target)
            self._tell_of(target, Hint.CLOSED)
            self._tell_of(path, Hint.GONE)

    def mark(self) -> None:
        path = self._place(NO_MEDIA)
        self._say("unmark" if path.exists() else "mark", path.parent)
        if path.exists():
            path.unlink()
        else:
            path.touch()
        self._rescan_of(path.parent)

    def move_directory(self) -> None:
        source = self.top / self.random.choice(DIRECTORIES[1:])
        target = self.top / self.random.choice(DIRECTORIES[1:])
        if source.is_dir() and not target.exists() and source not in target.parents and target.parent.is_dir():
            self._say(f"move to {target.relative_to(self.top)}", source)
            source.rename(target)
            self._rescan_of(target)
            self._rescan_of(source)

    def remove_directory(self) -> None:
        directory = self.top / self.random.choice(DIRECTORIES[1:])
        if directory.is_dir():
            self._say("rm -r", directory)
            for path in sorted(directory.rglob("*.png")):
                self._tell_of(path, Hint.GONE)
            shutil.rmtree(directory)
            self._rescan_of(directory)

    def put_aside(self) -> None:
        source = self.top / self.random.choice(DIRECTORIES[1:])
        if source.is_dir() and not any(self.outside.iterdir()):
            self._say("move out", source)
            source.rename(self.outside / "aside")
            self._rescan_of(source)

    def put_back(self) -> None:
        target = self.top / self.random.choice(DIRECTORIES[1:])
        if any(self.outside.iterdir()) and not target.exists() and target.parent.is_dir():
            self._say("move in", target)
            (self.outside / "aside").rename(target)
            self._rescan_of(target)

    def tell(self) -> None:
        """Let the oldest event arrive."""
        if self._untold:
            self._untold.pop(0)()

    def turns(self) -> None:
        able = [name for name, actor in self.actors.items() if actor.can_go_on]
        if able:
            name, count = self.random.choice(able), self.random.choice([1, 2, 3, 5, 10, 30])
            self.log.append(f"  {name} x {count}")
            for _ in range(count):
                if self.actors[name].can_go_on:
                    self.actors[name].step()

    def ask_for_walk(self) -> None:
        self.log.append("  somebody asks for a walk")
        self.watcher.rescan_all("a test asks")

    def let_fail(self) -> None:
        self.random.choice(list(self.actors.values())).fails = self.random.choice(["before", "after"])

    def pass_time(self) -> None:
        self.clock.wait(self.random.choice([0.15, 0.5]))

    # The word of a sync

    def sync(self) -> None:
        self.log.append("sync")
        sync = Sync(self.upkeep, "")
        weights = {name: self.random.choice([1, 30, 1000]) for name in self.actors}
        for _ in range(MOST_TURNS):
            if not self._some_turn(weights):
                self.clock.wait(0.2)
            if sync.finished():
                break
        else:
            self._fail("the sync does not come to its end")
        self._compare_with_disk("when sync said that it was complete")
        self._settle(weights)
        self._compare_with_disk("in the end")
        self.bare.collect()

    def _some_turn(self, weights: Mapping[str, int]) -> bool:
        """Let some part go on; return whether any could."""
        able = [name for name, actor in self.actors.items() if actor.can_go_on]
        if able:
            self.actors[self.random.choices(able, [weights[name] for name in able])[0]].step()
        return bool(able)

    def _settle(self, weights: Mapping[str, int]) -> None:
        """Let everything come to rest."""
        for _ in range(MOST_TURNS):
            if not self._some_turn(weights):
                if not len(self.pending):
                    return
                self.clock.wait(0.2)
        self._fail("it does not come to rest")

    @property
    def visible(self) -> dict[str, bytes]:
        """The photos, and what is named like one, that no directory above hides."""
        marked = {path.parent for path in self.folder.rglob(NO_MEDIA)}
        files = [path for path in self.folder.rglob("*.png") if marked.isdisjoint(path.parents)]
        return {str(path): path.read_bytes() for path in files}

    @property
    def expected(self) -> tuple[dict[str, str], list[str]]:
        visible = self.visible
        bad = sorted(path for path, content in visible.items() if content == CONTENTS[-1])
        return {path: blake3.blake3(visible[path]).hexdigest() for path in sorted(visible.keys() - bad)}, bad

    def _compare_with_disk(self, when: str) -> None:
        good, bad = self.expected
        mappings = self.bare.mappings
        paths = [os.fsdecode(path) for path, _ in mappings.stream(str(self.folder))]
        found = {path: one.photo for path, one in zip(paths, mappings.files(paths), strict=True) if one is not None}
        if found != {path: photo_id(digest) for path, digest in good.items()}:
            self._fail(f"{when} the index had {self._relative(found)}, and the disk {self._relative(good)}")
        if sorted(mappings.failures()) != bad:
            self._fail(
                f"{when} the failures were {self._relative(mappings.failures())} instead of {self._relative(bad)}"
            )

    def _relative(self, paths: Any) -> list[str]:
        return sorted(os.path.relpath(path, self.folder) for path in paths)

    def _fail(self, sentence: str) -> None:
        pytest.fail("\n".join([f"seed {self.seed}: {sentence}; this happened:", *self.log]), pytrace=False)

    # Files

    def _place(self, name: str | None = None) -> Path:
        path = self.top / self.random.choice(DIRECTORIES) / (name or self.random.choice(NAMES))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _some_photo(self) -> Path | None:
        photos = sorted(self.top.rglob("*.png"))
        return self.random.choice(photos) if photos else None

    def _stamp(self, path: Path) -> None:
        # Long ago, so that it has settled; and never the same twice.
        os.utime(path, ns=(0, next(self._mtimes) * 10**9))

    def _say(self, what: str, path: Path) -> None:
        self.log.append(f"{what}: {path.relative_to(self.top)}")

    def _tell_of(self, path: Path, hint: Hint) -> None:
        self._some_day(
            lambda: self.watcher.changed(str(path), hint), f"  event {hint.name} {path.relative_to(self.top)}"
        )

    def _rescan_of(self, directory: Path) -> None:
        told = f"  event below {directory.relative_to(self.top)}"
        self._some_day(lambda: self.watcher.rescan(str(directory), "a test says so"), told)

    def _some_day(self, tell: Callable[[], None], told: str) -> None:
        """Let an event arrive later, or never: an unwatched directory tells of nothing."""

        def arrive() -> None:
            self.log.append(told)
            tell()

        if self.random.random() < self._told:
            self._untold.append(arrive)

    def end(self) -> None:
        for actor in self.actors.values():
            actor.stop()


@pytest.fixture
def library(stores: Any, kit: Any) -> Iterator[Index]:
    index: Index = stores.library(dim=DIM, models=(MODEL,))
    index.recover()
    yield index
    kit.drop(index)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("daemon.indexer", "daemon.backfill", "daemon.api.upkeep", "daemon.watch.watcher"):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


def emptied(index: Index) -> None:
    """Make a library as good as new."""
    redis: Any = index.mappings._redis
    for key in redis.scan_iter(match=index.mappings.keys.prefix + b":*", count=1000):
        if key != index.mappings.keys.owner:
            redis.delete(key)
    for collection in index.collections:
        if ids := sorted(index.vectors.ids(collection.name)):
            index.vectors.delete(collection.name, ids)


@pytest.mark.timeout(120 + SECONDS_A_PLAY * len(SEEDS))
def test_a_sync_that_is_complete_tells_the_truth_in_whatever_order_the_parts_took_their_turns(
    tmp_path: Path, library: Index, kit: Any, clock: Clock
) -> None:
    for seed in [int(ASKED_SEED)] if ASKED_SEED else SEEDS:
        place = tmp_path / str(seed)
        place.mkdir()
        emptied(library)
        play = Play(place, library, kit, clock, seed)
        try:
            play.play()
        finally:
            play.end()
        good, bad = play.expected
        # A mark sets photos aside: only their vectors are kept, for a while.
        kit.assert_in_step(library, good, failed=bad, aside=library.mappings.aside())
        shutil.rmtree(place)
