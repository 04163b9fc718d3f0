"""The pipeline: look at what is pending, load what is new, encode it, commit what was found.

Each stage has its threads and hands on through a queue: looking costs a stat, and never waits for the others, so that moves and
deletions overtake a long import; loading and encoding are bounded in photos, and their live work goes before the bulk.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import itertools
import logging
import math
import os
import queue
import stat
import statistics
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import blake3

from daemon import blame, canonical, long_paths
from daemon.backfill import Backfill
from daemon.changes import FileStat, Hint, PhotoInfo, inode_of, photo_id, signature
from daemon.errors import DecoderError, ModelError, PhotoError, StoreRefused, StoreUnavailable
from daemon.in_hand import InHand, Photo
from daemon.index.index import Encoded
from daemon.index.mappings import Add, Bind, Exclude, Fail, Remove
from daemon.instruments import COMMIT_SECONDS, DECODE_SECONDS, LAG_SECONDS
from daemon.lifecycle import Worker
from daemon.names import printable
from daemon.outages import Outage, Outages
from daemon.reading import ChangedWhileRead, read_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from daemon.beneath import Disk
    from daemon.encode.images import Decode
    from daemon.errors import FailureKind
    from daemon.in_hand import Stage, Suspect
    from daemon.index.index import Change, Index
    from daemon.index.mappings import FileRecord
    from daemon.watch.pending import Pending
    from daemon.watch.settle import Settle

    _Outcome: TypeAlias = "Change | _Decision | _Wait | _Failed"
    T = TypeVar("T")
    Item = TypeVar("Item")

log = logging.getLogger(__name__)

LOOK_BATCH = 512
COMMIT_BATCH = 256
MAX_BACKOFF_SECONDS = 30.0
IDLE_FLUSH_SECONDS = 2.0
CHANGED_SECONDS = 0.2
"""When a file that changed while it was read or recorded, or whose photo went away meanwhile, is looked at again."""
REWRITTEN_SECONDS = 60.0
"""How long before its event a file may have been written: what puts its mtime back afterwards sets its ctime."""
TEND_SECONDS = 1.0
IMPORT_POLL_SECONDS = 0.2
"""How often bulk work asks whether an import, which may spare it, is over."""
ASIDE_SECONDS = 86_400.0
"""For how long the vectors of a photo are kept whose files are excluded: somebody may have excluded too much."""
ASIDE_TEND_SECONDS = 600.0
"""How often those are looked for whose time is over."""
FEED_SECONDS = 0.02
"""How often photos that lack a vector are fed, while there are some."""
CALM_SECONDS = 2.0
"""The age at which a daemon begins to try suspects alone, so that nobody who kills a daemon at its start puts the blame on a photo."""
REFUSED_IN_A_ROW = 32
"""When a store refuses this many changes and takes none in between, the cause is not a single photo."""
CRASHED_TWICE = "lookaliked crashed twice while it worked on this photo"
LOOKED_AT = "looked at"
LIVE, BULK, BACKFILL = range(3)
"""Whose turn it is first: what has just happened, what a walk has found, what another model knows already."""
LAGS = 100


class Encoder(Protocol):
    """What the pipeline needs of a graph, which may serve several models."""

    @property
    def versions(self) -> tuple[str, ...]: ...
    @property
    def min_side(self) -> int: ...
    def preprocess(self, image: Any) -> NDArray[Any]: ...
    def encode(self, inputs: Sequence[NDArray[Any]]) -> Mapping[str, NDArray[np.float32]]: ...


class Models(Protocol):
    """The models that encode now."""

    @property
    def encoders(self) -> Sequence[Encoder]: ...


class Territory(Protocol):
    """What the pipeline needs of the watched folders."""

    @property
    def disk(self) -> Disk: ...
    def admits(self, path: str, seen: dict[str, bool] | None = None) -> bool: ...
    def ignores(self, path: str) -> bool: ...
    def is_reachable(self, path: str) -> bool: ...
    def is_watched(self, path: str) -> bool: ...
    def is_unverified(self, path: str) -> bool: ...
    def noticed(self, paths: Iterable[str]) -> None: ...
    def rescan_all(self, reason: str) -> None: ...
    @property
    def walked(self) -> bool: ...
    @property
    def busy(self) -> bool: ...


class _Decision(enum.Enum):
    """What a look at a path leads to, where it is no change to the index."""

    NOTHING = enum.auto()
    KNOWN = enum.auto()
    LOAD = enum.auto()
    ENCODE = enum.auto()
    LATER = enum.auto()


@dataclass(frozen=True, slots=True)
class _Wait:
    """The path is to be looked at again after some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class _Failed:
    """The file at the path cannot be indexed."""

    reason: str
    kind: FailureKind


@dataclass(frozen=True, slots=True)
class _NoVector:
    """A model gives no vector for a photo."""

    model: str
    reason: str
    kind: FailureKind


@dataclass(order=True, slots=True)
class _Task:
    """A path on its way through the pipeline; live work sorts before the bulk, the newest first."""

    lane: int
    order: int
    path: str = field(compare=False)
    hint: Hint = field(compare=False)
    since: float = field(compare=False)
    record: FileRecord | None = field(compare=False, default=None)
    """What the mapping knew of the path when it was looked at."""
    stat: FileStat | None = field(compare=False, default=None)
    linked: str = field(compare=False, default="")
    """The state of its file where that has other names, as daemon.changes.signature() describes it."""
    rewritten: bool = field(compare=False, default=False)
    """Whether its content may be another although its stat is as recorded."""
    photo: PhotoInfo | None = field(compare=False, default=None)
    lacking: frozenset[str] = field(compare=False, default=frozenset())
    """The versions of models in whose collections its photo's vector is not."""
    inputs: dict[Encoder, NDArray[Any]] = field(compare=False, default_factory=dict)
    """What each encoder is fed that serves one of them."""


class _Stopped(Exception):  # noqa: N818 - an event, not an error
    """The indexer stops while work waits for a store."""


class Indexer:
    """Makes the index follow the disk, one path at a time, whatever the events said.

    Every path that is taken from `pending` ends in one of: nothing to do, one change committed, a failure recorded, or pending
    again. While a store is away the work in hand waits for it, and after the outage everything is compared anew.
    """

    name = "indexer"

    def __init__(
        self,
        index: Index,
        models: Models,
        pending: Pending,
        settle: Settle,
        territory: Territory,
        *,
        threads: int,
        batch_photos: int,
        queue_bytes: int,
        max_file_bytes: int,
        decode: Decode,
        in_hand: InHand | None = None,
    ) -> None:
        self._index = index
        self._models = models
        self._pending = pending
        self._settle = settle
        self._territory = territory
        self._disk = territory.disk
        self._batch_photos = batch_photos
        self._max_file_bytes = max_file_bytes
        self._decode = decode
        self.in_hand = in_hand or InHand()
        """Notes the photos in hand, and knows the suspects of a crash."""
        self._order = itertools.count()
        self._to_load: queue.PriorityQueue[_Task] = queue.PriorityQueue()
        photo_bytes = 4 * sum(3 * encoder.min_side**2 for encoder in models.encoders)
        self._to_encode: queue.PriorityQueue[_Task] = queue.PriorityQueue(
            max(2 * batch_photos, queue_bytes // photo_bytes)
        )
        self._to_commit: queue.Queue[list[tuple[_Task, Change]] | None] = queue.Queue(4 * COMMIT_BATCH)
        self._stop = threading.Event()
        self._committing_stop = threading.Event()
        self._look_worker = Worker("look", _until_stopped(self._look))
        self._load_workers = [Worker(f"load-{n}", _until_stopped(self._load)) for n in range(threads)]
        self._encode_workers = [Worker(f"encode-{n}", _until_stopped(self._encode)) for n in range(threads)]
        self._commit_worker = Worker("commit", self._commit)
        self._tend_worker = Worker("tend", self._tend)
        self._to_try_alone: queue.Queue[_Task] = queue.Queue()
        self._alone_worker = Worker("alone", _until_stopped(self._try_alone))
        self._refused = 0
        self._lags: collections.deque[float] = collections.deque(maxlen=LAGS)
        self._to_collect = False
        self._aside_at = -math.inf
        self._collecting = threading.Lock()
        self._imports = 0
        self._superseded: set[str] = set()
        self.backfill = Backfill(index, pending, territory.is_watched, territory.is_unverified)
        self._outages = Outages()
        self.committed = 0
        """Changes made since the start."""
        self.encoded = 0
        """Photos encoded since the start, each once for all models that lacked it."""
        self._counting = threading.Lock()

    # Service

    def start(self) -> None:
        """Bring the stores in step and begin; a store that is away is waited for behind the scenes."""
        self.in_hand.begin()
        try:
            self._recover()
        except StoreUnavailable as error:
            self._outages.note(error)
        blamed = [path for path, suspect in self.in_hand.suspects.items() if suspect.is_blamed]
        self._pending.put_all(blamed, Hint.FOUND)
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """Finish the batches in hand, write down what is encoded, and return; what waits is found again at the next start."""
        self.in_hand.end()
        self._stop.set()
        self._pending.close()
        for worker in self._workers:
            if worker is not self._commit_worker:
                worker.join()
        self._committing_stop.set()
        with contextlib.suppress(queue.Full):
            # Wakes it up; where the queue is full it does not sleep.
            self._to_commit.put_nowait(None)
        self._commit_worker.join()

    def check(self) -> None:
        for worker in self._workers:
            worker.check()

    @property
    def _workers(self) -> list[Worker]:
        pipeline = [self._look_worker, *self._load_workers, *self._encode_workers, self._commit_worker]
        return [*pipeline, self._tend_worker, self._alone_worker]

    @property
    def outage(self) -> Outage:
        """Why work waits, while a store is away."""
        return self._outages.now

    @property
    def lag_seconds(self) -> float | None:
        """The median time from an event to its change being searchable, of the last hundred."""
        lags = list(self._lags)
        return statistics.median(lags) if lags else None

    # One photo costs no other

    def _in_parts(
        self,
        doing: str,
        items: Sequence[Item],
        task_of: Callable[[Item], _Task],
        work: Callable[[Sequence[Item]], Sequence[T]],
    ) -> list[tuple[Item, T | _Failed]]:
        """Do the work on all items at once, or, when that raises, on each alone: an exception costs only the photo that causes it.

        The photos count as being in hand meanwhile. An exception that is the machine's fault, or a store's, is raised again.
        """
        stage: Stage = "look" if doing == LOOKED_AT else "work"
        try:
            with self.in_hand.noted(stage, [_photo(task_of(item)) for item in items]):
                return list(zip(items, work(items), strict=True))
        # The net: a library may raise anything, and a panic of a Rust library is a BaseException.
        except BaseException as error:
            if blame.is_the_machines(error):
                raise
            if len(items) == 1:
                if isinstance(error, StoreRefused) and self._is_refused_altogether():
                    raise
                return [(items[0], self._internal(task_of(items[0]), doing, error))]
        return [one for item in items for one in self._in_parts(doing, [item], task_of, work)]

    def _internal(self, task: _Task, doing: str, error: BaseException) -> _Failed:
        said = "%s could not be %s: the error in full"
        log.debug(said, printable(task.path), doing, exc_info=error, extra={"path": task.path})
        return _Failed(blame.sentence(doing, error), "internal")

    def _is_refused_altogether(self) -> bool:
        """Return whether a store that refused a change of one photo refuses those of all photos."""
        self._refused += 1
        if self._refused >= REFUSED_IN_A_ROW:
            return True
        try:
            self._index.try_writing()
        except StoreRefused:
            return True
        return False

    def _go_on(
        self, task: _Task, outcome: _Outcome, record: Callable[[list[tuple[_Task, Change]]], object] | None = None
    ) -> None:
        """Take the next step for a path; `record` gets its changes, or else the commit thread does."""
        match outcome:
            case _Decision.NOTHING | _Decision.KNOWN:
                self._pending.done(task.path)
            case _Decision.LATER:
                self._pending.later(task.path, self._unsettled(task))
            case _Wait(seconds):
                self._pending.later(task.path, seconds)
            case _Decision.LOAD:
                self._to_load.put(task)
            case _Decision.ENCODE:
                _put(self._to_encode, task, self._stop)
            case _Failed():
                self._patiently(lambda: self._fail(task, outcome, record or self._hand_to_commit))
            case change:
                (record or self._hand_to_commit)([(task, change)])

    def _fail(self, task: _Task, failed: _Failed, record: Callable[[list[tuple[_Task, Change]]], object]) -> None:
        """Record a failure; a photo that the index has as it is on the disk stays in the index."""
        known = task.record is not None and not task.rewritten and self._is_as_recorded(task.path, task.record.stat)
        if task.lane == BACKFILL and (known or task.photo is not None):
            # A disk that fails, or a limit, takes nothing from the models that know it.
            self._give_up_filling(task, failed.reason)
        elif known and failed.kind == "internal":
            self._leave_as_it_is(task, failed.reason)
        elif (change := self._failure(task, failed)) is not None:
            record([(task, change)])
        elif task.stat is None:
            self._leave_as_it_is(task, failed.reason)
        else:
            self._look_again(task)

    def _failure(self, task: _Task, failed: _Failed) -> Fail | None:
        """Return the change that records a failure of the file as it is now; None when the file has gone."""
        state = self._signature(task.path)
        if not state:
            return None
        before = self._index.mappings.failure(task.path)
        failure = Fail(task.path, failed.reason.rstrip("."), state, kind=failed.kind)
        if before is not None and before.signature == state:
            failure = replace(failure, attempts=before.attempts + 1, since=before.since)
        return failure

    def _leave_as_it_is(self, task: _Task, reason: str) -> None:
        said = "lookaliked leaves the entry of %s as it was: %s"
        log.warning(said, printable(task.path), reason, extra={"path": task.path, "kind": "internal"})
        self._pending.done(task.path)

    def _give_up_filling(self, task: _Task, reason: str) -> None:
        """Leave a photo to the models that know it."""
        log.warning(
            "%s cannot be encoded for another model: %s", printable(task.path), reason, extra={"path": task.path}
        )
        if task.record is not None:
            for version in self._index.lacking([task.record.photo])[0]:
                self.backfill.give_up(version, task.record.photo)
        self._pending.done(task.path)

    def _look_again(self, task: _Task) -> None:
        """Leave it to another look what it means that no file is there: only a look asks whether the disk is."""
        self._pending.later(task.path, 0.0)

    # What was in hand at a crash

    def _try_alone(self) -> None:
        """Work on each suspect with nothing else in hand, so that a second crash has only one possible cause."""
        if not self.in_hand.suspects or self._stop.wait(CALM_SECONDS):
            return
        flushed = True
        while not self._stop.is_set():
            try:
                task = self._to_try_alone.get(timeout=0.0 if not flushed else 0.2)
            except queue.Empty:
                if not flushed:
                    self._patiently(self._index.vectors.flush)
                    flushed = True
                continue
            suspect = self.in_hand.suspects.get(task.path)
            if suspect is None or not suspect.is_still(self._state_on_disk(task.path) or suspect.state):
                # The path holds another file now, or an earlier turn has tried this one.
                self.in_hand.acquit(task.path)
                self._look_again(task)
                continue
            with self.in_hand.alone():
                self._try_one_alone(task, suspect)
            flushed = False

    def _try_one_alone(self, task: _Task, suspect: Suspect) -> None:
        outcome: _Outcome
        if suspect.is_blamed and self._territory.is_watched(task.path) and self._territory.admits(task.path):
            outcome = _Failed(CRASHED_TWICE, "internal")
        else:
            outcome = self._patiently(lambda: self._looked_at([task]))[0][1]
        if suspect.stage == "work" and outcome is _Decision.LOAD:
            outcome = self._patiently(lambda: self._loaded(task))
        if outcome is _Decision.ENCODE:
            outcome = self._patiently(lambda: self._encoded([task]))[0][1]
        self._go_on(task, outcome, self._record)
        if not isinstance(outcome, _Wait) and outcome is not _Decision.LATER:
            self.in_hand.acquit(task.path)

    # Look

    def _look(self) -> None:
        while batch := self._pending.take(LOOK_BATCH):
            suspects = self.in_hand.suspects
            tasks: list[_Task] = []
            for taken in batch:
                task = self._task(*taken)
                if task.path in suspects:
                    self._to_try_alone.put(task)
                else:
                    tasks.append(task)
            if tasks:
                self._go_on_together(self._patiently(partial(self._looked_at, tasks)))

    def _go_on_together(self, looked: list[tuple[_Task, _Outcome]]) -> None:
        changes: list[tuple[_Task, Change]] = []
        for task, outcome in looked:
            if isinstance(outcome, Encoded | Bind | Remove | Exclude | Fail):
                changes.append((task, outcome))
            else:
                self._go_on(task, outcome)
        if changes:
            # At once: of files that swap their names, no photo is ever without a path.
            self._hand_to_commit(changes)

    def _task(self, path: str, hint: Hint, since: float) -> _Task:
        order = next(self._order)
        # The newest first: who saves a photo while thousands are copied in looks for that one.
        bulk = hint is Hint.FOUND
        return _Task(BULK if bulk else LIVE, order if bulk else -order, path, hint, since)

    def _looked_at(self, tasks: Sequence[_Task]) -> list[tuple[_Task, _Outcome]]:
        return list(self._in_parts(LOOKED_AT, tasks, _itself, self._look_at))

    def _look_at(self, tasks: Sequence[_Task]) -> list[Change | _Decision]:
        """Decide of each path, by the disk alone, what is to be done; nothing is handed on before all are decided."""
        for task, record in zip(tasks, self._index.mappings.files([task.path for task in tasks]), strict=True):
            task.record = record
        seen: dict[str, bool] = {}
        decided = [(task, self._decide(task, task.record, seen)) for task in tasks]
        self._territory.noticed(task.path for task in tasks if task.stat is not None or task.record is None)
        self._look_at_links([task for task, decision in decided if decision is _Decision.LOAD and task.linked])
        known = [
            (task, record) for task, decision in decided if decision is _Decision.KNOWN and (record := task.record)
        ]
        # What moved need not settle: it is as it was recorded, and its old path may be looked at before it has.
        unknown = [task for task, decision in decided if decision in (_Decision.LOAD, _Decision.LATER)]
        gone = [task for task, decision in decided if isinstance(decision, Remove) and task.record is None]
        later = dict(self._look_at_known(known)) | dict(self._bind_to_origin(unknown)) | dict(self._forgotten(gone))
        later |= dict(self._given_up([task for task in unknown if task.hint is Hint.FOUND and task.path not in later]))
        return [later.get(task.path, decision) for task, decision in decided]

    def _decide(self, task: _Task, record: FileRecord | None, seen: dict[str, bool]) -> Change | _Decision:
        if canonical.fault(task.path):
            # An earlier version took it so from a request; the file has its entry under the path that a walk gives.
            return Remove(task.path)
        if record is not None and self._territory.ignores(task.path):
            # Whatever became of the file and its disk: answers may not find anything by that name.
            return Exclude(task.path)
        return self._look_at_disk(task, record, seen)

    def _look_at_disk(self, task: _Task, record: FileRecord | None, seen: dict[str, bool]) -> Change | _Decision:
        try:
            found = self._disk.lstat(task.path)
        except (FileNotFoundError, NotADirectoryError):
            # Where the disk went away, the photo did not. That one was deleted is said by an event, or by a walk that the brake has
            # judged.
            kept = task.hint is Hint.FOUND or not self._territory.is_reachable(task.path)
            return _Decision.NOTHING if record is not None and kept else Remove(task.path)
        except OSError:
            # Its directory cannot be read: whether it is still there cannot be told, so it is.
            return _Decision.NOTHING
        if record is not None and not self._territory.is_watched(task.path):
            # Its folder was taken out of the configuration: what is known of it stays for when it is back.
            return _Decision.NOTHING
        is_photo = stat.S_ISREG(found.st_mode)
        if not is_photo or not self._territory.admits(task.path, seen):
            return Exclude(task.path) if is_photo and record is not None else Remove(task.path)
        task.stat = FileStat.of(found)
        if record is not None and record.stat.unchanged(task.stat):
            written_after = time.time() - (time.monotonic() - task.since) - REWRITTEN_SECONDS
            task.rewritten = task.hint is Hint.CLOSED and found.st_ctime > written_after
            return _Decision.KNOWN
        task.linked = signature(found) if found.st_nlink > 1 else ""
        return self._decide_of_new(task)

    def _decide_of_new(self, task: _Task) -> Change | _Decision:
        if len(os.fsencode(task.path)) > long_paths.MAX_BYTES:
            reason = f"its path is longer than the {long_paths.MAX_BYTES:,} bytes that the system takes"
            return self._failure(task, _Failed(reason, "unreadable")) or Remove(task.path)
        return _Decision.LATER if self._unsettled(task) else _Decision.LOAD

    def _look_at_links(self, changed: list[_Task]) -> None:
        """What is written through one name of a file is told of that name alone: have the others looked at."""
        if not changed:
            return
        photos = [task.record.photo for task in changed if task.record is not None]
        names = [name for _, paths in self._index.mappings.photos(photos) for name in paths]
        states = {inode_of(task.linked): task.linked for task in changed}
        failed = self._index.mappings.failure_signatures()
        names += [path for path, state in failed.items() if states.get(inode_of(state), state) != state]
        self._pending.put_all(set(names) - {task.path for task in changed}, Hint.FOUND)

    def _unsettled(self, task: _Task) -> float:
        """Return for how long the task's file must still be left alone, in seconds."""
        assert task.stat is not None  # noqa: S101 - for the type checker
        return self._settle.remaining(task.hint, task.stat.mtime_ns / 1e9, time.time())

    def _look_at_known(self, known: list[tuple[_Task, FileRecord]]) -> Iterator[tuple[str, Change | _Decision]]:
        """Nothing to do where all vectors are there; what lacks one is encoded again.

        What a writer has just closed is read: it may have put size and mtime back, as `touch --reference` does.
        """
        lacking = self._index.lacking([record.photo for _, record in known])
        filled: set[int] = set()
        for (task, record), versions in zip(known, lacking, strict=True):
            if task.rewritten:
                yield task.path, _Decision.LOAD
            elif record.photo in filled or self._are_given_up(versions, record.photo):
                # One of its copies is enough.
                yield task.path, _Decision.NOTHING
            elif versions:
                task.lane = BACKFILL
                filled.add(record.photo)
                yield task.path, _Decision.LOAD
            elif task.stat is None or task.stat == record.stat:
                yield task.path, _Decision.NOTHING
            else:
                # Another device number: the same disk after a reboot.
                yield task.path, Bind(task.path, task.stat, record.photo)

    def _are_given_up(self, versions: frozenset[str], photo: int) -> bool:
        return bool(versions) and all(self.backfill.has_given_up(version, photo) for version in versions)

    def _forgotten(self, gone: list[_Task]) -> Iterator[tuple[str, _Decision]]:
        """Nothing to do where neither a photo nor a failure is recorded: the old paths of what has moved, by the thousand."""
        failed = self._index.mappings.failed([task.path for task in gone])
        for task, has_failed in zip(gone, failed, strict=True):
            if not has_failed:
                yield task.path, _Decision.NOTHING

    def _given_up(self, found: list[_Task]) -> Iterator[tuple[str, _Decision]]:
        """Yield the files that have failed as they are now: a walk that began before the failure still finds them."""
        failed = self._index.mappings.failed([task.path for task in found])
        for task, has_failed in zip(found, failed, strict=True):
            failure = self._index.mappings.failure(task.path) if has_failed else None
            if failure is not None and failure.signature == self._signature(task.path):
                yield task.path, _Decision.NOTHING

    def _bind_to_origin(self, unknown: list[_Task]) -> Iterator[tuple[str, Change | _Decision]]:
        """What is recorded under another path with the same inode, size and mtime was moved from there, or is a link to it."""
        found = list(self._origins(unknown))
        if not all(self._index.encoded([record.photo for _, _, record in found])):
            self.backfill.wake()
        for task, origin, record in found:
            moved_from = "" if self._is_still_at(origin, record.stat) else origin
            yield task.path, Bind(task.path, record.stat, record.photo, moved_from)

    def _is_still_at(self, origin: str, known: FileStat) -> bool:
        # The index knows this path from the time when its folder was watched: Disk knows no such folder.
        look = self._disk.lstat if self._territory.is_watched(origin) else os.lstat
        try:
            return FileStat.of(look(origin)) == known
        except OSError:
            return False

    def _origins(self, unknown: list[_Task]) -> Iterator[tuple[_Task, str, FileRecord]]:
        stats = [task.stat for task in unknown if task.stat is not None]
        origins = [origin or "" for origin in self._index.mappings.paths_by_inode(stats)]
        for task, file, origin, record in zip(
            unknown, stats, origins, self._index.mappings.files(origins), strict=True
        ):
            if record is not None and record.stat == file and origin != task.path:
                yield task, origin, record

    # Load

    def _load(self) -> None:
        while not self._stop.is_set():
            task = _get(self._to_load)
            if task is not None and task.lane != LIVE and self._imports:
                self._to_load.put(task)
                self._stop.wait(IMPORT_POLL_SECONDS)
            elif task is not None:
                self._go_on(task, self._patiently(partial(self._loaded, task)))

    def _loaded(self, task: _Task) -> _Outcome:
        if task.path in self._superseded:
            self._superseded.discard(task.path)
            return _Wait(0.0)
        return self._in_parts("loaded", [task], _itself, lambda tasks: [self._load_one(tasks[0])])[0][1]

    def _load_one(self, task: _Task) -> _Outcome:
        try:
            data, task.stat = read_whole(task.path, self._max_file_bytes, self._disk)
        except ChangedWhileRead:
            return _Wait(CHANGED_SECONDS)
        except (FileNotFoundError, PhotoError) as error:
            return self._unread(task, error)
        if remaining := self._unsettled(task):
            return _Wait(remaining)
        return self._bind_or_decode(task, data)

    def _unread(self, task: _Task, error: FileNotFoundError | PhotoError) -> _Outcome:
        if isinstance(error, PhotoError):
            return _Failed(error.reason, error.kind)
        if task.stat is not None and self._is_as_recorded(task.path, task.stat):
            # Some file systems list what they cannot open.
            return _Failed("it cannot be read: its file system lists it and does not open it", "unreadable")
        # Only a look asks whether the disk is still there.
        return _Wait(0.0)

    def _bind_or_decode(self, task: _Task, data: bytes) -> _Outcome:
        """Return what to do of content that is known, or ENCODE when the task now holds a photo to be encoded."""
        assert task.stat is not None  # noqa: S101 - for the type checker
        digest = blake3.blake3(data).hexdigest()
        identity = photo_id(digest)
        known = self._index.mappings.photo(identity)
        if known is not None and known.digest != digest:
            reason = f"its content's id is that of another photo ({known.digest}); it is not indexed"
            return _Failed(reason, "collision")
        lacking = self._index.lacking([identity])[0]
        if known is not None and not lacking:
            bound = task.record is not None and (task.record.photo, task.record.stat) == (identity, task.stat)
            return _Decision.NOTHING if bound else Bind(task.path, task.stat, identity)
        encoders = [one for one in self._models.encoders if not lacking.isdisjoint(one.versions)]
        # A photo is decoded for all models at once, at the scale that the largest input asks for.
        min_side = max((one.min_side for one in self._models.encoders), default=1)
        try:
            with DECODE_SECONDS.timed():
                decoded = self._decode(data, task.path, min_side=min_side)
        except PhotoError as error:
            return _Failed(error.reason, error.kind)
        except DecoderError:
            # The machine has no room for another process now.
            return _Wait(CHANGED_SECONDS)
        task.photo = PhotoInfo(digest, decoded.width, decoded.height, decoded.format, decoded.taken_at, len(data))
        if not lacking:
            # The mapping was emptied, the vectors were not.
            return Encoded(Add(task.path, task.stat, task.photo), {})
        task.lacking = lacking
        task.inputs = {encoder: encoder.preprocess(decoded.image) for encoder in encoders}
        return _Decision.ENCODE

    # Encode

    def _encode(self) -> None:
        while not self._stop.is_set():
            task = _get(self._to_encode)
            if task is not None:
                tasks = [task, *self._more_to_encode()]
                for one, outcome in self._patiently(partial(self._encoded, tasks)):
                    self._go_on(one, outcome)

    def _more_to_encode(self) -> list[_Task]:
        """Return what else is ready now: a single photo does not wait for company."""
        tasks: list[_Task] = []
        while len(tasks) < self._batch_photos - 1:
            try:
                tasks.append(self._to_encode.get_nowait())
            except queue.Empty:
                break
        return tasks

    def _encoded(self, tasks: Sequence[_Task]) -> list[tuple[_Task, _Outcome]]:
        found = self._in_parts("encoded", tasks, _itself, self._vectors)
        return [(task, one if isinstance(one, _Failed) else self._with_vectors(task, *one)) for task, one in found]

    def _with_vectors(
        self, task: _Task, vectors: dict[str, NDArray[np.float32]], errors: dict[str, _NoVector]
    ) -> _Outcome:
        assert task.stat is not None  # noqa: S101 - for the type checker
        assert task.photo is not None  # noqa: S101 - for the type checker
        task.inputs = {}
        if not vectors and not errors:
            # The models that it lacked a vector of have been replaced meanwhile.
            return _Wait(0.0)
        if not vectors:
            error = next(iter(errors.values()))
            if error.kind == "internal":
                return _Failed(error.reason, error.kind)
            return _Failed(f"the model {error.model} gives no vector for it: {error.reason}", error.kind)
        for version, error in errors.items():
            # It is in the index of the models that know it.
            about = {"path": task.path, "photo": task.photo.id, "model": error.model}
            log.warning(
                "%s has no vector of the model %s: %s", printable(task.path), error.model, error.reason, extra=about
            )
            self.backfill.give_up(version, task.photo.id)
        with self._counting:
            self.encoded += 1
        return Encoded(Add(task.path, task.stat, task.photo), vectors, frozenset(errors))

    def _vectors(self, tasks: Sequence[_Task]) -> list[tuple[dict[str, NDArray[np.float32]], dict[str, _NoVector]]]:
        """Return of each task a vector for each version that its photo lacks one of, or why there is none."""
        found: list[tuple[dict[str, NDArray[np.float32]], dict[str, _NoVector]]] = [({}, {}) for _ in tasks]
        for encoder in dict.fromkeys(encoder for task in tasks for encoder in task.inputs):
            fed = [n for n, task in enumerate(tasks) if encoder in task.inputs]
            for n, result in zip(fed, self._encoded_by(encoder, [tasks[n] for n in fed]), strict=True):
                vectors, errors = found[n]
                wanted = tasks[n].lacking.intersection(encoder.versions)
                if isinstance(result, _NoVector):
                    errors.update(dict.fromkeys(wanted, result))
                else:
                    vectors.update((version, result[version]) for version in wanted)
        return found

    def _encoded_by(self, encoder: Encoder, tasks: Sequence[_Task]) -> list[dict[str, NDArray[np.float32]] | _NoVector]:
        """Return of each task its vectors by version, or the error; one that is at fault does not cost the others."""
        try:
            rows = encoder.encode([task.inputs[encoder] for task in tasks])
            return [{version: rows[version][n] for version in encoder.versions} for n in range(len(tasks))]
        except ModelError as error:
            if len(tasks) == 1:
                return [_NoVector(error.name, error.reason, "no_vector")]
        # The net within a photo: an error of one model takes nothing from the other models.
        except BaseException as error:
            if blame.is_the_machines(error):
                raise
            if len(tasks) == 1:
                failed = self._internal(tasks[0], "encoded", error)
                return [_NoVector("+".join(encoder.versions), failed.reason, failed.kind)]
        return [result for task in tasks for result in self._encoded_by(encoder, [task])]

    # Commit

    def _hand_to_commit(self, changes: list[tuple[_Task, Change]]) -> None:
        while True:
            hopeless = self._stop.is_set() and bool(self.outage.reason)
            try:
                self._to_commit.put(changes, timeout=0.0 if hopeless else 0.2)
            except queue.Full:
                # Nobody takes it any more: this thread ends for the same reason.
                self._commit_worker.check()
                if not hopeless:
                    continue
            return

    def _commit(self) -> None:
        try:
            self._commit_until_stopped()
        except _Stopped:
            log.warning("what could not be written is found again at the next start")

    def _commit_until_stopped(self) -> None:
        flushed = True
        while True:
            batch = self._next_batch()
            if batch:
                self._record(batch, self._committing_stop)
                flushed = False
            elif self._committing_stop.is_set():
                return
            elif not flushed:
                # During a stop, later batches must still be written.
                with contextlib.suppress(_Stopped):
                    self._patiently(self._index.vectors.flush)
                flushed = True

    def _next_batch(self) -> list[tuple[_Task, Change]]:
        batch: list[tuple[_Task, Change]] = []
        try:
            item = self._to_commit.get(timeout=0.0 if self._committing_stop.is_set() else IDLE_FLUSH_SECONDS)
            while item is not None:
                batch += item
                if len(batch) >= COMMIT_BATCH:
                    break
                item = self._to_commit.get_nowait()
        except queue.Empty:
            pass
        return batch

    def _record(self, batch: Sequence[tuple[_Task, Change]], stop: threading.Event | None = None) -> None:
        """Write changes into both stores; while a store is away, wait for it until `stop` is set."""
        began = time.monotonic()
        results = self._patiently(partial(self._committed, batch), stop)
        now = time.monotonic()
        log.debug("%d changes are written", len(batch), extra={"duration_seconds": now - began})
        COMMIT_SECONDS.observe(now - began)
        spoiled, seen = False, dict[str, bool]()
        for (task, change), result in results:
            if isinstance(result, _Failed):
                spoiled = True
                self._record_failure(task, change, result, stop)
            else:
                self._finish(task, change, now, seen, done=result)
        if spoiled:
            # The failed change may have left an intent behind, as a crash does.
            self._patiently(self._index.finish_intents, stop)
            self.backfill.wake()

    def _committed(self, batch: Sequence[tuple[_Task, Change]]) -> list[tuple[tuple[_Task, Change], bool | _Failed]]:
        def commit(pairs: Sequence[tuple[_Task, Change]]) -> list[bool]:
            done = self._index.commit([change for _, change in pairs])
            self._refused = 0
            return done

        return self._in_parts("recorded", batch, lambda pair: pair[0], commit)

    def _record_failure(self, task: _Task, change: Change, failed: _Failed, stop: threading.Event | None) -> None:
        """Record the failure of a change; leave a removal, or a failure that cannot be recorded, to the next walk."""
        if isinstance(change, Fail | Remove | Exclude):
            self._leave_as_it_is(task, failed.reason)
        else:
            self._patiently(lambda: self._fail(task, failed, lambda failures: self._record(failures, stop)), stop)

    def _finish(self, task: _Task, change: Change, now: float, seen: dict[str, bool], *, done: bool) -> None:
        """Report a change that has been written, and take its path out of `pending`; `seen` is for the looks after one commit."""
        with self._counting:
            self.committed += 1
        if task.hint is not Hint.FOUND:
            self._lags.append(now - task.since)
            LAG_SECONDS.observe(now - task.since)
        if isinstance(change, Fail) and change.attempts == 1:
            about = {"path": change.path, "kind": change.kind}
            log.warning("%s is not indexed: %s", printable(change.path), change.reason, extra=about)
        if not done:
            # Its photo went away between the look and now. Not as a new change: whoever syncs waits for the one that it was.
            self._pending.later(task.path, CHANGED_SECONDS)
            return
        if isinstance(change, Bind) and change.moved_from:
            # It may have come back there after the look, and have found itself still recorded.
            self._pending.put(change.moved_from, Hint.GONE, since=task.since)
        self._territory.noticed([task.path])
        try:
            hint = self._overtaken(task, change, seen)
        # The net, as in _in_parts: the change is written, and a later walk compares it with the disk.
        except BaseException as error:  # noqa: BLE001
            if not isinstance(change, Fail):
                # A failure has said so already.
                self._internal(task, LOOKED_AT, error)
            hint = None
        if hint is not None:
            self._pending.later(task.path, CHANGED_SECONDS, hint)
        else:
            self._pending.done(task.path)

    def _overtaken(self, task: _Task, change: Change, seen: dict[str, bool]) -> Hint | None:
        """Return the hint for another look if the file no longer is as the index has just recorded it, None if it still is.

        A walk compares the disk with the records. A walk that ran while this change was on its way has met the record of before. This
        look at the disk comes after the write, and a walk that begins later reads the new record: one of the two notices any difference,
        with or without an event.
        """
        try:
            found = self._disk.lstat(task.path)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        except OSError:
            # The directory cannot be read: the file counts as there.
            return None
        is_photo = found is not None and stat.S_ISREG(found.st_mode) and self._territory.admits(task.path, seen)
        if found is None or not is_photo:
            # A photo that was recorded all the while is for the walks to judge: its disk may be away.
            is_news = task.record is None or isinstance(change, Fail)
            return Hint.GONE if is_news and not isinstance(change, Remove | Exclude) else None
        match change:
            case Remove() | Exclude():
                as_recorded = False
            case Fail(signature=state):
                as_recorded = signature(found) == state
            case Bind(stat=known) | Encoded(add=Add(stat=known)):
                as_recorded = known.unchanged(FileStat.of(found))
        return None if as_recorded else task.hint

    # The disk

    def _is_as_recorded(self, path: str, known: FileStat) -> bool:
        try:
            return known.unchanged(FileStat.of(self._disk.lstat(path)))
        except OSError:
            return False

    def _signature(self, path: str) -> str:
        """Return the state of the file at `path` as a failure records it; "" when nothing is there."""
        try:
            return signature(self._disk.lstat(path))
        except OSError:
            return ""

    def _state_on_disk(self, path: str) -> str:
        """Return the state of the file at `path` as `in_hand` notes it; "" when nothing is there."""
        try:
            return _state(FileStat.of(self._disk.lstat(path)))
        except OSError:
            return ""

    # Imports

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """While photos are imported, bulk work waits, and so does collecting: afterwards everything is compared with the disk first."""
        with self._collecting:
            self._imports += 1
        try:
            yield
        except StoreUnavailable as error:
            # What it was writing is finished once the store is back.
            self._outages.note(error)
            raise
        finally:
            self._territory.rescan_all("photos were imported")
            # Behind the request: what is collected then has been looked for.
            with self._collecting:
                self._to_collect = True
                self._imports -= 1
            self.backfill.wake()

    def look_again(self, paths: Sequence[str]) -> None:
        """Have those of the paths that wait to be read looked at again: they have been bound since."""
        self._superseded |= self._pending.older_among(paths, time.monotonic())

    @property
    def collects(self) -> bool:
        """Whether vectors that no photo is known for are still to be collected."""
        return self._to_collect

    # Outages

    def _patiently(self, work: Callable[[], T], stop: threading.Event | None = None) -> T:
        """Do the work and return its result; while a store is away, or the machine has no room, wait with a growing pause and retry.

        Raises _Stopped when `stop` is set first.
        """
        stop, delay = stop or self._stop, 0.1
        while True:
            try:
                return work()
            except StoreUnavailable as error:
                self._outages.note(error)
            except (OSError, RuntimeError, DecoderError) as error:
                if not blame.is_the_machines(error):
                    raise
                log.warning("the machine has no room for more work now; lookaliked tries again: %s", error)
            if stop.wait(delay):
                raise _Stopped
            delay = min(2 * delay, MAX_BACKOFF_SECONDS)

    def _tend(self) -> None:
        """Notice a store that is away or was emptied while nobody asked it, mend what an outage left behind, and fill what is lacking."""
        asked = time.monotonic()
        while not self._stop.wait(FEED_SECONDS if self.backfill.active else TEND_SECONDS):
            try:
                if self.outage.reason or time.monotonic() - asked >= TEND_SECONDS:
                    self._ask_after_stores()
                    asked = time.monotonic()
                if not self.outage.reason:
                    self.backfill.feed()
            except StoreUnavailable as error:
                self._outages.note(error)

    def _ask_after_stores(self) -> None:
        if not self._index.in_order() or self.outage.reason:
            self._recover()
            log.info("the stores are back; comparing everything with the disk")
            self._territory.rescan_all("a store was away")
        elif self._to_collect:
            with self._collecting:
                if not self._imports and self._compared:
                    self._index.collect()
                    self._to_collect = False
        if time.monotonic() - self._aside_at >= ASIDE_TEND_SECONDS:
            self._index.drop_aside(ASIDE_SECONDS)
            self._aside_at = time.monotonic()

    @property
    def _compared(self) -> bool:
        """Whether everything has been compared with the disk, and dealt with."""
        return self._territory.walked and not self._territory.busy and not len(self._pending)

    def recoveries(self) -> int | None:
        """Return how often the stores were brought in step; None while they are not."""
        recoveries = self._outages.recoveries()
        try:
            return recoveries if recoveries is not None and self._index.in_order() else None
        except StoreUnavailable:
            return None

    def _recover(self) -> None:
        with self._outages.recovery():
            self._index.recover()
            self._to_collect = True
            self.backfill.begin()


def _until_stopped(work: Callable[[], None]) -> Callable[[], None]:
    def until_stopped() -> None:
        with contextlib.suppress(_Stopped):
            work()

    return until_stopped


def _itself(task: _Task) -> _Task:
    return task


def _photo(task: _Task) -> Photo:
    return Photo(task.path, _state(task.stat) if task.stat else "")


def _state(stat: FileStat) -> str:
    return f"{stat.size} {stat.mtime_ns} {stat.inode}"


def _get(tasks: queue.PriorityQueue[_Task]) -> _Task | None:
    try:
        return tasks.get(timeout=0.2)
    except queue.Empty:
        return None


def _put(tasks: queue.PriorityQueue[_Task], task: _Task, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            tasks.put(task, timeout=0.2)
        except queue.Full:
            continue
        return
