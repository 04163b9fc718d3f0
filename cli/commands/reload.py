"""lookalike reload."""

from typing import Annotated

import typer

from cli import output
from cli.commands.options import AsJson, Socket, connect
from cli.errors import RefusedError
from cli.report.reload import reload_lines

HELP = """
Have the daemon read its configuration again.

Folders, models, limits and most other keys hold from then on, and no query is lost. A configuration that cannot be used
changes nothing, and is said with everything that is wrong with it. Keys that need a restart are named. The service does
the same on systemctl reload.

The exit code is 78 when the configuration cannot be used.
"""

_EXIT_CONFIG = 78


def reload(
    *,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: Annotated[
        float,
        typer.Option("--timeout", min=0.001, metavar="SECONDS", help="How long to wait: a new model may take minutes."),
    ] = 600,
) -> None:
    try:
        with connect(socket, timeout_seconds) as client:
            output.waiting("waiting until the configuration is in force")
            reply = client.reload()
    except RefusedError as error:
        if error.code != "bad_configuration":
            raise
        output.notice(str(error))
        raise typer.Exit(_EXIT_CONFIG) from error
    if as_json:
        output.as_json(reply)
    else:
        output.lines(reload_lines(reply.answer))
