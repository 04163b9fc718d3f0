"""How a reader refuses a variant of its format."""

from __future__ import annotations


class Unread(Exception):  # noqa: N818 - no error of the file: it says what the file is
    """A variant that is not read; its text says which, as in "a PSD in Lab colours"."""
