"""lookalike deletions."""

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.client import Client, Reply
from cli.commands.group import ListingGroup
from cli.commands.options import AsJson, Null, Socket, TimeoutSeconds, connect, path_separator
from cli.errors import RefusedError
from cli.library import library_path
from cli.report.deletions import deletion_lines
from cli.report.text import count
from daemon.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.answers import DecisionAnswer, DeletionsAnswer

HELP = """
List the deletions that are held, and decide on them.

When a folder is missing or cannot be read, or many of its files are gone at once, that looks like a disk that is not
there: nothing is taken out of the index, and search marks those files as unverified. When they are back, nothing
needs to be done. Without a command, they are listed.
"""

_LIST_HELP = """
List the deletions that are held.

Each folder is listed with the reason, how many of its files are held and since when, some of them, and the commands
that decide.
"""

_APPROVE_HELP = """
The files were deleted on purpose: take them out of the index.

Photos that come back later are indexed anew.
"""

_REJECT_HELP = """
The files are to be kept in the index until they are back.

They are no longer asked about; lookalike deletions lists them as kept, and approve can still take them out.
"""

Folder = Annotated[
    str | None, typer.Argument(metavar="[FOLDER]", help="A watched folder, as it is listed.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Decide for every folder that is waiting for it.")]

_NONE_HELD: "DeletionsAnswer" = {"schema": 1, "folders": []}

app = typer.Typer(cls=ListingGroup)


@app.command("list", help=_LIST_HELP)
def list_deletions(
    folder: Folder = None,
    *,
    as_json: AsJson = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print only the paths, all of them, one per line.")] = False,
    null: Null = False,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 30,
) -> None:
    separator = path_separator(as_json=as_json, paths=paths, null=null)
    with connect(socket, timeout_seconds) as client:
        reply = client.deletions(None if folder is None else library_path(client, folder))
        folders = reply.answer["folders"]
        if paths and folder is None:
            # Only of a folder that is named does the daemon list all paths.
            folders = [held for each in folders for held in client.deletions(each["folder"]).answer["folders"]]
    if as_json:
        output.as_json(reply)
    elif not folders:
        output.notice("No deletions are held.")
    elif paths:
        output.paths([path for held in folders for path in held["paths"]], separator=separator)
    else:
        output.lines(deletion_lines(reply.answer, now=time.time()))


@app.command("approve", help=_APPROVE_HELP)
def approve(
    folder: Folder = None,
    *,
    every: All = False,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 30,
) -> None:
    with connect(socket, timeout_seconds) as client:
        folders = _folders(client, folder, every=every, as_json=as_json)
        _decide(client.approve_deletions, folders, "taken out of the index", every=every, as_json=as_json)


@app.command("reject", help=_REJECT_HELP)
def reject(
    folder: Folder = None,
    *,
    every: All = False,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 30,
) -> None:
    with connect(socket, timeout_seconds) as client:
        folders = _folders(client, folder, every=every, as_json=as_json)
        _decide(client.reject_deletions, folders, "kept in the index until they are back", every=every, as_json=as_json)


def _folders(client: Client, folder: str | None, *, every: bool, as_json: bool) -> list[str]:
    """Return the folders to decide on: the one that is named, or every one that nobody has decided on; it is said if none is."""
    if every == (folder is not None):
        raise typer.BadParameter("name a FOLDER, or give --all.")
    if folder is not None:
        return [library_path(client, folder)]
    waiting = [held["folder"] for held in client.deletions(None).answer["folders"] if held["state"] != "kept"]
    if not waiting and as_json:
        output.as_json(Reply(_NONE_HELD, json.dumps(_NONE_HELD).encode("ascii")))
    elif not waiting:
        output.notice("No deletions are held.")
    return waiting


def _decide(
    decide: "Callable[[str], Reply[DecisionAnswer]]", folders: list[str], outcome: str, *, every: bool, as_json: bool
) -> None:
    """Decide on each folder; with `every`, only note a folder that has nothing held any more, as when its disk is back."""
    for folder in folders:
        try:
            _show(decide(folder), outcome, as_json=as_json)
        except RefusedError as error:
            if not every or error.code != "not_held":
                raise
            output.notice(str(error))


def _show(reply: "Reply[DecisionAnswer]", outcome: str, *, as_json: bool) -> None:
    if as_json:
        output.as_json(reply)
    else:
        folder = printable(reply.answer["folder"]["folder"])
        output.lines([f"{folder}: {count(reply.answer['files'], 'file')} {outcome}"])
