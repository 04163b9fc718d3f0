"""One decoder as the daemon sees it: a process, a socket to it, and no trust in what comes back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from PIL import Image

from daemon.encode.decoding.protocol import (
    CHANNELS,
    CONFINEMENTS,
    EXIT_NO_MEMORY,
    HELLO,
    MAX_REASON_BYTES,
    REPLY,
    REQUEST,
    EndOfStream,
    receive,
)
from daemon.encode.images import Bytes, Decoded, needs_a_thread
from daemon.errors import FAILURE_KINDS, DecoderError, PhotoError
from daemon.moments import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

READY_SECONDS = 60.0
BUFFER_BYTES = 1 << 20
GRACE_SECONDS = 2.0
"""How much later than its own alarm a decoder is ended from here: it may be stopped, or wait for a disk."""
MAX_SIDE = 2**31 - 1
COMMAND = (sys.executable, "-I", "-m", "daemon.encode.decoding.worker")
_FORMAT = re.compile(r"[A-Za-z0-9_+.-]{1,32}")


class Ended(Exception):  # noqa: N818 - an event, not an error
    """The process ended, or said what cannot be: `status` as subprocess gives it, below 0 for a signal."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class TimedOut(Exception):  # noqa: N818 - an event, not an error
    """The process was ended because it took too long."""


class NoMemory(Exception):  # noqa: N818 - an event, not an error
    """The process ended because its memory was not enough."""


class Decoder:
    """A process that decodes one photo at a time; after anything but a photo or a PhotoError it is of no use any more."""

    def __init__(self, memory_bytes: int, command: Sequence[str] = COMMAND) -> None:
        """Start it, and do not wait for it; `command` is told how many bytes it may grow by.

        DecoderError where the machine has no room for another process.
        """
        self._ready: tuple[str, ...] | None = None
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise DecoderError((error.strerror or str(error)).lower()) from error
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._connection = ours
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [*command, str(memory_bytes)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                # What C libraries think of a file says nothing that its reason does not.
                stderr=subprocess.DEVNULL,
                # What is typed at a terminal is meant for the daemon, which finishes its work.
                process_group=0,
                # One thread decodes; a pool of BLAS threads would only take address space.
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
            )
        except OSError as error:
            ours.close()
            raise DecoderError((error.strerror or str(error)).lower()) from error
        finally:
            theirs.close()

    @property
    def process(self) -> int:
        return self._process.pid

    def wait_ready(self) -> tuple[str, ...]:
        """Return by what it is confined; DecoderError where it is not ready within a minute."""
        if self._ready is None:
            self._connection.settimeout(READY_SECONDS)
            try:
                (bits,) = HELLO.unpack(receive(self._connection, HELLO.size))
            except (EndOfStream, OSError) as error:
                raise DecoderError(f"it was not ready, and ended with status {self._kill()}") from error
            self._ready = tuple(name for place, name in enumerate(CONFINEMENTS) if bits >> place & 1)
        return self._ready

    def decode(
        self, data: Bytes, path: str, min_side: int, max_pixels: int, seconds: float, most_pixels: int = 0
    ) -> Decoded:
        """Return the photo in `data`, reduced to `most_pixels` where that is not 0.

        PhotoError when the data is no photo; Ended, TimedOut or NoMemory when the process is gone after that.
        """
        deadline = time.monotonic() + seconds + GRACE_SECONDS
        name = os.fsencode(path)
        returned = most_pixels or max_pixels
        try:
            self._connection.settimeout(seconds + GRACE_SECONDS)
            sizes = (min_side, max_pixels, returned, seconds, len(name), len(data))
            self._connection.sendall(REQUEST.pack(needs_a_thread(data), *sizes) + name)
            self._connection.sendall(data)
            return self._read(path, returned, deadline)
        except TimeoutError as error:
            self._kill()
            raise TimedOut from error
        except _Nonsense as error:
            raise Ended(self._kill()) from error
        except (EndOfStream, OSError) as error:
            status = self._status()
            if status == -signal.SIGALRM:
                raise TimedOut from error
            if status == EXIT_NO_MEMORY:
                raise NoMemory from error
            raise Ended(status) from error

    def end(self) -> None:
        """End it, whatever it is doing."""
        self._kill()
        self._connection.close()

    def _kill(self) -> int:
        self._process.kill()
        return self._process.wait()

    def _status(self) -> int:
        """Return how it ended: it has closed its socket, and may take a moment more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(GRACE_SECONDS)
        return self._kill()

    def _read(self, path: str, most_pixels: int, deadline: float) -> Decoded:
        done, *sides, format_length, time_length = REPLY.unpack(self._receive(REPLY.size, deadline))
        if not done:
            if sides[0] > MAX_REASON_BYTES or sides[1] >= len(FAILURE_KINDS):
                raise _Nonsense
            reason = self._receive(sides[0], deadline).decode(errors="backslashreplace")
            raise PhotoError(path, reason, FAILURE_KINDS[sides[1]])
        columns, rows, width, height = sides
        format_name, taken_at = self._text(format_length, deadline), self._text(time_length, deadline)
        if not (0 < columns * rows <= most_pixels and 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise _Nonsense
        if not _FORMAT.fullmatch(format_name):
            raise _Nonsense
        try:
            moment(taken_at)
        except ValueError as error:
            raise _Nonsense from error
        pixels = self._receive(CHANNELS * columns * rows, deadline)
        return Decoded(Image.frombytes("RGB", (columns, rows), pixels), width, height, format_name, taken_at)

    def _text(self, length: int, deadline: float) -> str:
        return self._receive(length, deadline).decode("ascii", errors="replace")

    def _receive(self, length: int, deadline: float) -> bytearray:
        # A decoder that says a little from time to time does not get more time by it.
        return receive(self._connection, length, deadline)


class _Nonsense(Exception):  # noqa: N818 - an event, not an error
    """What a decoder says cannot be."""
