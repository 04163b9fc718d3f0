"""The command `lookaliked`: reads the configuration, lives one life of the daemon, and makes of an error a sentence and an exit code."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path  # noqa: TC003 - Typer reads the annotations when a command runs
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import daemon
from daemon import config as configuration
from daemon import environment, paths, standard_streams
from daemon.allocator import keep_freed_memory
from daemon.catalogue.configured import complaints as unusable_models
from daemon.catalogue.installation import own_catalogue
from daemon.console import standard_error
from daemon.errors import ConfigError, LookalikeError, ModelError, shown
from daemon.life import Daemon, count
from daemon.logs import output as logs
from daemon.names import printable
from daemon.sdnotify import ServiceManager
from daemon.service.commands import install_service, uninstall_service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.catalogue.catalogue import Catalogue
    from daemon.config import Config

log = logging.getLogger("lookalike")

EXIT_ERROR = 1
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: starting again will not help."""

app = typer.Typer(
    name="lookaliked",
    help="Keeps a photo library indexed while it changes. Ask it with the command lookalike.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command("install-service")(install_service)
app.command("uninstall-service")(uninstall_service)


def main() -> None:
    """Run the command line, and make a sentence and an exit code of what no command has made one of."""
    environment.begin()
    with standard_streams.in_order():
        try:
            app(prog_name="lookaliked")
        except paths.NoHomeDirectory as error:
            _say(error)
            sys.exit(EXIT_CONFIG)
        except OSError as error:
            # Typer prints without asking whether that can be; a file that cannot be used has a name.
            if error.filename is not None:
                raise
            _say(f"the output cannot be written: {error.strerror or error}")
            sys.exit(EXIT_ERROR)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"lookaliked {daemon.__version__}")
        raise typer.Exit


@app.command()
def run(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders to watch, in place of those in the configuration file.",
            show_default=False,
            # What cannot be read is a bad configuration, and not wrong usage: the loaders say so.
            readable=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="The configuration file. (default: ~/.config/lookalike/lookalike.yaml, if it is there)",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A model to describe photos by, in place of those in the configuration file; may be given several times.",
            show_default=False,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Index what is there, report, and exit.")] = False,
) -> None:
    """Index the folders, then keep the index equal to them until stopped (Ctrl-C or SIGTERM)."""
    status = _run(standard_error(), config, tuple(folders or ()), tuple(model or ()), once=once)
    logs.end()
    raise typer.Exit(status)


@app.command("check-config")
def check_config(
    file: Annotated[Path, typer.Argument(help="The configuration file to check.", readable=False)],
) -> None:
    """Say everything that is wrong with a configuration file; exit 78 when something is."""
    try:
        reading = configuration.read(file, watching=False)
        refusal = reading.refusal(
            [*unusable_models(reading, own_catalogue(file)), *configuration.missing_folders(reading.config)]
        )
        if refusal:
            raise refusal
    except ConfigError as error:
        _say(error)
        raise typer.Exit(EXIT_CONFIG) from error
    settings = reading.config
    folders = count(len(settings.folders), "folder") if settings.folders else "folders from the command line alone"
    models = f"model{'' if len(settings.models) == 1 else 's'} {', '.join(settings.models)}"
    typer.echo(printable(f"{file} is good: {folders}, {models}"))


def _run(console: Console, file: Path | None, folders: tuple[Path, ...], models: tuple[str, ...], *, once: bool) -> int:
    """Return the exit status of a daemon's whole life."""
    # A watchdog ends a daemon that hangs by SIGABRT: where each of its threads was is then in the log.
    faulthandler.enable()
    keep_freed_memory()
    form = logs.begin("auto", console)
    logs.take_over()
    catalogue = own_catalogue(_in_place(file))
    # A reload reads these variables again, and none that a library has added meanwhile.
    given = dict(os.environ)
    try:
        settings = _settings(_in_place(file), folders, models, catalogue, given)
    except (ConfigError, paths.NoHomeDirectory) as error:
        if form == "text":
            console.print(shown(error), markup=False, highlight=False, soft_wrap=True)
        else:
            log.error("%s", error)  # noqa: TRY400 - the sentence is meant for a person; there is nothing to trace
        _tell_service_manager(error)
        return EXIT_CONFIG
    if logs.begin(settings.log.format, console, level=settings.log.level) != "text":
        # A bar between lines that a program reads would break them.
        console = Console(quiet=True, force_terminal=False)
    life = Daemon(settings, catalogue, console, lambda: _settings_again(file, folders, models, catalogue, given))
    try:
        life.start()
        life.run(once=once)
    except (ConfigError, ModelError) as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence is meant for a person; there is nothing to trace
        _tell_service_manager(error)
        return EXIT_CONFIG
    except LookalikeError as error:
        log.error("%s", error)  # noqa: TRY400 - as above
        _tell_service_manager(error)
        return EXIT_ERROR
    except Exception:
        log.exception("lookaliked ends: one of its parts failed")
        return EXIT_ERROR
    finally:
        life.stop()
    return 0


def _in_place(file: Path | None) -> Path | None:
    """Return the configuration file that is read now: the one that was named, or the usual one where it is there."""
    return file or paths.config_file_in_place()


def _say(sentence: str | Exception) -> None:
    # The exit code still speaks when standard error takes nothing.
    with suppress(OSError):
        typer.echo(shown(sentence), err=True)


def _tell_service_manager(error: Exception) -> None:
    """Leave the reason where `systemctl status` shows it."""
    ServiceManager().status(f"failed: {error}", at_once=True)


def _settings(
    file: Path | None,
    folders: tuple[Path, ...],
    models: tuple[str, ...],
    catalogue: Catalogue,
    given: Mapping[str, str] | None = None,
) -> Config:
    """Return the configuration; ConfigError with everything for which the daemon could not start with it."""
    reading = configuration.read(file, folders, given, models=models)
    # Somebody is there to mend what they have just typed; a configured disk may come later.
    missing = configuration.missing_folders(reading.config) if folders else []
    refusal = reading.refusal([*unusable_models(reading, catalogue), *missing])
    if refusal:
        raise refusal
    return reading.config


def _settings_again(
    file: Path | None,
    folders: tuple[Path, ...],
    models: tuple[str, ...],
    catalogue: Catalogue,
    given: Mapping[str, str],
) -> Config:
    """Return the configuration as it is now; raise ConfigError as above, and if it needs a home directory that the user does not have."""
    try:
        return _settings(_in_place(file), folders, models, catalogue, given)
    except paths.NoHomeDirectory as error:
        raise ConfigError("the environment", [str(error)]) from error


if __name__ == "__main__":
    main()
