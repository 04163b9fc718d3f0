"""The C library's allocator, set up for work that takes and frees megabytes for every photo."""

from __future__ import annotations

import ctypes
import threading

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""
MMAP_BYTES = 32 * 2**20
TRIM_BYTES = 2 * MMAP_BYTES
"""The most that glibc goes to by itself, DEFAULT_MMAP_THRESHOLD_MAX and twice that."""


LARGE_BYTES = 8 * 2**20
"""Memory is given back after a use of this much; an ordinary photo takes less."""
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
_is_owed = threading.Event()


def keep_freed_memory() -> None:
    """Let the memory of one photo serve the next, in place of going to the kernel and back: an eighth of the time to decode 12 megapixels.

    At most `TRIM_BYTES` are kept at the top of each heap. Does nothing where the C library has no such settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


def note_use(size: int) -> None:
    """Note that so many bytes were used which nobody needs any more."""
    if size >= LARGE_BYTES:
        _is_owed.set()


def owes_memory() -> bool:
    """Return whether much memory was used since it was last given back."""
    return _is_owed.is_set()


def give_back() -> None:
    """Give freed memory back to the kernel: malloc_trim(3). It takes milliseconds, and the next photo has to ask for memory."""
    _is_owed.clear()
    if _trim is not None:
        _trim(0)
