"""lookalike forget."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.commands.options import AsJson, SilenceSeconds, Socket, connect
from cli.errors import CliError
from cli.report.text import count
from daemon.names import printable
from daemon.paths import absolute

if TYPE_CHECKING:
    from cli.answers import ForgetAnswer

HELP = """
Drop what the index knows of a folder that is not watched any more.

When a folder is taken out of the configuration, the index keeps its photos, so that nothing is encoded again when the
folder is back. No answer shows them; lookalike status says how many there are. Forgetting deletes their vectors and
the folder's failures, and no file. A photo that another folder holds too is kept there.

A folder that is watched, lies in a watched one or contains one is refused.

\b
Example:
  lookalike forget /mnt/old/photos --dry-run
"""


def forget(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The folder, or a file; it need not exist.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed without a terminal.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be dropped.")] = False,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: SilenceSeconds = 600,
) -> None:
    if not folder:
        raise CliError("no folder is named: the argument is empty")
    with connect(socket, timeout_seconds) as client:
        # As it was written in the configuration: a link may stand there now.
        path = absolute(folder)
        if not yes and not dry_run:
            # The daemon counts first: it refuses before anybody has to answer.
            _confirm(client.forget(path, dry_run=True).answer)
        reply = client.forget(path, dry_run=dry_run)
    if as_json:
        output.as_json(reply)
    else:
        would = "would be dropped" if dry_run else "dropped"
        output.lines([f"{printable(path)}: {_amount(reply.answer)} {would}"])


def _confirm(found: "ForgetAnswer") -> None:
    """Ask before anything is dropped; CliError without a terminal."""
    what = f"{_amount(found)} of {printable(found['path'])}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise CliError(f"without a terminal, lookalike cannot ask whether to drop {what}; give --yes")
    typer.confirm(f"Drop {what} from the index?", abort=True, err=True)


def _amount(found: "ForgetAnswer") -> str:
    failures = f" and {count(found['failures'], 'failure')}" if found["failures"] else ""
    return f"{count(found['photos'], 'photo')} in {count(found['files'], 'file')}{failures}"
