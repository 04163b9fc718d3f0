"""The commands: what they take, whom they ask, what they print."""

from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.client import Client, Query
from cli.photo import find_similar
from daemon import __version__
from daemon.paths import socket_path

SEARCH_HELP = """
Find the photos of the library that look like IMAGE.

IMAGE is any image file; it need not be in the library. For a photo of the library that has not changed since it was
indexed the stored vector is used, any other image is sent to the daemon. With - the image is read from standard input
(a file of that name is ./-).

Each line holds a score and a path, the most similar photo first. Copies of a photo follow it, marked with "=". What
the score means is the model's metric: with cosine, 1.000 is the same picture.

Control characters and bytes that are not UTF-8 are shown escaped (\\n, \\x1b, \\xff). For programs, --paths -0 writes
the exact bytes of the paths, and --json escapes them so that they can be restored (Python: os.fsencode).

\b
Examples:
  lookalike search cat.jpg
  lookalike search -n 3 --paths cat.jpg
  lookalike search -0 --paths cat.jpg | xargs -0 cp -t /tmp/cats
  curl -s https://example.org/cat.jpg | lookalike search -
"""

STATUS_HELP = """
Say what the daemon is doing.

That is whether the index is up to date, which folders are watched and how, what is pending, and how the models and
the stores are.

The first line is the state: up to date, indexing, starting, or degraded with the reasons below it. The exit code is 0
whenever the daemon answers; scripts read "state" from --json.
"""

_SHORTEST_TIMEOUT_SECONDS = 0.001
_LONGEST_TIMEOUT_SECONDS = 86_400

Socket = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="The daemon's socket. [default: $LOOKALIKE_SOCKET, else lookalike/lookalike.sock in $XDG_RUNTIME_DIR]",
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
AsJson = Annotated[bool, typer.Option("--json", help="Print the daemon's answer as JSON (schema 1).")]


def search(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file, or - for standard input.")],
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many photos. [default: the daemon's, 10]"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare by this model. [default: the daemon's first]")
    ] = None,
    as_json: AsJson = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print only paths, one per line, copies included.")] = False,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="With --paths: end each path with NUL instead of a newline.")
    ] = False,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 30,
) -> None:
    if as_json and paths:
        raise typer.BadParameter("--json and --paths exclude each other.")
    if null and not paths:
        raise typer.BadParameter("--null goes with --paths.")
    with _client(socket, timeout_seconds) as client:
        reply = find_similar(client, image, Query(limit, model))
    if as_json:
        output.as_json(reply)
    elif not reply.answer["results"]:
        output.notice("No similar photos yet: the library is empty.")
    elif paths:
        output.paths(reply.answer, separator=b"\0" if null else b"\n")
    else:
        output.search(reply.answer)


def status(as_json: AsJson = False, socket: Socket = None, timeout_seconds: TimeoutSeconds = 30) -> None:
    with _client(socket, timeout_seconds) as client:
        reply = client.status()
    if as_json:
        output.as_json(reply)
    else:
        output.status(reply.answer)


def version(wanted: bool) -> None:
    """Print the version and end; the callback of --version."""
    if wanted:
        output.text(f"lookalike {__version__}")
        raise typer.Exit


def _client(socket: Path | None, timeout_seconds: float) -> Client:
    # Typer's own bounds let NaN pass.
    if not _SHORTEST_TIMEOUT_SECONDS <= timeout_seconds <= _LONGEST_TIMEOUT_SECONDS:
        raise typer.BadParameter(
            f"--timeout takes {_SHORTEST_TIMEOUT_SECONDS:g} to {_LONGEST_TIMEOUT_SECONDS:g} seconds."
        )
    return Client(socket or socket_path(), timeout_seconds=timeout_seconds)
