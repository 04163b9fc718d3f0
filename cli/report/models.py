"""The models there are, what one of them is, and what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli.report.text import Paint, count, size_of
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MEGABYTE = 1e6
_COLOURS: dict[str, Any] = {
    "ready": "green",
    "not pulled": "yellow",
    "not installed": "yellow",
    "no file": "yellow",
    "no spec": "yellow",
    "broken": "red",
}


def model_lines(models: Sequence[Mapping[str, Any]], *, colour: bool) -> list[str]:
    """Return for each model a line of what can be done with it, and indented ones of what it is."""
    paint = Paint(enabled=colour)
    width = max((len(printable(model["name"])) for model in models), default=0)
    lines = []
    for model in models:
        state = paint(f"{model['state']:<13}", _COLOURS[model["state"]])
        lines.append(f"{printable(model['name']):<{width}}  {state}  {_use(model)}".rstrip())
        if model["summary"]:
            lines.append(f"  {printable(model['summary'])}")
        if model["dim"] is not None:
            lines.append(f"  {_facts(model)}")
        if model["state"] in {"broken", "no file", "no spec"}:
            lines.append(f"  {printable(model['reason']).removesuffix('.')}")
    return lines


def spec_lines(answer: Mapping[str, Any]) -> list[str]:
    """Return the spec as YAML, and after it, as comments, what lies where."""
    lines = [*answer["yaml"].splitlines(), ""]
    lines += [f"# spec: {printable(answer['path'])}"]
    lines += [f"# {_file(file)}" for file in answer["files"]]
    reason = f", {printable(answer['reason'])}" if answer["reason"] else ""
    lines.append(f"# state: {answer['state']}{reason}")
    lines.append(f"# pinned: {'yes' if answer['pinned'] else 'no, its files may change without the spec'}")
    if answer["fingerprint"]:
        lines.append(f"# fingerprint: {answer['fingerprint']}, prepared in {printable(answer['prepared'])}")
    return lines


def measurement_lines(answer: Mapping[str, Any]) -> list[str]:
    """Return what was measured, and the neighbours of each photo with their scores."""
    memory = answer["memory_after"] - answer["memory_before"]
    provider = answer["provider"].removesuffix("ExecutionProvider")
    vectors = f"{answer['dim']} dimensions, {answer['metric']}, vectors of length {answer['norm']:.3f}"
    lines = [
        f"{answer['model']}: {vectors}, on {provider}",
        f"encoding             {_paces(answer['encoded_per_second'])}",
        f"decoding + encoding  {_paces(answer['photos_per_second'])}",
        f"memory               {memory / _MEGABYTE:,.0f} MB for the model, {answer['memory_after'] / _MEGABYTE:,.0f} MB in all",
    ]
    if answer["text_seconds"] is not None:
        lines.append(f"text                 {1000 * answer['text_seconds']:,.1f} ms for a query")
    for path, neighbours in answer["neighbours"].items():
        # One photo alone has none.
        lines += ["", printable(path)] if neighbours else []
        lines += [f"  {one['score']:.3f}  {printable(one['path'])}" for one in neighbours]
    return lines


def _use(model: Mapping[str, Any]) -> str:
    live = model["live"]
    if live is None:
        return "configured" if model["configured"] else ""
    match live["state"]:
        case "retired":
            return f"no longer used, vectors of {count(live['photos'], 'photo')} are left"
        case "filling":
            return f"live, {live['photos']:,} of {count(live['of'], 'photo')} so far"
        case "rebuilding":
            return f"live, rebuilt for {live['built']:,} of {count(live['of'], 'photo')} so far"
    return f"live, {count(live['photos'], 'photo')}"


def _facts(model: Mapping[str, Any]) -> str:
    # What is so of nearly all, that it is pinned and shipped, would only be in the way.
    facts = [
        f"{model['dim']} dimensions",
        "text" if model["text"] else "",
        model["licence"],
        model["from"],
        "" if model["pinned"] else "not pinned",
        "yours" if model["own"] else "",
    ]
    return printable(", ".join(filter(None, facts)))


def _file(file: Mapping[str, Any]) -> str:
    sha256 = f", SHA-256 {file['sha256']}" if file["sha256"] else ""
    if file["path"] is None:
        return printable(f"{file['role']}: {file['from']}, not on this machine{sha256}")
    return printable(f"{file['role']}: {file['path']}, {size_of(file['bytes'])}{sha256}")


def _paces(paces: Mapping[str, float]) -> str:
    return ", ".join(f"{pace:,.1f} photos/s on {count(int(threads), 'thread')}" for threads, pace in paces.items())
