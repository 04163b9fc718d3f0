"""lookalike search."""

from typing import Annotated, Literal

import typer

from cli import output
from cli.client import Query
from cli.commands.options import (
    AsJson,
    Limit,
    Models,
    Null,
    Socket,
    Terms,
    TimeoutSeconds,
    bounded,
    connect,
    path_separator,
)
from cli.commands.sync import sync_first
from cli.files import give_up_after
from cli.photo import find_similar
from cli.report.search import search_lines, search_notices
from cli.terms import parse

HELP = """
Find the photos of the library that look like an image, or show what a text says.

QUERY is one term, or several with + or - between them, each an argument of its own. A term is an image file, - for an
image from standard input (a file of that name is ./-), or a text. What names a file is an image; so is what has a /
in it, or ends as image files do (.jpg), and it is an error where there is no such file; all else is a text. text:cat
is a text whatever there is. 2:cat.jpg counts twice, 0.5:cat.jpg half.

An image need not be in the library. For a photo of the library that has not changed since it was indexed the stored
vector is used, any other image is sent to the daemon. For a text, the library needs a model that understands text.

Each line holds a score and a path, the most similar photo first. Copies of a photo follow it, marked with "=". What
the score means is the model's metric: with cosine, 1.000 is the same picture. Several models (--model twice, or
--fuse rrf for all of them) are fused by the ranks that they give, and the score is the sum of 1 / (60 + rank).

A file behind which stands "(unverified)" is in the index and could not be looked at: it is missing in a way that looks
like a missing disk, and its deletion is held (see lookalike deletions).

Control characters and bytes that are not UTF-8 are shown escaped (\\n, \\x1b, \\xff). For programs, --paths -0 writes
the exact bytes of the paths, and --json escapes them so that they can be restored (Python: os.fsencode).

\b
Examples:
  lookalike search cat.jpg
  lookalike search "a red boat at dusk"
  lookalike search boat.jpg + "at night" - 0.5:people.jpg
  lookalike search --fuse rrf -n 3 --paths cat.jpg
  cp new.jpg ~/Pictures/ && lookalike search --sync new.jpg
  lookalike search -0 --paths cat.jpg | xargs -0 cp -t /tmp/cats
  curl -s https://example.org/cat.jpg | lookalike search -
"""


def search(
    query: Terms,
    *,
    limit: Limit = None,
    model: Models = None,
    fuse: Annotated[
        Literal["rrf"] | None,
        typer.Option(help="Fuse the rankings of all models that can answer, or of those that are named."),
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
    give_up_after(bounded(timeout_seconds))
    terms = parse(query)
    with connect(socket, timeout_seconds) as client:
        if sync:
            sync_first(client, timeout_seconds)
        reply = find_similar(client, terms, Query(limit, tuple(model or ()), fuse))
    if as_json:
        output.as_json(reply)
        return
    results = reply.answer["results"]
    if paths:
        output.paths([path for match in results for path in match["paths"]], separator=separator)
    else:
        output.lines(search_lines(reply.answer))
    for sentence in search_notices([reply.answer]):
        output.notice(sentence)
