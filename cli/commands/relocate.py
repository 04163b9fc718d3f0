"""lookalike relocate."""

from typing import Annotated

import typer

from cli import output
from cli.commands.options import AsJson, SilenceSeconds, Socket, connect
from cli.errors import CliError
from cli.library import library_path, refuse_too_long
from cli.report.transfer import relocation_lines
from daemon.paths import absolute

HELP = """
Tell the library that photos which lay below OLD lie below NEW now.

That is for photos that were moved while nobody watched: to another disk, or to a folder of another name. Move them,
name NEW in the configuration in place of OLD, start lookaliked, and relocate. Each file that has the size and mtime it
had is known in its new place without being read; the others are read once by the next walk. Nothing is encoded.

\b
Example:
  lookalike relocate /mnt/old/photos /mnt/new/photos --dry-run
"""


def relocate(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The directory in which the photos lay.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The directory in which they lie now; it is watched.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: SilenceSeconds = 600,
) -> None:
    if not old or not new:
        raise CliError("no directory is named: the argument is empty")
    with connect(socket, timeout_seconds) as client:
        # A link may stand at the old place now, which leads to the new one.
        refuse_too_long(old)
        before, now = absolute(old), library_path(client, new)
        output.waiting(f"comparing what was known below {before} with {now}")
        reply = client.relocate(before, now, dry_run=dry_run)
    answer = reply.answer
    if as_json:
        output.as_json(reply)
    else:
        output.lines(relocation_lines(answer, before, now))
    if not answer["moved"] + answer["kept"] + answer["changed"] + answer["failures"]:
        raise typer.Exit(1)
