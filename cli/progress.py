"""How far downloads and exports are: a bar at a terminal, else a line now and then. And what is done now, at a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from cli import output
from daemon.names import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.status import Status

_EVERY_SECONDS = 10.0


class Downloads:
    """Is told of a file how many bytes of how many (None: nobody knows) there are, and shows it on standard error."""

    def __init__(self) -> None:
        self._at_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._file = ""
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, file: str, done: int, total: int | None, note: str = "") -> None:
        if self._at_terminal:
            self._draw(file, done, total, note)
        elif time.monotonic() - self._told >= _EVERY_SECONDS:
            self._told = time.monotonic()
            of = f" of {total / 1e6:,.1f}" if total else ""
            output.notice(f"{file}: {done / 1e6:,.1f}{of} MB{f', {note}' if note else ''}")

    def say(self, sentence: str) -> None:
        """Say what happens next, below the bar of what has happened."""
        self._close()
        output.notice(sentence)

    def _draw(self, file: str, done: int, total: int | None, note: str) -> None:
        if self._bar is None or self._task is None or file != self._file:
            self._close()
            self._file = file
            self._bar = _bar()
            self._task = self._bar.add_task(printable(file), total=total)
            self._bar.start()
        description = f"{file}: {note}" if note else file
        self._bar.update(self._task, completed=done, total=total, description=printable(description))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


class Activity:
    """Is told, a sentence at a time, what is done next, and shows the last of them at a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        self._at_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, sentence: str) -> None:
        if not self._at_terminal:
            return
        # As below.
        from rich.console import Console  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        shown = Text(printable(sentence), overflow="ellipsis", no_wrap=True)
        if self._status is None:
            self._status = Console(stderr=True).status(shown)
            self._status.start()
        self._status.update(shown)

    def close(self) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.stop()
        self._status = None


def _bar() -> Progress:
    # Only who watches a download waits for rich.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
    )
