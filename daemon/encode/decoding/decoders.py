"""Photos decoded in confined processes: whatever a file does to its decoder costs that file alone."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.encode.decoding.process import Decoder, Ended, NoMemory, TimedOut
from daemon.encode.images import OUT_OF_MEMORY
from daemon.errors import DecoderError, PhotoError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.encode.images import Bytes, Decoded

log = logging.getLogger(__name__)

SIDES = 3
"""A photo that is reduced keeps so many times the pixels along each side that the largest model takes."""
ATTEMPTS = 2
"""A decoder may have been ended by somebody else: a file is blamed only when it ends two."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one photo may take."""

    max_pixels: int
    timeout_seconds: float
    memory_bytes: int
    returned_pixels: int = 0
    """A photo with more comes back reduced to these; 0 returns all that it has."""


class Decoders:
    """So many decoders, each with one photo at a time; `decode` may be called from any thread, and waits for a free one."""

    name = "decoders"

    def __init__(self, count: int, limits: Limits, *, warm: int) -> None:
        """`warm` of them are begun by `start`, the others when they are needed."""
        self.limits = limits
        self._warm = warm
        self._free: queue.LifoQueue[Decoder | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)
        self._all: set[Decoder] = set()
        self._changing = threading.Lock()
        self._stopped = False
        self._confinement: tuple[str, ...] | None = None
        self.replaced = 0
        """Decoders that a photo has ended, since the start."""

    @property
    def confinement(self) -> tuple[str, ...] | None:
        """By what the decoders are confined, of "limits", "landlock" and "seccomp"; None before the first one has started."""
        return self._confinement

    # Service

    def start(self) -> None:
        """Begin those that are to be warm; none is waited for before it is needed."""
        begun = [(self._free.get(), self._begin())[1] for _ in range(self._warm)]
        for decoder in begun:
            self._free.put(decoder)

    def stop(self) -> None:
        """End them, also those that are at work: their photos are looked at again at the next start."""
        with self._changing:
            self._stopped = True
            ending, self._all = self._all, set()
        for decoder in ending:
            decoder.end()

    def check(self) -> None:
        """Nothing to say: a decoder that ends is replaced."""

    # Decoding

    def decode(self, data: Bytes, path: str, *, min_side: int) -> Decoded:
        """Return the photo in `data`, the bytes of the file at `path`, as `daemon.encode.images.decode` does.

        PhotoError also when it takes more than the limits allow, or ends its decoders; DecoderError when there can be no decoder.
        """
        limits = self.limits
        most_pixels = limits.returned_pixels and max(limits.returned_pixels, (SIDES * min_side) ** 2)
        status = 0
        for _ in range(ATTEMPTS):
            try:
                with self._decoder() as decoder:
                    return decoder.decode(data, path, min_side, limits.max_pixels, limits.timeout_seconds, most_pixels)
            except TimedOut as error:
                seconds = f"{limits.timeout_seconds:g} seconds"
                reason = f"decoding it took longer than {seconds}, more than limits.decode_timeout_seconds allows; raise it, or export the photo smaller"
                raise PhotoError(path, reason, "timeout") from error
            except NoMemory as error:
                raise PhotoError(path, OUT_OF_MEMORY, "too_large") from error
            except Ended as error:
                status = error.status
        if self._stopped:
            raise DecoderError("lookaliked is stopping")
        raise PhotoError(path, f"it made its decoder {_how(status)}; the file is damaged, or means harm", "crashed")

    @contextlib.contextmanager
    def _decoder(self) -> Iterator[Decoder]:
        """Have a decoder that nobody else uses; it is handed on unless it has ended."""
        decoder = self._free.get()
        good = False
        try:
            decoder = decoder or self._begin()
            self._note(decoder)
            yield decoder
            good = True
        except PhotoError:
            good = True
            raise
        finally:
            if decoder is not None and not good:
                self._end(decoder)
                with self._changing:
                    self.replaced += 1
            self._free.put(decoder if good else None)

    def _end(self, decoder: Decoder) -> None:
        with self._changing:
            self._all.discard(decoder)
        decoder.end()

    def _begin(self) -> Decoder:
        with self._changing:
            if self._stopped:
                raise DecoderError("lookaliked is stopping")
            decoder = Decoder(self.limits.memory_bytes)
            self._all.add(decoder)
        return decoder

    def _note(self, decoder: Decoder) -> None:
        confinement = decoder.wait_ready()
        if self._confinement is None:
            self._confinement = confinement
            missing = ", ".join(_missing(confinement))
            if missing:
                log.warning("photos are decoded without %s, which this kernel does not have or not allow", missing)


def _missing(confinement: tuple[str, ...]) -> Iterator[str]:
    if "landlock" not in confinement:
        yield "Landlock"
    if "seccomp" not in confinement:
        yield "a system call filter"


def _how(status: int) -> str:
    if status >= 0:
        return f"end with status {status}"
    try:
        return f"crash ({signal.Signals(-status).name})"
    except ValueError:
        return f"crash (signal {-status})"
