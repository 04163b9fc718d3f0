"""Reading the files that a person names, in pieces or whole; what cannot be read is one sentence."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cli import output
from cli.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = "-"
MAX_HELD_BYTES = 256 * 1024 * 1024

_STDIN_NAME = "standard input"
_CHUNK_BYTES = 256 * 1024


def shown(name: str) -> str:
    """Return what a file is called in a sentence."""
    return _STDIN_NAME if name == STDIN else name


def is_regular(name: str) -> bool:
    """Whether it can be read again and again: standard input, pipes and devices cannot."""
    if name == STDIN:
        return False
    with reading(name):
        return stat.S_ISREG(Path(name).stat().st_mode)


def streamed(name: str) -> tuple[Iterator[bytes], int | None]:
    """Return the bytes of a file in pieces, and how many there will be; None where that is not known.

    CliError where there are none.
    """
    if name == STDIN:
        return _some(_chunks(_stdin(), name), name), None
    with reading(name):
        file = Path(name).open("rb", buffering=0)  # noqa: SIM115 - closed when its last piece has been taken
    # A pipe, as from a shell's <(command), has no size to announce.
    found = os.fstat(file.fileno())
    size = found.st_size if stat.S_ISREG(found.st_mode) else None
    chunks = _closing(_some(_chunks(file, name), name), file)
    return (chunks if size is None else exactly(chunks, size, name)), size


def held(name: str) -> bytes:
    """Return all bytes of a file, of which there may be MAX_HELD_BYTES: a device may have no end."""
    data = bytearray()
    for chunk in streamed(name)[0]:
        data += chunk
        if len(data) > MAX_HELD_BYTES:
            raise CliError(f"{shown(name)} has more than {MAX_HELD_BYTES // 2**20} MiB, and is no photo")
    return bytes(data)


def exactly(chunks: Iterator[bytes], size: int, name: str) -> Iterator[bytes]:
    """Yield `chunks` if they are the announced bytes; fewer would keep the daemon waiting, more be taken as a request."""
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise CliError(f"{name} was changed while it was being read")


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Say in a sentence what the system says of the file."""
    _silence.begin(name)
    try:
        yield
    except FileNotFoundError as error:
        raise CliError(f"{name} does not exist") from error
    except OSError as error:
        raise CliError(f"{shown(name)} cannot be read: {(error.strerror or str(error)).lower()}") from error
    finally:
        _silence.end()


class _Silence:
    """Ends the process when a file has said nothing for as long as it may: a pipe without a writer, a terminal, a disk that hangs.

    A call to a file system that hangs cannot be interrupted, so a second thread waits here. The main thread alone calls the methods.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seconds: float | None = None
        self._name: str | None = None
        self._since = 0.0
        self._thread: threading.Thread | None = None

    def allow(self, seconds: float) -> None:
        self._seconds = seconds

    def begin(self, name: str) -> None:
        if self._seconds is None:
            return
        with self._changed:
            self._name, self._since = name, time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, args=(self._seconds,), name="silence", daemon=True)
                self._thread.start()

    def end(self) -> None:
        self._name = None

    def _watch(self, seconds: float) -> None:
        with self._changed:
            while True:
                name = self._name
                left = seconds if name is None else self._since + seconds - time.monotonic()
                if name is not None and left <= 0:
                    break
                self._changed.wait(left)
        output.notice(f"{shown(name)} cannot be read: nothing has come from it for {seconds:g} seconds")
        os._exit(CliError.exit_code)


_silence = _Silence()
give_up_after = _silence.allow
"""Let a file be silent for so many seconds, from now on."""


def _stdin() -> IO[bytes]:
    if sys.stdin is None:
        raise CliError("standard input cannot be read: it is closed")
    # Unbuffered, so that what comes slowly goes on as it comes.
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)


def _chunks(file: IO[bytes], name: str) -> Iterator[bytes]:
    while True:
        with reading(name):
            chunk = file.read(_CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _some(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    first = next(chunks, None)
    if first is None:
        raise CliError(f"{shown(name)} is empty")
    yield first
    yield from chunks


def _closing(chunks: Iterator[bytes], file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from chunks
