"""The disk against the mapping: every photo below the folders, and every file that is recorded there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from daemon import canonical
from daemon.changes import FileStat, signature
from daemon.verify.report import Finding
from daemon.watch.reconcile import Walk, differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from daemon.index.mappings import FileRecord, Mappings
    from daemon.verify.barrier import Territory
    from daemon.verify.report import Subject
    from daemon.watch.filters import Filters

BATCH = 500
FILE = "file"


class Files:
    """Finds not_indexed, outdated, ghost_path and held."""

    def __init__(
        self,
        mappings: Mappings,
        territory: Territory,
        filters: Filters,
        stopped: Callable[[], bool],
    ) -> None:
        self._mappings = mappings
        self._territory = territory
        self._filters = filters
        self._stopped = stopped

    def suspects(self) -> Iterator[Subject]:
        failed = self._mappings.failure_signatures()
        for folder in self._territory.folders:
            walk = Walk(folder.path, self._filters, self._stopped)
            for raw, _ in differences(_readable(walk), self._mappings.stream(folder.path)):
                path = os.fsdecode(raw)
                if path not in failed and not canonical.fault(path):
                    yield FILE, path
            prefix = folder.path.rstrip(os.sep) + os.sep
            yield from ((FILE, path) for path in failed if path.startswith(prefix) and not canonical.fault(path))

    def look(self, subjects: Sequence[Subject]) -> dict[Subject, Finding]:
        failed = self._mappings.failure_signatures()
        found: dict[Subject, Finding] = {}
        for start in range(0, len(subjects), BATCH):
            paths = [str(path) for _, path in subjects[start : start + BATCH]]
            for path, record in zip(paths, self._mappings.files(paths), strict=True):
                if finding := self._look_at(path, record, failed.get(path)):
                    found[FILE, path] = finding
        return found

    def mend(self, findings: Mapping[Subject, Finding]) -> Iterable[str]:
        """Look at them again: the disk then says what is to be done."""
        return [path for finding in findings.values() for path in finding.paths]

    def _look_at(self, path: str, record: FileRecord | None, failed: str | None) -> Finding | None:
        try:
            there = self._stat(path)
        except OSError:
            # Its directory cannot be read, so nobody can tell whether it differs; the note of its folder says so.
            return None
        if there is None:
            return self._missing(path, record, failed)
        if record is None:
            is_known = failed == signature(there)
            return None if is_known else Finding("not_indexed", path, signature(there), (path,))
        if not record.stat.unchanged(FileStat.of(there)):
            return Finding("outdated", path, (signature(there), record), (path,))
        return None

    def _missing(self, path: str, record: FileRecord | None, failed: str | None) -> Finding | None:
        if record is None and failed is None:
            return None
        held = self._territory.is_unverified(path)
        if record is None and held:
            return None
        if not held and not self._territory.is_reachable(path):
            # Another disk has just come or gone there: the walk that follows judges what is missing.
            return None
        return Finding("held" if held else "ghost_path", path, record or failed, (path,), mendable=not held)

    def _stat(self, path: str) -> os.stat_result | None:
        """Return the stat of a photo that a walk would come to; None where there is none, OSError where that cannot be told."""
        try:
            found = self._territory.disk.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found if stat.S_ISREG(found.st_mode) and self._territory.admits(path) else None


def _readable(walk: Walk) -> Iterator[tuple[bytes, str]]:
    """Yield what the walk does; a folder that is away holds nothing that can be seen."""
    try:
        yield from walk
    except OSError:
        return
