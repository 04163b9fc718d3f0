"""What the daemon says about itself."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cli.report.failures import skipped_sentence
from cli.report.text import Colour, Paint, age, count, duration
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cli.answers import (
        Folder,
        Model,
        Reconciliation,
        RetiredModel,
        StatusAnswer,
        Store,
        Unwatched,
        UnwatchedFolder,
        Walk,
    )

_STATE_COLOURS: dict[str, Colour] = {
    "up to date": "green",
    "filling": "green",
    "indexing": "yellow",
    "starting": "yellow",
}
_LABEL_WIDTH = 11


def status_lines(status: StatusAnswer, *, now: float, colour: bool) -> list[str]:
    """Return the status, its state first; `now` is the time as seconds since the epoch."""
    paint = Paint(enabled=colour)
    lines = [paint(_headline(status), _STATE_COLOURS.get(status["state"], "red"))]
    lines += [f"  {printable(reason)}" for reason in status["reasons"]]
    lines.append("")
    for label, values in _sections(status, now, paint):
        for index, value in enumerate(values):
            shown = paint(f"{label if index == 0 else '':<{_LABEL_WIDTH}}", "dim")
            lines.append(f"{shown}{value}".rstrip())
    return lines


def _headline(status: StatusAnswer) -> str:
    if status["state"] == "indexing":
        return f"indexing, {status['pending']:,} to go"
    if status["state"] == "filling":
        return "up to date, and encoding what a model still lacks"
    return printable(status["state"])


def _sections(status: StatusAnswer, now: float, paint: Paint) -> Iterator[tuple[str, Sequence[str]]]:
    yield "folders", _folder_lines(status["folders"], paint)
    yield "photos", [f"{status['photos']:,} in {count(status['files'], 'file')}"]
    if unwatched := status.get("unwatched"):
        yield "unwatched", list(_unwatched(unwatched))
    yield "pending", [_pending(status)]
    if status["lag_seconds"] is not None:
        yield "lag", [f"{duration(status['lag_seconds'])} from a change to being found"]
    if status["failures"]:
        yield "failures", [paint(f"{count(status['failures'], 'file')} could not be indexed", "yellow")]
    if skipped := status.get("skipped"):
        yield "skipped", [f"{skipped_sentence(skipped)}; see lookalike failures --skipped"]
    if status["held_deletions"]:
        yield "held", [paint(f"{count(status['held_deletions'], 'deletion')} not carried out", "yellow")]
    if walk := status.get("reconcile"):
        yield "comparing", [_walk(walk)]
    if status["last_reconcile"] is not None:
        yield "compared", [_reconciliation(status["last_reconcile"], now)]
    models = [_model(model, status["photos"]) for model in status["models"]]
    yield "models", models + [_retired(model) for model in status.get("retired_models", ())]
    yield "stores", [_store(store, paint) for store in status["stores"]]
    yield "data", [printable(status["data_dir"])]
    yield "daemon", [_daemon(status)]


def _folder_lines(folders: list[Folder], paint: Paint) -> list[str]:
    if not folders:
        return [paint("none is watched", "yellow")]
    width = max(len(printable(folder["path"])) for folder in folders)
    digits = max(len(f"{folder['files']:,}") for folder in folders)
    lines = []
    for folder in folders:
        state = _folder_state(folder)
        shown = f"{state:<18}" if folder["state"] == "watching" else paint(f"{state:<18}", "yellow")
        lines.append(f"{printable(folder['path']):<{width}}  {shown}  {count(folder['files'], 'file', width=digits)}")
        if unwatched := folder.get("unwatched", 0):
            lines.append(
                paint(f"  {count(unwatched, 'directory', 'directories')} polled for want of a watch", "yellow")
            )
        if folder["note"]:
            lines.append(f"  {printable(folder['note'])}")
    return lines


def _folder_state(folder: Folder) -> str:
    if folder["state"] != "watching":
        return printable(folder["state"])
    return "watched by polling" if folder["watch"] == "poll" else "watched by events"


def _unwatched(unwatched: Unwatched) -> Iterator[str]:
    """Yield how much is kept of folders that are not watched, and the commands that drop it."""
    kept = f"{count(unwatched['photos'], 'photo')} in {count(unwatched['files'], 'file')}"
    if unwatched["failures"]:
        kept += f", and {count(unwatched['failures'], 'failure')}"
    folders = unwatched["folders"]
    if len(folders) == 1:
        yield f"{kept} are kept of {printable(folders[0]['path'])}; {_forget(folders[0])} drops them"
        return
    yield f"{kept} are kept of folders that are not watched"
    for folder in folders:
        yield f"  {printable(folder['path'])}: {count(folder['files'], 'file')}; {_forget(folder)} drops them"


def _forget(folder: UnwatchedFolder) -> str:
    return f"lookalike forget {printable(shlex.quote(folder['path']))}"


def _pending(status: StatusAnswer) -> str:
    if not status["pending"]:
        return "nothing"
    return f"{count(status['pending'], 'file')}, the oldest for {duration(status['oldest_pending_seconds'])}"


def _walk(walk: Walk) -> str:
    # Of a first walk nobody knows how long it is.
    expected = f" of about {walk['of']:,}" if walk["of"] > walk["files"] else ""
    return f"{printable(walk['directory'])}: {walk['files']:,}{expected} files"


def _reconciliation(reconciliation: Reconciliation, now: float) -> str:
    found = [f"{reconciliation[kind]:,} {kind}" for kind in ("added", "changed", "removed") if reconciliation[kind]]
    work = f"{count(reconciliation['files'], 'file')} in {duration(reconciliation['seconds'])}"
    return f"{age(reconciliation['finished_at'], now)}: {work}, {', '.join(found) or 'no difference'}"


def _model(model: Model, photos: int) -> str:
    held = count(photos, "photo") if model["photos"] == photos else f"{model['photos']:,} of {count(photos, 'photo')}"
    provider = printable(model["provider"]).removesuffix("ExecutionProvider")
    text = ", understands words" if model.get("text") else ""
    what = f"{model['dim']} dimensions, {printable(model['metric'])}, on {provider}{text}"
    rebuilt = f"; its earlier version answers, the new one has {model['built']:,}" if _is_rebuilding(model) else ""
    return f"{printable(model['name'])}: {held}, {what}{rebuilt}"


def _is_rebuilding(model: Model) -> bool:
    return model.get("state") == "rebuilding"


def _retired(model: RetiredModel) -> str:
    name = printable(model["name"])
    return f"{name}: {count(model['photos'], 'vector')}, no longer in use; lookalike models remove {name} frees them"


def _store(store: Store, paint: Paint) -> str:
    place = "embedded" if store["embedded"] else printable(store["url"])
    if store["state"] == "ok":
        return f"{printable(store['name'])}: ok, {place}"
    reason = f" ({printable(store['reason'])})" if store["reason"] else ""
    return f"{printable(store['name'])}: {paint('away', 'red')}, {place}{reason}"


def _daemon(status: StatusAnswer) -> str:
    work = f"{count(status['encoded'], 'photo')} encoded since"
    uptime = duration(status["uptime_seconds"])
    return f"lookaliked {printable(status['version'])}, library {printable(status['library'])}, up {uptime}, {work}"
