"""The time at which a photo was taken, as text: one form, wherever it comes from."""

from __future__ import annotations

import datetime as dt
import re

_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


def moment(text: str) -> str:
    """Return `text` where it is ISO 8601 to the second, without a zone, and a time that exists, or is empty; ValueError otherwise."""
    if text and not (_FORM.fullmatch(text) and dt.datetime.fromisoformat(text).isoformat() == text):
        raise ValueError(f"{text[:40]!r} is no time")
    return text
