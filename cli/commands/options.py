"""The options that commands share, and the connection that they describe."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client
from daemon.paths import socket_path

_SHORTEST_TIMEOUT_SECONDS = 0.001
_LONGEST_TIMEOUT_SECONDS = 86_400


def _named(models: list[str] | None) -> list[str] | None:
    if any(not model.strip() for model in models or ()):
        raise typer.BadParameter("--model takes the name of a model; it is empty.")
    return models


Socket = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="The daemon's socket. [default: $LOOKALIKE_SOCKET, else lookalike/lookalike.sock in $XDG_RUNTIME_DIR, else in /run]",
    ),
]
TimeoutSeconds = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        envvar="LOOKALIKE_TIMEOUT",
        help="Give up when the daemon is silent for so long.",
    ),
]
SilenceSeconds = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="Give up when the daemon is silent for so long.")
]
WaitSeconds = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Wait at most so long.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the daemon's answer as JSON (schema 1).")]
AsOwnJson = Annotated[bool, typer.Option("--json", help="Print JSON (schema 1).")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration of lookaliked. [default: ~/.config/lookalike/lookalike.yaml]",
        show_default=False,
    ),
]
Terms = Annotated[
    list[str],
    typer.Argument(metavar="QUERY...", help="An image file, - for standard input, or a text; more with + and -."),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many photos. [default: the daemon's, 10]"),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        callback=_named,
        help="Ask this model; may be repeated. [default: the daemon's choice]",
    ),
]
Null = Annotated[bool, typer.Option("--null", "-0", help="With --paths: end each path with NUL instead of a newline.")]


def connect(socket: Path | None, timeout_seconds: float) -> Client:
    """Return a client for the daemon behind `socket`, or behind its default."""
    return Client(socket or socket_path(), timeout_seconds=bounded(timeout_seconds))


def bounded(timeout_seconds: float) -> float:
    """Return what --timeout was given; it is wrong usage out of bounds."""
    # Typer's own bounds let NaN pass.
    if not _SHORTEST_TIMEOUT_SECONDS <= timeout_seconds <= _LONGEST_TIMEOUT_SECONDS:
        raise typer.BadParameter(
            f"--timeout takes {_SHORTEST_TIMEOUT_SECONDS:g} to {_LONGEST_TIMEOUT_SECONDS:g} seconds."
        )
    return timeout_seconds


def path_separator(*, as_json: bool, paths: bool, null: bool) -> bytes:
    """Return what --null says must follow each path; it is wrong usage to mix --json, --paths and --null."""
    if as_json and paths:
        raise typer.BadParameter("--json and --paths exclude each other.")
    if null and not paths:
        raise typer.BadParameter("--null goes with --paths.")
    return b"\0" if null else b"\n"
