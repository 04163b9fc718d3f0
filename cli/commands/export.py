"""lookalike export."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.client import Client, Reply
from cli.commands.options import SilenceSeconds, Socket, connect
from cli.exports import exported, passing, refuse_watched, written_whole
from cli.files import STDIN
from cli.progress import Downloads
from cli.report.transfer import export_line

if TYPE_CHECKING:
    from cli.answers import ExportAnswer

HELP = """
Write what the library knows to one file: photos, paths and vectors.

With - as FILE it goes to standard output. The daemon goes on watching meanwhile. The photos themselves are not in the
file; with it, another lookalike that has them need not encode them (lookalike import). Only its owner may read it.

\b
Examples:
  lookalike export /media/backup/lookalike.export
  lookalike export - | ssh nas 'cat > lookalike.export'
"""


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to be written, or - for standard output.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was exported as JSON (schema 1).")] = False,
    socket: Socket = None,
    timeout_seconds: SilenceSeconds = 600,
) -> None:
    if file == STDIN and as_json:
        raise typer.BadParameter("--json goes to standard output, and so would the export.")
    with connect(socket, timeout_seconds) as client:
        if file == STDIN:
            output.notice(export_line(_exported(client, output.raw, "standard output")))
            return
        refuse_watched(client, file)
        with written_whole(file, replace=force) as write:
            answer = _exported(client, write, file)
    if as_json:
        output.as_json(Reply(answer, json.dumps(answer).encode("ascii")))
    else:
        output.lines([export_line(answer)])


def _exported(client: Client, write: Callable[[bytes], None], name: str) -> "ExportAnswer":
    """Pass the export on to `write`, piece by piece; return what there was of it."""

    def written() -> Iterator[bytes]:
        for piece in client.export():
            write(piece)
            yield piece

    with Downloads() as progress:
        for passed in passing(written(), "the export"):
            progress("exporting", passed.bytes, None, f"{passed.photos:,} of {passed.of:,} photos")
    return exported(passed, name)
