"""What somebody may ask for so that the index equals the disk: to wait until it does, to try again, to decide about deletions."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import time
from typing import TYPE_CHECKING

from daemon.api import schema
from daemon.api.streams import json_pieces, pages
from daemon.changes import Hint
from daemon.errors import QueryError
from daemon.index.tally import is_in, touch

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from daemon.api.status import Status
    from daemon.index.index import Index
    from daemon.indexer import Indexer
    from daemon.watch.folder import WatchedFolder
    from daemon.watch.pending import Pending
    from daemon.watch.watcher import Watcher

LISTED = 100
"""Failures that an answer to a sync lists."""
SKIPPED_LISTED = 10_000
"""Files that are not read that an answer lists."""
EXAMPLES = 20
"""Held files that are listed where nobody asked for all of a folder."""


class Upkeep:
    """Answers on any thread. Raises QueryError, or StoreUnavailable."""

    def __init__(self, index: Index, indexer: Indexer, watcher: Watcher, pending: Pending, status: Status) -> None:
        self._index = index
        self._indexer = indexer
        self._watcher = watcher
        self._pending = pending
        self._status = status

    def begin_sync(self, path: str) -> Sync:
        """Have everything below `path` compared with the disk, or below every folder where it is empty."""
        folders = self._watcher.folders
        if path and self._watcher.folder_of(path) is None:
            watched = ", ".join(folder.path for folder in folders)
            raise QueryError("not_watched", f"{path} lies in none of the watched folders ({watched})")
        return Sync(self, path)

    def failures(self, path: str) -> Iterator[bytes]:
        """Yield the answer that says what could not be indexed at or below `path`: a schema.FailuresAnswer."""
        described = (failure.model_dump() for failure in self.described(self.failed(path)))
        return json_pieces(schema.FailuresAnswer(failures=[], total=0), "failures", described, count="total")

    def skipped(self, path: str) -> schema.SkippedAnswer:
        """Return the files at or below `path` that look like pictures and are not read, as the disk has them now."""
        found = self._watcher.skipped.listed(lambda directory: not path or touch(directory, path))
        below = (one for one in found if not path or is_in(one.path, path))
        first = list(itertools.islice(below, SKIPPED_LISTED))
        return schema.SkippedAnswer(
            skipped=[schema.SkippedFile.model_validate(one) for one in first], more=next(below, None) is not None
        )

    def retry(self, path: str) -> schema.RetryAnswer:
        """Have what could not be indexed at or below `path` looked at again, changed or not."""
        found = self.failed(path)
        # As if each had just been closed: what a walk finds unchanged since it failed is left alone.
        self._pending.put_all(found, Hint.CLOSED)
        return schema.RetryAnswer(retried=len(found))

    def deletions(self, path: str) -> Iterator[bytes]:
        """Yield the answer that says what is held of every folder, or all that is held of the one at `path`: a schema.DeletionsAnswer."""
        if path:
            folder = self._held_folder(path)
            return json_pieces(
                schema.DeletionsAnswer(folders=[self._held(folder, 0)]), "paths", self._held_paths(folder)
            )
        folders = [folder for folder in self._watcher.folders if _holds(folder)]
        return iter([schema.DeletionsAnswer(folders=[self._held(folder, EXAMPLES) for folder in folders]).json_bytes()])

    def approve(self, path: str) -> schema.DecisionAnswer:
        """Have what is held of the folder at `path` deleted from the index."""
        folder = self._held_folder(path)
        held = self._held(folder, EXAMPLES)
        return schema.DecisionAnswer(folder=held, files=self._watcher.approve(folder))

    def reject(self, path: str) -> schema.DecisionAnswer:
        """Have what is held of the folder at `path` kept in the index until it is back."""
        folder = self._held_folder(path)
        files = self._watcher.reject(folder)
        return schema.DecisionAnswer(folder=self._held(folder, EXAMPLES), files=files)

    def free_model(self, model: str) -> schema.RemovedModelAnswer:
        """Drop the vectors of a model that is not configured any more."""
        if model in self._index.models:
            raise QueryError(
                "model_in_use",
                f"the model {model} is live; take it out of 'models' in the configuration, and `lookalike reload`",
            )
        vectors = {one.name: self._index.mappings.count_encoded(one.name) for one in self._index.retired()}
        freed = self._index.free(model)
        if not freed:
            raise QueryError("unknown_model", f"there are no vectors of a model {model}")
        return schema.RemovedModelAnswer(
            model=model, collections=len(freed), vectors=sum(vectors.get(one.name, 0) for one in freed)
        )

    # What a sync asks

    def compare_again(self, path: str) -> list[threading.Event]:
        return [self._watcher.compare_again(one) for one in ([path] if path else self._paths)]

    def recoveries(self) -> int | None:
        """Return how often the stores were brought in step, None while they are not: what one lost is owed from then on."""
        return self._indexer.recoveries()

    def unfinished(self, moment: float, path: str) -> int:
        """Return how many paths at or below `path` have been pending since before a moment of the monotonic clock."""
        return self._pending.older_than(moment, path)

    def files(self, path: str) -> int:
        mappings = self._index.mappings
        if path:
            return mappings.count_below(path) + (mappings.files([path])[0] is not None)
        return sum(map(mappings.count_below, self._paths))

    def held(self, path: str) -> list[schema.HeldFolder]:
        concerned = [self._watcher.folder_of(path)] if path else self._watcher.folders
        return [
            schema.HeldFolder(folder=folder.path, files=self._files_held(folder), reason=folder.note)
            for folder in concerned
            if folder is not None and _holds(folder)
        ]

    def failed(self, path: str) -> list[str]:
        """Return the watched files at or below `path` that could not be indexed, in the order of their paths; all where it is empty."""
        return sorted(
            one
            for one in self._index.mappings.failed_paths()
            if (not path or is_in(one, path)) and self._watcher.is_watched(one) and self._watcher.shows(one)
        )

    def described(self, failed: Sequence[str]) -> Iterator[schema.Failure]:
        """Yield why files could not be indexed, a page of them at a time."""
        for page in pages(failed):
            for failure in self._index.mappings.failures_of(page):
                yield schema.Failure(
                    path=failure.path,
                    reason=failure.reason,
                    kind=failure.kind,
                    attempts=failure.attempts,
                    since=_iso(failure.since),
                )

    @property
    def is_filling(self) -> bool:
        """Whether photos are being encoded that the model lacks which answers by default."""
        return self._indexer.backfill.fills(self._answering)

    def fill_again(self) -> None:
        """Have what the default model lacks tried again: a walk may have met a disk that was away."""
        if self._indexer.backfill.lacks(self._answering):
            self._indexer.backfill.wake()

    @property
    def _answering(self) -> str:
        return self._index.answering(self._index.models[0]).name

    def troubles(self) -> list[str]:
        return self._status.reasons()

    @property
    def _paths(self) -> Sequence[str]:
        return [folder.path for folder in self._watcher.folders]

    def _held_folder(self, path: str) -> WatchedFolder:
        found = next((folder for folder in self._watcher.folders if folder.path == path), None)
        if found is None or not _holds(found):
            what = "is not one of the watched folders" if found is None else "has no deletions that wait for a decision"
            raise QueryError("not_held", f"{path} {what}; see lookalike deletions list")
        return found

    def _held_paths(self, folder: WatchedFolder) -> Iterator[str]:
        """Yield the files that are held of a folder, in byte order."""
        view = folder.view
        if view.absent:
            return (os.fsdecode(raw) for raw, _ in self._index.mappings.stream(folder.path))
        return iter(sorted(view.held, key=os.fsencode))

    def _held(self, folder: WatchedFolder, most: int) -> schema.HeldDeletions:
        recorded = self._index.mappings.count_below(folder.path)
        view = folder.view
        return schema.HeldDeletions(
            folder=folder.path,
            state=view.state,
            reason=view.note,
            since=_iso(min((hold.since for hold in view.holds), default=view.since)),
            files=recorded if view.absent else len(view.held),
            recorded=recorded,
            paths=list(itertools.islice(self._held_paths(folder), most)),
        )

    def _files_held(self, folder: WatchedFolder) -> int:
        return self._index.mappings.count_below(folder.path) if folder.absent else folder.held


class Sync:
    """Everything on disk below a path, as it was when this was made: finished once it is in the index, held, or failed."""

    def __init__(self, upkeep: Upkeep, path: str) -> None:
        self._upkeep = upkeep
        self._path = path
        self._started = time.monotonic()
        self._recoveries = upkeep.recoveries()
        self._compared = upkeep.compare_again(path)
        self._moment: float | None = None

    def finished(self) -> bool:
        recoveries = self._upkeep.recoveries()
        if recoveries != self._recoveries:
            self._recoveries, self._moment = recoveries, None
            self._compared = self._upkeep.compare_again(self._path)
        if recoveries is None:
            return False
        if self._moment is None and all(one.is_set() for one in self._compared):
            # All that differed then is pending by now.
            self._moment = time.monotonic()
            self._upkeep.fill_again()
        return (
            self._moment is not None
            and not self._upkeep.unfinished(self._moment, self._path)
            and not self._upkeep.is_filling
        )

    def answer(self, *, complete: bool) -> schema.SyncAnswer:
        upkeep, path = self._upkeep, self._path
        failed = upkeep.failed(path)
        pending = 0 if complete else upkeep.unfinished(self._moment or time.monotonic(), path)
        return schema.SyncAnswer(
            complete=complete,
            took_seconds=round(time.monotonic() - self._started, 3),
            files=upkeep.files(path),
            pending=pending,
            reasons=[] if complete else [*self._unfinished(pending), *upkeep.troubles()],
            held=upkeep.held(path),
            failed=list(upkeep.described(failed[:LISTED])),
            failures=len(failed),
        )

    def _unfinished(self, pending: int) -> list[str]:
        if self._moment is None:
            return ["the comparison with the disk has not come to its end"]
        if self._upkeep.is_filling:
            return ["photos are still being encoded that the default model has no vector of"]
        return [f"{pending:,} paths are still to be looked at, read or encoded"]


def _holds(folder: WatchedFolder) -> bool:
    return folder.absent or bool(folder.held)


def _iso(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).isoformat(timespec="seconds")
