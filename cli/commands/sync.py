"""lookalike sync."""

from typing import Annotated

import typer

from cli import output
from cli.client import Client
from cli.commands.options import AsJson, Socket, WaitSeconds, bounded, connect
from cli.library import library_path
from cli.report.sync import sync_line, sync_notices

HELP = """
Wait until the index holds what is on disk now.

That is everything that lay below PATH, or without PATH in every watched folder, when the command was given. A file
that could not be indexed is done with, and so is one that is missing but held (see lookalike deletions); both are
named on standard error.

The exit code is 0 when the index is in step, and 1 when it is not after --timeout.

\b
Examples:
  lookalike sync
  cp new.jpg ~/Pictures/ && lookalike sync ~/Pictures/new.jpg && lookalike search new.jpg
"""

_SILENCE_SECONDS = 30


def sync(
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="A file or directory of the library.", show_default=False)
    ] = None,
    *,
    wait_seconds: WaitSeconds = 600,
    as_json: AsJson = False,
    socket: Socket = None,
) -> None:
    bounded(wait_seconds)
    with connect(socket, _SILENCE_SECONDS) as client:
        below = None if path is None else library_path(client, path)
        output.waiting(f"waiting until the index holds what is on disk, for up to {wait_seconds:g} seconds")
        reply = client.sync(below, wait_seconds=wait_seconds)
    if as_json:
        output.as_json(reply)
    else:
        output.lines([sync_line(reply.answer)])
        for sentence in sync_notices(reply.answer):
            output.notice(sentence)
    if not reply.answer["complete"]:
        raise typer.Exit(1)


def sync_first(client: Client, wait_seconds: float) -> None:
    """Wait until the index holds what is on disk now, and say so when it still does not."""
    output.waiting("waiting until the index holds what is on disk")
    answer = client.sync(None, wait_seconds=wait_seconds).answer
    if not answer["complete"]:
        output.notice(f"{sync_line(answer)}: a photo that is not found may not be indexed yet")
        for reason in answer["reasons"]:
            output.notice(reason)
