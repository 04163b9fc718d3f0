"""What a check finds: how bad it is, in one sentence, and the commands that mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check has to say."""

    level: Level
    """ok: as it should be; note: worth knowing; warning: may become a problem; problem: something does not work."""
    sentence: str
    mend: tuple[str, ...] = ()
    """Shell commands, in their order; a comment in one says what is to be put in."""
    check: str = ""
    """Which check it comes from; the examination fills it in."""


def ok(sentence: str) -> Finding:
    return Finding("ok", sentence)


def note(sentence: str, *mend: str) -> Finding:
    return Finding("note", sentence, mend)


def warning(sentence: str, *mend: str) -> Finding:
    return Finding("warning", sentence, mend)


def problem(sentence: str, *mend: str) -> Finding:
    return Finding("problem", sentence, mend)
