"""The one form of a path: absolute and normalised, as a walk below a watched folder gives it."""

from __future__ import annotations

import os


def fault(path: str) -> str:
    """Return why a path is not in its one form, a clause that needs no path before it; empty if the path is in that form."""
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        # A surrogate that stands for no byte.
        raw = b"\0"
    # Two surrogates may stand for the bytes of one character, which is spelled as itself.
    if b"\0" in raw or os.fsdecode(raw) != path:
        return "no file can have such a path"
    if not path.startswith("/"):
        return "a path must be absolute: it begins with a /"
    # normpath() leaves two slashes at the beginning as they are: POSIX lets a system give them a meaning.
    if path.startswith("//") or os.path.normpath(path) != path:
        return "a path must be normalised: it has no //, no . or .. between slashes, and no / at its end"
    return ""
