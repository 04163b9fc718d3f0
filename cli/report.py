"""Answers as lines that a person reads. Pure: nothing is printed here, and the time is passed in."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cli.answers import Folder, Model, Reconciliation, SearchAnswer, StatusAnswer, Store

Colour = Literal["green", "yellow", "red", "dim"]

_SGR: dict[Colour, str] = {"green": "32", "yellow": "33", "red": "31", "dim": "2"}
_STATE_COLOURS: dict[str, Colour] = {"up to date": "green", "indexing": "yellow", "starting": "yellow"}
_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LABEL_WIDTH = 11
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def printable(text: str) -> str:
    r"""Return `text` with everything escaped that a terminal would obey or could not show: \n, \x1b, \u202e.

    A byte that is not UTF-8 (a lone surrogate here, PEP 383) is shown as that byte: \xff.
    """
    return text if text.isprintable() else "".join(map(_printable_character, text))


def search_lines(answer: SearchAnswer) -> list[str]:
    """Return a line with score and path for each photo, and one more for each of its copies."""
    scores = [f"{match['score']:.3f}" for match in answer["results"]]
    width = max(map(len, scores), default=0)
    lines = []
    for score, match in zip(scores, answer["results"], strict=True):
        first, *copies = map(printable, match["paths"])
        lines.append(f"{score:>{width}}  {first}")
        lines += [f"{'':>{width}}= {copy}" for copy in copies]
    return lines


def status_lines(status: StatusAnswer, *, now: float, colour: bool) -> list[str]:
    """Return the status, its state first; `now` is the time as seconds since the epoch."""
    paint = _Paint(enabled=colour)
    lines = [paint(_headline(status), _STATE_COLOURS.get(status["state"], "red"))]
    lines += [f"  {printable(reason)}" for reason in status["reasons"]]
    lines.append("")
    for label, values in _sections(status, now, paint):
        for index, value in enumerate(values):
            shown = paint(f"{label if index == 0 else '':<{_LABEL_WIDTH}}", "dim")
            lines.append(f"{shown}{value}".rstrip())
    return lines


class _Paint:
    """Wraps text in ANSI colours, or leaves it alone."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def __call__(self, text: str, colour: Colour) -> str:
        return f"\x1b[{_SGR[colour]}m{text}\x1b[0m" if self._enabled and text.strip() else text


def _printable_character(character: str) -> str:
    # Unlike str.isprintable(), let wide and narrow spaces pass: file names of cameras and screenshots hold them.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - the range of PEP 383
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:  # noqa: PLR2004 - ASCII
        return _NAMED_ESCAPES.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the basic plane


def _headline(status: StatusAnswer) -> str:
    if status["state"] == "indexing":
        return f"indexing, {status['pending']:,} to go"
    return printable(status["state"])


def _sections(status: StatusAnswer, now: float, paint: _Paint) -> Iterator[tuple[str, Sequence[str]]]:
    yield "folders", _folder_lines(status["folders"], paint)
    yield "photos", [f"{status['photos']:,} in {_count(status['files'], 'file')}"]
    yield "pending", [_pending(status)]
    if status["lag_seconds"] is not None:
        yield "lag", [f"{_duration(status['lag_seconds'])} from a change to being found"]
    if status["failures"]:
        yield "failures", [paint(f"{_count(status['failures'], 'file')} could not be indexed", "yellow")]
    if status["held_deletions"]:
        yield "held", [paint(f"{_count(status['held_deletions'], 'deletion')} not carried out", "yellow")]
    if status["last_reconcile"] is not None:
        yield "compared", [_reconciliation(status["last_reconcile"], now)]
    yield "models", [_model(model, status["photos"]) for model in status["models"]]
    yield "stores", [_store(store, paint) for store in status["stores"]]
    yield "data", [printable(status["data_dir"])]
    yield "daemon", [_daemon(status)]


def _folder_lines(folders: list[Folder], paint: _Paint) -> list[str]:
    if not folders:
        return [paint("none is watched", "yellow")]
    width = max(len(printable(folder["path"])) for folder in folders)
    digits = max(len(f"{folder['files']:,}") for folder in folders)
    lines = []
    for folder in folders:
        state = _folder_state(folder)
        shown = f"{state:<18}" if folder["state"] == "watching" else paint(f"{state:<18}", "yellow")
        lines.append(f"{printable(folder['path']):<{width}}  {shown}  {_count(folder['files'], 'file', digits)}")
        if folder["note"]:
            lines.append(f"  {printable(folder['note'])}")
    return lines


def _folder_state(folder: Folder) -> str:
    if folder["state"] != "watching":
        return printable(folder["state"])
    return "watched by polling" if folder["watch"] == "poll" else "watched by events"


def _pending(status: StatusAnswer) -> str:
    if not status["pending"]:
        return "nothing"
    return f"{_count(status['pending'], 'file')}, the oldest for {_duration(status['oldest_pending_seconds'])}"


def _reconciliation(reconciliation: Reconciliation, now: float) -> str:
    found = [f"{reconciliation[kind]:,} {kind}" for kind in ("added", "changed", "removed") if reconciliation[kind]]
    work = f"{_count(reconciliation['files'], 'file')} in {_duration(reconciliation['seconds'])}"
    return f"{_age(reconciliation['finished_at'], now)}: {work}, {', '.join(found) or 'no difference'}"


def _model(model: Model, photos: int) -> str:
    held = _count(photos, "photo") if model["photos"] == photos else f"{model['photos']:,} of {_count(photos, 'photo')}"
    provider = printable(model["provider"]).removesuffix("ExecutionProvider")
    return f"{printable(model['name'])}: {held}, {model['dim']} dimensions, {printable(model['metric'])}, on {provider}"


def _store(store: Store, paint: _Paint) -> str:
    place = "embedded" if store["embedded"] else printable(store["url"])
    if store["state"] == "ok":
        return f"{printable(store['name'])}: ok, {place}"
    reason = f" ({printable(store['reason'])})" if store["reason"] else ""
    return f"{printable(store['name'])}: {paint('away', 'red')}, {place}{reason}"


def _daemon(status: StatusAnswer) -> str:
    work = f"{_count(status['encoded'], 'photo')} encoded since"
    uptime = _duration(status["uptime_seconds"])
    return f"lookaliked {printable(status['version'])}, library {printable(status['library'])}, up {uptime}, {work}"


def _count(number: int, noun: str, width: int = 0) -> str:
    return f"{number:>{width},} {noun}{'' if number == 1 else 's'}"


def _age(moment: str, now: float) -> str:
    try:
        seconds = now - datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return printable(moment)
    return f"{_duration(max(seconds, 0))} ago"


def _duration(seconds: float) -> str:
    if seconds < 10:  # noqa: PLR2004 - below this the fraction tells something
        return f"{seconds:.2g} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    return f"{_count(int(seconds // _DAY), 'day')} {seconds % _DAY // _HOUR:.0f} h"
