"""The command `lookalike`: the application, and the one place where an error becomes a sentence and an exit code."""

import sys
from typing import Annotated, NoReturn

import typer

from cli import output
from cli.commands import (
    compare,
    deletions,
    doctor,
    export,
    failures,
    forget,
    importing,
    models,
    reload,
    relocate,
    search,
    status,
    sync,
    verify,
)
from cli.errors import CliError, OutputClosedError
from daemon import __version__, environment, standard_streams
from daemon.paths import NoHomeDirectory

HELP = """
Find similar photos in a library that lookaliked keeps indexed.

\b
Examples:
  lookaliked run ~/Pictures      watch a folder (in another terminal)
  lookalike status               see what it is doing
  lookalike search cat.jpg       find photos that look like this one
  lookalike search "a red boat"  find photos that show this
  lookalike sync                 wait until all that is on disk is indexed
  lookalike doctor               find out what is wrong on this machine

\b
Exit codes:
  0   done
  1   an error, in one sentence on standard error; or: not in step (sync), a difference (verify),
      a problem (doctor)
  2   wrong usage
  69  the daemon cannot be reached
  78  bad configuration (lookaliked and doctor)
"""

EXIT_CONFIG = 78

# Without rich markup, neither help nor errors import rich; the daemon's answers are plain text too.
app = typer.Typer(
    name="lookalike",
    help=HELP,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(help=search.HELP)(search.search)
app.command(help=compare.HELP)(compare.compare)
app.command(help=status.HELP)(status.status)
app.command(help=sync.HELP)(sync.sync)
app.command(help=reload.HELP)(reload.reload)
app.command(help=verify.HELP)(verify.verify)
app.command(help=export.HELP)(export.export)
app.command("import", help=importing.HELP)(importing.take)
app.command(help=relocate.HELP)(relocate.relocate)
app.command(help=forget.HELP)(forget.forget)
app.command(help=doctor.HELP)(doctor.doctor)
app.add_typer(failures.app, name="failures", help=failures.HELP)
app.add_typer(deletions.app, name="deletions", help=deletions.HELP)
app.add_typer(models.app, name="models", help=models.HELP)


def _version(wanted: bool) -> None:
    if wanted:
        output.lines([f"lookalike {__version__}"])
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    environment.begin()
    with standard_streams.in_order():
        try:
            app(prog_name="lookalike")
        except OutputClosedError as error:
            sys.exit(error.exit_code)
        except CliError as error:
            output.notice(str(error))
            sys.exit(error.exit_code)
        except NoHomeDirectory as error:
            output.notice(str(error))
            sys.exit(EXIT_CONFIG)
        except OSError as error:
            # Typer prints help without asking whether that can be; a file that cannot be used has a name.
            if error.filename is not None:
                raise
            output.notice(str(output.refused(error)))
            sys.exit(CliError.exit_code)
        sys.exit()


if __name__ == "__main__":
    main()
