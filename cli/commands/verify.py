"""lookalike verify."""

from typing import Annotated

import typer

from cli import output
from cli.commands.options import AsJson, Socket, connect
from cli.report.verify import verify_lines

HELP = """
Compare the disk with the index, and list what differs.

The files on disk, the mapping of files to photos, and the vectors of every model are compared. Each kind of difference
is listed with what it means and some examples; the last line says what was compared. A file that could not be indexed
is no difference (see lookalike failures).

The exit code is 0 when there is no difference, or none is left after --repair, and 1 otherwise.
"""


def verify(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended; what is left is listed.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read a sample of the photos again, and search for each by its bytes.")
    ] = False,
    as_json: AsJson = False,
    socket: Socket = None,
    timeout_seconds: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", help="Give up when it takes longer."),
    ] = 3600,
) -> None:
    with connect(socket, timeout_seconds) as client:
        output.waiting("comparing the disk with the index; in a large library that takes minutes")
        reply = client.verify(deep=deep, repair=repair)
    differences = reply.answer["differences"]
    if as_json:
        output.as_json(reply)
    else:
        output.lines(verify_lines(reply.answer))
        if undecided := reply.answer.get("pending", 0):
            output.notice(f"{undecided:,} more could not be decided, since their files are pending: see lookalike sync")
        if differences and not repair:
            output.notice("lookalike verify --repair mends what can be mended")
    if differences:
        raise typer.Exit(1)
