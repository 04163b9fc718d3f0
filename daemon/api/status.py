"""How the daemon is doing, from what its parts say of themselves."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import daemon
from daemon.api import schema
from daemon.errors import FAILURE_KINDS, StoreUnavailable
from daemon.index.tally import Counting, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from daemon.index.index import Collection, Index
    from daemon.index.mappings import Failure
    from daemon.indexer import Indexer
    from daemon.watch.folder import Pass, WatchedFolder
    from daemon.watch.pending import Pending
    from daemon.watch.watcher import Watcher


SILENT_SECONDS = 60.0
"""For how long the main thread may be busy with one thing: longer than a call of a store may take."""


@dataclass(frozen=True, slots=True)
class Store:
    """A store as status shows it; `server` is the embedded one."""

    name: str
    url: str
    server: Restarted | None


class Restarted(Protocol):
    """What status asks of an embedded server."""

    @property
    def restarts(self) -> int: ...


class Encoder(Protocol):
    """What status asks of an encoder."""

    @property
    def provider(self) -> str: ...


class Models(Protocol):
    """The models that encode now."""

    @property
    def by_version(self) -> Mapping[str, Encoder]: ...
    @property
    def texts(self) -> Mapping[str, object]: ...


class Status:
    """Reads, and never waits long: what a store that is away would have said is left at its last word."""

    def __init__(
        self,
        *,
        library: str,
        data_dir: str,
        index: Index,
        indexer: Indexer,
        watcher: Watcher,
        pending: Pending,
        models: Models,
        stores: Sequence[Store],
        well_at: Callable[[], float] = time.monotonic,
        started: float,
    ) -> None:
        """`well_at` returns when every service has last passed its check, as time.monotonic() counts."""
        self._library = library
        self._data_dir = data_dir
        self._index = index
        self._indexer = indexer
        self._watcher = watcher
        self._pending = pending
        self._models = models
        self._stores = stores
        self._well_at = well_at
        self._started = started
        self.counting = Counting(index, lambda: [folder.path for folder in watcher.folders])
        self._tally = Tally()
        self._failure_kinds: Mapping[str, int] = dict.fromkeys(FAILURE_KINDS, 0)
        self._retired: list[schema.RetiredModel] = []

    @property
    def idle(self) -> bool:
        """Whether everything that is known to differ has been dealt with, after the first walk."""
        return self._is_compared and not self._indexer.backfill.active

    @property
    def _is_compared(self) -> bool:
        watcher = self._watcher
        return watcher.walked and not watcher.busy and not len(self._pending) and not self._indexer.outage.reason

    def health(self) -> schema.HealthAnswer:
        """Whether the process does its work; that a store or a disk is away is nothing that starting it again would mend."""
        if failing := self._failing():
            return schema.HealthAnswer(status="failing", reasons=[failing])
        reasons = self.reasons()
        return schema.HealthAnswer(status="degraded" if reasons else "ok", reasons=reasons)

    def ready(self, stopping: str = "") -> schema.ReadyAnswer:
        """Whether questions are answered: both stores have to be there, and nothing may be `stopping` the answers."""
        reason = stopping or self._failing() or self._indexer.outage.reason
        return schema.ReadyAnswer(status="not ready" if reason else "ready", reason=reason)

    def _failing(self) -> str:
        silent = time.monotonic() - self._well_at()
        return f"the daemon has not looked after its parts for {silent:.0f} s" if silent > SILENT_SECONDS else ""

    def failure_kinds(self) -> Mapping[str, int]:
        """Return how many files are not indexed by the kind of their failure, as last known while Redis is away."""
        outage = self._indexer.outage
        if not (outage.reason and outage.store == "Redis"):
            with contextlib.suppress(StoreUnavailable):
                self._failure_kinds = self._index.mappings.failure_kinds(self._watcher.is_watched)
        return self._failure_kinds

    def watched(self, failures: Iterable[Failure]) -> list[Failure]:
        """Return those of the failures that lie in a watched folder, in the order of their paths."""
        return sorted((one for one in failures if self._watcher.is_watched(one.path)), key=lambda one: one.path)

    def words(self, done: int, pending: int) -> str:
        """Return in a line what the daemon is doing, with how much of the work in hand is `done`; the stores are not asked."""
        state, reasons = self._state(), self.reasons()
        if state == "degraded":
            return f"degraded: {reasons[0]}" + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")
        if state == "up to date":
            return f"up to date: {self._tally.photos:,} photo{'' if self._tally.photos == 1 else 's'}"
        if state == "starting":
            return "comparing the folders with the index"
        return f"{state}: {done:,} of {done + pending:,}"

    def answer(self) -> schema.StatusAnswer:
        # The state comes before the counts: "up to date" then speaks of the counts that stand beside it.
        state, reasons = self._state(), self.reasons()
        self.refresh()
        folders = [self._folder(folder) for folder in self._watcher.folders]
        passes = [folder.last for folder in self._watcher.folders if folder.last]
        return schema.StatusAnswer(
            version=daemon.__version__,
            state=state,
            reasons=reasons,
            uptime_seconds=round(time.monotonic() - self._started, 1),
            library=self._library,
            data_dir=self._data_dir,
            folders=folders,
            photos=self._tally.photos,
            files=self._tally.files,
            pending=len(self._pending),
            oldest_pending_seconds=round(self._pending.oldest_seconds(), 3),
            lag_seconds=None if (lag := self._indexer.lag_seconds) is None else round(lag, 3),
            failures=self._tally.failures,
            held_deletions=sum(folder.held_deletions for folder in folders),
            encoded=self._indexer.encoded,
            overflows=sum(folder.watch.overflows for folder in self._watcher.folders),
            reconciles=self._watcher.reconciles,
            reconcile=self._reconcile(),
            last_reconcile=_last(passes),
            models=[self._model(collection) for collection in self._index.current],
            retired_models=self._retired,
            skipped=dict(self._watcher.skipped.by_extension),
            unwatched=_unwatched(self._tally),
            stores=[self._store(store) for store in self._stores],
        )

    def refresh(self) -> None:
        """Read the numbers that the stores hold; where one is away, they stay what they were."""
        mappings, outage = self._index.mappings, self._indexer.outage
        if outage.reason and outage.store == "Redis":
            return
        try:
            self._tally = self.counting()
            self._retired = [
                schema.RetiredModel(name=one.model, collection=one.name, photos=mappings.count_encoded(one.name))
                for one in self._index.retired()
            ]
        except StoreUnavailable:
            # What was last known; the reasons say that it is not fresh.
            return

    def _state(self) -> Literal["up to date", "indexing", "filling", "degraded", "starting"]:
        if self.reasons():
            return "degraded"
        if not self._watcher.walked and not len(self._pending):
            return "starting"
        if not self._indexer.backfill.active:
            return "up to date" if self._is_compared else "indexing"
        # What is pending then is mostly the portion in hand.
        return "filling" if self._watcher.walked and not self._watcher.busy else "indexing"

    def reasons(self) -> list[str]:
        """Return why the index may differ from the disk for now, a sentence each."""
        reasons = [self._indexer.outage.reason] if self._indexer.outage.reason else []
        return reasons + [f"{folder.path}: {folder.note}" for folder in self._watcher.folders if folder.asks]

    def _folder(self, folder: WatchedFolder) -> schema.FolderStatus:
        return schema.FolderStatus(
            path=folder.path,
            watch=folder.mode,
            state=folder.state,
            files=self._tally.below.get(folder.path, 0),
            watches=folder.watch.watches,
            unwatched=len(folder.watch.refused),
            # Nothing can be found out about a folder that is away: all of it is held.
            held_deletions=self._tally.below.get(folder.path, 0) if folder.absent else folder.held,
            note=folder.note,
        )

    def _model(self, current: Collection) -> schema.ModelStatus:
        answering = self._index.answering(current.model)
        filling = self._indexer.backfill.lacks(answering.name)
        encoder = self._models.by_version.get(answering.version)
        return schema.ModelStatus(
            name=current.model,
            dim=answering.dim,
            metric=answering.metric,
            collection=answering.name,
            photos=self._tally.encoded.get(answering.name, 0),
            of=self._tally.photos,
            state="rebuilding" if answering != current else "filling" if filling else "complete",
            built=self._tally.encoded.get(current.name, 0),
            text=answering.version in self._models.texts,
            provider=encoder.provider if encoder else "",
        )

    def _reconcile(self) -> schema.Reconcile | None:
        directory = self._watcher.walking
        if not directory:
            return None
        folder = self._watcher.folder_of(directory)
        of = self._tally.below.get(folder.path, 0) if folder is not None and folder.path == directory else 0
        return schema.Reconcile(directory=directory, files=self._watcher.files_walked, of=of)

    def _store(self, store: Store) -> schema.StoreStatus:
        outage = self._indexer.outage
        away = outage.reason and outage.store == store.name
        return schema.StoreStatus(
            name=store.name,
            url=store.url,
            embedded=store.server is not None,
            state="away" if away else "ok",
            reason=outage.reason if away else "",
            restarts=store.server.restarts if store.server else 0,
        )


def _unwatched(tally: Tally) -> schema.Unwatched | None:
    if not (tally.other_files or tally.other_failures):
        return None
    folders = [schema.UnwatchedFolder(path=one.path, files=one.files) for one in tally.leftovers]
    return schema.Unwatched(
        photos=tally.other_photos, files=tally.other_files, failures=tally.other_failures, folders=folders
    )


def _last(passes: Sequence[Pass]) -> schema.LastReconcile | None:
    if not passes:
        return None
    last = max(passes, key=lambda one: one.finished_at)
    return schema.LastReconcile(
        finished_at=dt.datetime.fromtimestamp(last.finished_at, dt.UTC).isoformat(timespec="seconds"),
        seconds=round(last.seconds, 3),
        files=last.files,
        added=last.added,
        changed=last.changed,
        removed=last.removed,
    )
