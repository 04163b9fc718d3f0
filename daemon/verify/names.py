"""The names in the mapping: entries under a path that no walk gives, which an earlier version took from a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon import canonical
from daemon.index.mappings import Remove
from daemon.verify.report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from daemon.index.index import Index
    from daemon.verify.report import Subject

NAME = "name"
BATCH = 500


class Names:
    """Finds path_refused. Such a file is found under its real path by the next walk, so nothing is lost with the entry."""

    def __init__(self, index: Index, stopped: Callable[[], bool]) -> None:
        self._index = index
        self._stopped = stopped

    def suspects(self) -> Iterator[Subject]:
        for path in self._index.mappings.every_path():
            if self._stopped():
                return
            if canonical.fault(path):
                yield NAME, path

    def look(self, subjects: Sequence[Subject]) -> dict[Subject, Finding]:
        found: dict[Subject, Finding] = {}
        for start in range(0, len(subjects), BATCH):
            paths = [str(path) for _, path in subjects[start : start + BATCH]]
            mappings = self._index.mappings
            for path, record, failed in zip(paths, mappings.files(paths), mappings.failed(paths), strict=True):
                if record is not None or failed:
                    found[NAME, path] = Finding("path_refused", path, (record, failed), (path,))
        return found

    def mend(self, findings: Mapping[Subject, Finding]) -> list[str]:
        """Take the entries out of the index, as those of deleted files."""
        paths = [str(path) for _, path in findings]
        for start in range(0, len(paths), BATCH):
            self._index.commit([Remove(path) for path in paths[start : start + BATCH]])
        return []
