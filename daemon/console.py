"""What a person sees of the daemon in a terminal: a progress bar while there is something to index, below the log lines."""

from __future__ import annotations

import sys
import time
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from daemon.standard_streams import discard

if TYPE_CHECKING:
    from rich.progress import Task

TELL_AFTER_SECONDS = 2.0
SHOW_AFTER_SECONDS = 0.3
"""Work that takes less is done before a bar would tell of it."""


def standard_error() -> Console:
    """Return what log lines and the bar are written to."""
    return Console(stderr=True) if sys.stderr is None else Console(file=cast("IO[str]", _Outlived(sys.stderr)))


class _Outlived:
    """A stream that may lose its reader: a terminal that is closed must not end the work, nor keep it from ending."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        discard(self._stream)


class Reporter:
    """Draws the bar in a terminal, and says in one line when everything is up to date."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._busy_since: float | None = None
        self._done_before = 0
        self._told = False
        self.worth_telling = False

    def update(self, *, done: int, pending: int, idle: bool) -> bool:
        """Show where the work is: `done` changes since the start, `pending` paths to go; True when it has just come to an end."""
        now = time.monotonic()
        if idle:
            # The first work may be done before anybody looks.
            finished = self._busy_since is not None or not self._told
            # The first time always; later, what a person may have been waiting for.
            self.worth_telling = finished and (not self._told or now - (self._busy_since or now) > TELL_AFTER_SECONDS)
            self._told = self._told or finished
            self.close()
            self._busy_since = None
            return finished
        if self._busy_since is None:
            self._busy_since, self._done_before = now, done
        if self._console.is_terminal and pending and now - self._busy_since > SHOW_AFTER_SECONDS:
            self._draw(done - self._done_before, pending)
        return False

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _draw(self, done: int, pending: int) -> None:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("indexing"),
                BarColumn(bar_width=30),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
                _Rate(),
                TimeRemainingColumn(compact=True, elapsed_when_finished=True),
                console=self._console,
                transient=True,
            )
            self._progress.add_task("indexing", total=done + pending)
            self._progress.start()
        self._progress.update(self._progress.task_ids[0], completed=done, total=done + pending)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="dim")
