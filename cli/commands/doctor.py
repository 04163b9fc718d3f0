"""lookalike doctor: it examines this machine in the process of the command itself, and asks the daemon if one runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.client import SCHEMA, Reply
from cli.commands.options import AsOwnJson, ConfigFile, Socket, TimeoutSeconds, bounded, connect
from cli.errors import CliError
from cli.progress import Activity
from cli.report.doctor import finding_lines, summary

if TYPE_CHECKING:
    from daemon.doctor import Finding, Heard

HELP = """
Look for what is wrong on this machine, and say what mends it.

Whether lookaliked runs or not, every check is made: the configuration, the installation, the models, the folders and what
they lie on, limits of the kernel, permissions, room, memory, the clock, the stores, the lock, the socket, the service,
and what the daemon says of itself. Nothing is written. Below what is wrong stand the commands that mend it.

FOLDERS stand in place of those that are watched, or configured.

\b
Exit codes:
  0   nothing is wrong; there may be warnings
  1   at least one problem
  2   wrong usage
  78  the configuration is bad; everything else was checked all the same
"""

EXIT_PROBLEM = 1
EXIT_CONFIG = 78

Folders = Annotated[
    list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Folders to look at.", show_default=False)
]


def doctor(
    folders: Folders = None,
    *,
    config: ConfigFile = None,
    as_json: AsOwnJson = False,
    socket: Socket = None,
    timeout_seconds: TimeoutSeconds = 5,
) -> None:
    # Out of bounds it is wrong usage, and no finding.
    bounded(timeout_seconds)
    with Activity() as activity:
        try:
            from daemon.doctor import NAMES, Heard, Patient, examine  # noqa: PLC0415 - the daemon's parts are slow to import
        except ImportError as error:
            raise CliError(f"lookalike is not installed whole ({error}); install it again") from error

        def ask(path: Path) -> "Heard":
            try:
                with connect(path, timeout_seconds) as client:
                    return Heard(client.status().answer)
            except CliError as error:
                return Heard(None, str(error))

        width = max(map(len, NAMES))
        found: list[Finding] = []
        for finding in examine(Patient(ask, config, tuple(folders or ()), socket, say=activity)):
            activity.close()
            found.append(finding)
            if not as_json:
                output.lines(finding_lines(finding, width=width, colour=output.colour_wanted()))
    if as_json:
        _print_json(found)
    else:
        output.lines(["", summary(found, colour=output.colour_wanted())])
    raise typer.Exit(_exit_code(found))


def _exit_code(found: "list[Finding]") -> int:
    wrong = {finding.check for finding in found if finding.level == "problem"}
    if "configuration" in wrong:
        return EXIT_CONFIG
    return EXIT_PROBLEM if wrong else 0


def _print_json(found: "list[Finding]") -> None:
    levels = [finding.level for finding in found]
    answer: dict[str, Any] = {
        "schema": SCHEMA,
        "well": "problem" not in levels,
        "problems": levels.count("problem"),
        "warnings": levels.count("warning"),
        "findings": [
            {"check": one.check, "level": one.level, "sentence": one.sentence, "mend": list(one.mend)} for one in found
        ],
    }
    output.as_json(Reply(answer, json.dumps(answer).encode("ascii")))
