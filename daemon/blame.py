"""Tells whose fault an exception is that a library raised while one photo was in hand: the photo's, or the machine's."""

from __future__ import annotations

import errno

from daemon.errors import DecoderError, LibraryInUse, StoreUnavailable
from daemon.names import printable

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
"""The system has no room now: on a disk, or for another open file."""
NO_THREAD = "can't start new thread"
"""The text of CPython's RuntimeError: Modules/_threadmodule.c."""
MAX_DETAIL = 200


def is_the_machines(error: BaseException) -> bool:
    """Return whether an exception has nothing to do with the photo in hand, so that the same work may succeed later."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return isinstance(error, StoreUnavailable | LibraryInUse | DecoderError) or (
        isinstance(error, RuntimeError) and NO_THREAD in str(error)
    )


def sentence(doing: str, error: BaseException, what: str = "this photo") -> str:
    """Return in half a sentence why lookaliked failed with `what`; `doing` names the step, as in "encoded"."""
    detail = _detail(error)
    said = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
    return f"an internal error stopped lookaliked while it {doing} {what} ({said}); please report it"


def _detail(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    # An exception of a library may itself fail in its __str__.
    except Exception:  # noqa: BLE001
        return ""
    shown = printable(text).rstrip(".")
    return shown if len(shown) <= MAX_DETAIL else f"{shown[:MAX_DETAIL]}…"
