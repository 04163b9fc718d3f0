"""lookalike search."""

from typing import Annotated

import typer

from cli import output
from cli.client import Query
from cli.commands.options import AsJson, Null, Socket, TimeoutSeconds, connect, path_separator
from cli.commands.sync import sync_first
from cli.photo import find_similar
from cli.report.search import search_lines

HELP = """
Find the photos of the library that look like IMAGE.

IMAGE is any image file; it need not be in the library. For a photo of the library that has not changed since it was
indexed the stored vector is used, any other image is sent to the daemon. With - the image is read from standard input
(a file of that name is ./-).

Each line holds a score and a path, the most similar photo first. Copies of a photo follow it, marked with "=". What
the score means is the model's metric: with cosine, 1.000 is the same picture.

A file behind which stands "(unverified)" is in the index and could not be looked at: it is missing in a way that looks
like a missing disk, and its deletion is held (see lookalike deletions).

Control characters and bytes that are not UTF-8 are shown escaped (\\n, \\x1b, \\xff). For programs, --paths -0 writes
the exact bytes of the paths, and --json escapes them so that they can be restored (Python: os.fsencode).

\b
Examples:
  lookalike search cat.jpg
  lookalike search -n 3 --paths cat.jpg
  cp new.jpg ~/Pictures/ && lookalike search --sync new.jpg
  lookalike search -0 --paths cat.jpg | xargs -0 cp -t /tmp/cats
  curl -s https://example.org/cat.jpg | lookalike search -
"""


def search(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file, or - for standard input.")],
    *,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many photos. [default: the daemon's, 10]"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare by this model. [default: the daemon's first]")
    ] = None,
    as_json: AsJson = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print only paths, one per line, copies included.")] = False,
    null: Null = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Wait first (at most --timeout) until what is on disk now is in the index.")
    ] = False,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 30,
) -> None:
    separator = path_separator(as_json=as_json, paths=paths, null=null)
    with connect(socket, timeout_seconds) as client:
        if sync:
            sync_first(client, timeout_seconds)
        reply = find_similar(client, image, Query(limit, model))
    results = reply.answer["results"]
    if as_json:
        output.as_json(reply)
    elif not results:
        output.notice("No similar photos yet: the library is empty.")
    elif paths:
        output.paths([path for match in results for path in match["paths"]], separator=separator)
    else:
        output.lines(search_lines(reply.answer))
    unverified = sum(len(match.get("unverified", ())) for match in results)
    if unverified and not as_json:
        output.notice(f"{unverified:,} of these could not be verified: see lookalike deletions list")
