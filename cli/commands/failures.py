"""lookalike failures."""

import time
from typing import Annotated

import typer

from cli import output
from cli.commands.group import ListingGroup
from cli.commands.options import AsJson, Socket, TimeoutSeconds, connect
from cli.library import library_path
from cli.report.failures import failure_lines
from cli.report.text import count

HELP = """
List the files that could not be indexed, or try them again.

A file that is damaged, cut short or too large costs no other one. It is tried again when it changes, and when retry
asks for it. Without a command, they are listed.
"""

_LIST_HELP = """
List the files that could not be indexed.

Each path is followed by a line with the reason, how often the file was tried, and when it failed for the first time.
"""

_RETRY_HELP = """
Try the files again that could not be indexed.

That is what to do when the reason is gone without the file having changed: it may be read now, or a limit of the
configuration was raised. lookalike sync waits until it is done.
"""

Below = Annotated[
    str | None,
    typer.Argument(
        metavar="[PATH]", help="A file or directory of the library. [default: everything]", show_default=False
    ),
]

app = typer.Typer(cls=ListingGroup)


@app.command("list", help=_LIST_HELP)
def list_failures(
    path: Below = None, *, as_json: AsJson = False, socket: Socket = None, timeout_seconds: TimeoutSeconds = 30
) -> None:
    with connect(socket, timeout_seconds) as client:
        reply = client.failures(None if path is None else library_path(client, path))
    failures, total = reply.answer["failures"], reply.answer["total"]
    if as_json:
        output.as_json(reply)
        return
    if not total:
        output.notice("No failures: every file that was looked at could be indexed.")
    output.lines(failure_lines(reply.answer, now=time.time()))
    if total > len(failures):
        output.notice(f"{total - len(failures):,} more are not shown; name a directory to see those below it")


@app.command("retry", help=_RETRY_HELP)
def retry_failures(
    path: Below = None, *, as_json: AsJson = False, socket: Socket = None, timeout_seconds: TimeoutSeconds = 30
) -> None:
    with connect(socket, timeout_seconds) as client:
        reply = client.retry_failures(None if path is None else library_path(client, path))
    if as_json:
        output.as_json(reply)
    else:
        output.lines([f"trying {count(reply.answer['retried'], 'file')} again"])
