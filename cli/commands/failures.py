"""lookalike failures."""

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.commands.group import ListingGroup
from cli.commands.options import AsJson, Socket, TimeoutSeconds, connect
from cli.library import library_path
from cli.report.failures import failure_lines, skipped_sentence
from cli.report.text import count
from daemon.names import printable

HELP = """
List the files that could not be indexed, or try them again.

A file that is damaged, cut short or too large costs no other one. It is tried again when it changes, and when retry
asks for it. Without a command, they are listed.
"""

_LIST_HELP = """
List the files that could not be indexed.

Each path is followed by a line with the reason, how often the file was tried, and when it failed for the first time.

With --skipped, the files are listed that look like pictures and are not read, one a line: raw files of cameras, formats
that lookalike does not know, backups of pictures, and pictures whose names have no extension.
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
    path: Below = None,
    *,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="List files that look like pictures and are not read instead.")
    ] = False,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 30,
) -> None:
    if skipped:
        _list_skipped(path, as_json=as_json, socket=socket, timeout_seconds=timeout_seconds)
        return
    with connect(socket, timeout_seconds) as client:
        reply = client.failures(None if path is None else library_path(client, path, may_be_long=True))
    failures, total = reply.answer["failures"], reply.answer["total"]
    if as_json:
        output.as_json(reply)
        return
    if not total:
        output.notice("No failures: every file that was looked at could be indexed.")
    output.lines(failure_lines(reply.answer, now=time.time()))
    if total > len(failures):
        output.notice(f"{total - len(failures):,} more are not shown; name a directory to see those below it")


def _list_skipped(path: str | None, *, as_json: bool, socket: Path | None, timeout_seconds: float) -> None:
    with connect(socket, timeout_seconds) as client:
        reply = client.skipped(None if path is None else library_path(client, path))
    files = reply.answer["skipped"]
    if as_json:
        output.as_json(reply)
        return
    output.lines([printable(file["path"]) for file in files])
    found = Counter(file["extension"] for file in files)
    output.notice(skipped_sentence(found) if files else "No file that looks like a picture is skipped.")
    if reply.answer["more"]:
        output.notice("there are more; name a directory to see those below it")


@app.command("retry", help=_RETRY_HELP)
def retry_failures(
    path: Below = None, *, as_json: AsJson = False, socket: Socket = None, timeout_seconds: TimeoutSeconds = 30
) -> None:
    with connect(socket, timeout_seconds) as client:
        reply = client.retry_failures(None if path is None else library_path(client, path, may_be_long=True))
    if as_json:
        output.as_json(reply)
    else:
        output.lines([f"trying {count(reply.answer['retried'], 'file')} again"])
