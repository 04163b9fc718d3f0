"""Verification: suspicions are collected, and those that outlive everything that was under way are differences."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

from daemon.changes import Hint
from daemon.errors import QueryError
from daemon.index.tally import Counting
from daemon.lifecycle import Turns
from daemon.verify.barrier import Barrier
from daemon.verify.content import Contents
from daemon.verify.files import Files
from daemon.verify.names import Names
from daemon.verify.report import ModelVectors, Report, by_kind
from daemon.verify.stores import Contradictions, Intents, StoredVectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from daemon.index.index import Collection, Index
    from daemon.verify.barrier import Queue, Territory
    from daemon.verify.content import OwnBytes
    from daemon.verify.report import Check, Finding, Subject
    from daemon.watch.filters import Filters

    Findings = dict[Check, dict[Subject, Finding]]

log = logging.getLogger(__name__)

MOST = 100_000
"""Suspicions of one check that are followed; of a library with more wrong, the counts are only the least."""
PATIENCE_SECONDS = 30.0
"""How long a suspicion waits for work that is under way."""
REPAIR_SECONDS = 600.0
"""How long what is being mended is waited for: every photo may have to be encoded."""
REPAIRS = 3
"""Mending one thing can bring another to light, which it explained."""
CERTAIN = ("mapping_broken", "path_refused", "intent_left", "held")
"""Kinds that no work under way accounts for."""


class Verifier:
    """Holds the disk, the mapping and the vectors of every model against one another, one verification at a time.

    A photo that arrives, changes or goes meanwhile is no difference: one is told only if it looks the same after everything
    that was pending has been dealt with. Nothing is written below a folder; without `repair`, nothing at all.
    """

    name = "verifier"

    def __init__(
        self,
        index: Index,
        pending: Queue,
        territory: Territory,
        filters: Filters,
        own_bytes: OwnBytes,
        owes: Callable[[Collection, int], bool],
        *,
        turns: Turns | None = None,
        is_collecting: Callable[[], bool] = lambda: False,
    ) -> None:
        """`owes` tells of a collection and a photo whether it is known that its vector is not there yet, or cannot be.

        It takes its turn with what else goes through all of the index, and waits while vectors are about to be collected.
        """
        self._index = index
        self._pending = pending
        self._territory = territory
        self._filters = filters
        self._own_bytes = own_bytes
        self._owes = owes
        self._stop = threading.Event()
        self._running = threading.Lock()
        self._turns = turns or Turns()
        self._counting = Counting(index, lambda: [folder.path for folder in territory.folders])
        self._barrier = Barrier(pending, territory, self._stop, is_collecting)

    # Service

    def start(self) -> None:
        """Nothing runs before it is asked for."""

    def stop(self) -> None:
        """End the verification that runs; it raises QueryError."""
        self._stop.set()
        with self._running:
            pass

    def check(self) -> None:
        """It has no thread of its own."""

    def run(self, *, deep: bool, repair: bool) -> Report:
        """Verify, mend if asked to and verify again; QueryError when another verification runs, or an import."""
        if not self._running.acquire(blocking=False):
            raise QueryError("busy", "another verification is running; try again when it is done")
        try:
            with self._turns.take("a verification"):
                return self._run(deep=deep, repair=repair)
        finally:
            self._running.release()

    def _run(self, *, deep: bool, repair: bool) -> Report:
        started = time.monotonic()
        checks, contents = (
            self._checks(),
            Contents(self._index, self._own_bytes, self._territory.disk, self._stop.is_set),
        )
        found, pending, at_least = self._verify(_suspects([*checks, contents] if deep else checks))
        mended = 0
        for _ in range(REPAIRS if repair else 0):
            before = _mendable(found)
            if not any(before.values()):
                break
            self._mend(before)
            # Of the sample, what differed is looked at again.
            found, pending, at_least = self._verify(_suspects(checks) | {contents: list(found.get(contents, ()))})
            mended += sum(len(findings.keys() - found.get(check, {}).keys()) for check, findings in before.items())
        findings = [finding for of_check in found.values() for finding in of_check.values()]
        tally = self._counting()
        aside = sorted(self._index.mappings.aside())
        return Report(
            took_seconds=round(time.monotonic() - started, 3),
            files=tally.files,
            photos=tally.photos,
            models=tuple(
                ModelVectors(
                    _shown(one, self._index.current),
                    self._index.vectors.count(one.name) - sum(self._index.mappings.encoded(one.name, aside)),
                )
                for one in self._index.collections
            ),
            failures=tally.failures,
            deep=deep,
            sampled=contents.sampled,
            pending=pending,
            differences=by_kind(findings),
            at_least=at_least,
            repaired=repair,
            mended=mended,
        )

    def _checks(self) -> list[Check]:
        return [
            Contradictions(self._index, self._is_lost, self._stop.is_set),
            Names(self._index, self._stop.is_set),
            Files(self._index.mappings, self._territory, self._filters, self._stop.is_set),
            StoredVectors(self._index, self._is_lost, self._owes),
            Intents(self._index),
        ]

    # Finding

    def _verify(self, suspects: Mapping[Check, Iterable[Subject]]) -> tuple[Findings, int, bool]:
        """Return what differs, how many suspicions could not be decided, and whether some were not followed."""
        followed = {check: list(itertools.islice(some, MOST)) for check, some in suspects.items()}
        at_least = any(len(some) == MOST for some in followed.values())
        seen = {check: self._look(check, some) for check, some in followed.items()}
        standing: Findings = {check: {} for check in suspects}
        deadline = time.monotonic() + PATIENCE_SECONDS
        undecided = 0
        while any(seen.values()):
            self._barrier.wait(deadline - time.monotonic())
            is_last = time.monotonic() >= deadline
            for check, before in seen.items():
                now = self._look(check, before)
                same = {one: finding for one, finding in now.items() if finding.evidence == before[one].evidence}
                decided = {one: finding for one, finding in same.items() if not self._is_owed(finding)}
                standing[check] |= decided
                # What changes still is being dealt with: it is looked at again while there is time.
                seen[check] = {} if is_last else {one: now[one] for one in now.keys() - same.keys()}
                undecided += len(now) - len(decided) - len(seen[check])
        return _explained(standing), undecided, at_least

    def _look(self, check: Check, subjects: Iterable[Subject]) -> dict[Subject, Finding]:
        found = check.look(list(dict.fromkeys(subjects)))
        if self._stop.is_set():
            raise QueryError("unavailable", "lookaliked is stopping; verify again when it runs")
        return found

    def _is_owed(self, finding: Finding) -> bool:
        return finding.kind not in CERTAIN and self._barrier.owes(finding.paths)

    # Mending

    def _is_lost(self, path: str) -> bool:
        """Whether a file is missing without having been deleted, as far as can be told."""
        return not self._territory.disk.is_there(path) and self._territory.is_unverified(path)

    def _mend(self, findings: Findings) -> None:
        for check, some in findings.items():
            if not some:
                continue
            paths, disk = list(check.mend(some)), self._territory.disk
            log.info("verification: mending %d things; looking at %d files again", len(some), len(paths))
            # What is found is never removed: of a ghost it has to be said that it is gone.
            self._pending.put_all([path for path in paths if disk.is_there(path)], Hint.FOUND)
            self._pending.put_all([path for path in paths if not disk.is_there(path)], Hint.GONE)
        self._barrier.wait(REPAIR_SECONDS)


def _mendable(found: Findings) -> Findings:
    return {
        check: {subject: finding for subject, finding in findings.items() if finding.mendable}
        for check, findings in found.items()
    }


def _shown(collection: Collection, current: Sequence[Collection]) -> str:
    return collection.model if collection in current else f"{collection.model} (earlier version)"


def _suspects(checks: Iterable[Check]) -> dict[Check, Iterable[Subject]]:
    return {check: check.suspects() for check in checks}


def _explained(findings: Findings) -> Findings:
    """Leave out what a contradiction of the mapping explains."""
    broken = [one for some in findings.values() for one in some.values() if one.kind == "mapping_broken"]
    paths = {path for one in broken for path in one.paths}
    photos = {photo for one in broken for photo in one.photos}

    def is_explained(one: Finding) -> bool:
        return one.kind != "mapping_broken" and not (paths.isdisjoint(one.paths) and photos.isdisjoint(one.photos))

    return {
        check: {subject: one for subject, one in some.items() if not is_explained(one)}
        for check, some in findings.items()
    }
