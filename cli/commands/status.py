"""lookalike status."""

import time

from cli import output
from cli.commands.options import AsJson, Socket, TimeoutSeconds, connect
from cli.report.status import status_lines

HELP = """
Say what the daemon is doing.

That is whether the index is up to date, which folders are watched and how, what is pending, and how the models and
the stores are.

The first line is the state: up to date, indexing, filling, starting, or degraded with the reasons below it. While it is
filling, the index equals the disk but for photos that a new model has not encoded yet. The exit code is 0 whenever the
daemon answers; scripts read "state" from --json.
"""


def status(*, as_json: AsJson = False, socket: Socket = None, timeout_seconds: TimeoutSeconds = 30) -> None:
    with connect(socket, timeout_seconds) as client:
        reply = client.status()
    if as_json:
        output.as_json(reply)
    else:
        output.lines(status_lines(reply.answer, now=time.time(), colour=output.colour_wanted()))
