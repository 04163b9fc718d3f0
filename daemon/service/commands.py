"""The commands `lookaliked install-service` and `lookaliked uninstall-service`."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon import paths
from daemon.errors import ConfigError, LookalikeError, ServiceError, shown
from daemon.names import printable
from daemon.service import places as locations
from daemon.service.carrying_out import CommandFailed, carry_out
from daemon.service.installing import Request, plan_installation
from daemon.service.uninstalling import plan_removal

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.service.places import Places
    from daemon.service.plan import Plan

EXIT_ERROR = 1
EXIT_CONFIG = 78
LINGER = Path("/var/lib/systemd/linger")

System = Annotated[
    bool, typer.Option("--system", help="The service of the machine, for everybody in a group. (default for root)")
]
User = Annotated[bool, typer.Option("--user", help="A service of your own, for your pictures. (default for others)")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def install_service(
    system: System = False,
    user: User = False,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", readable=False, show_default=False, help="A folder to watch; may be given several times."
        ),
    ] = None,
    run_as: Annotated[
        str,
        typer.Option(
            metavar="USER",
            show_default=False,
            help="Whom the machine's service runs as, in place of a user of its own.",
        ),
    ] = "",
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP",
            show_default=False,
            help="A group whose photos the machine's service may read; may be given several times.",
        ),
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Allow it the network, whatever the configuration says.")
    ] = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Write the files, and start nothing.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Install lookaliked as a service of systemd: write its configuration and units, enable, start, and show how it is."""

    def work() -> None:
        places = _places(system=system, user=user)
        _require(places, dry_run=dry_run)
        if places.manager == "user" and (run_as or group):
            raise ServiceError("--run-as and --group are for the machine's service; yours runs as you")
        _require_manager(places, needed=not (no_start or dry_run))
        request = Request(
            tuple(Path(os.path.abspath(paths.expanded(one))) for one in folder or ()),
            run_as,
            tuple(group or ()),
            network=network,
            start=not no_start,
        )
        _see_as_the_service(places)
        plan = plan_installation(places, request, _own_command(), _systemd_version())
        if not _agreed(plan, dry_run=dry_run, yes=yes, question="Write over what is there?"):
            return
        _carry_out(plan, places)
        if request.start:
            _show(places)

    _exit(work)


def uninstall_service(
    system: System = False,
    user: User = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete the configuration, the index and the cache too.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Stop the service and take its units away; what it knows stays, unless it is to be purged. No photo is touched."""

    def work() -> None:
        places = _places(system=system, user=user)
        _require(places, dry_run=dry_run)
        _see_as_the_service(places)
        plan = plan_removal(places, purge=purge, running=locations.is_running(places))
        if _agreed(plan, dry_run=dry_run, yes=yes, question="Delete all of this?" if purge else ""):
            _carry_out(plan, places)

    _exit(work)


def _exit(work: Callable[[], None]) -> None:
    """Make of an error a sentence and an exit code."""
    try:
        work()
    except LookalikeError as error:
        _say(error)
        raise typer.Exit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_ERROR) from error


def _places(*, system: bool, user: bool) -> Places:
    if system and user:
        raise typer.BadParameter("--system and --user exclude one another")
    is_system = system or (not user and os.geteuid() == 0)
    return locations.of_the_system() if is_system else locations.of_this_user()


def _require(places: Places, *, dry_run: bool) -> None:
    if places.manager == "user" and os.geteuid() == 0 and os.environ.get("SUDO_USER"):
        raise ServiceError("a service of your own is yours to install: say the same without sudo, or --system")
    if places.manager == "system" and os.geteuid() != 0 and not dry_run:
        raise ServiceError(
            "the service of the machine is root's to install and to take away; say sudo before this command, or --user"
        )


def _require_manager(places: Places, *, needed: bool) -> None:
    if not needed or locations.is_running(places):
        return
    if places.manager == "system":
        raise ServiceError("systemd does not run on this machine; with --no-start the files are written all the same")
    name = _own_name()
    raise ServiceError(
        f"{name} has no service manager here: log in as {name}, or let one run from boot on (sudo loginctl enable-linger {name}); "
        "with --no-start the files are written all the same"
    )


def _see_as_the_service(places: Places) -> None:
    """Let the configuration's defaults in this process be those that the service will have."""
    if places.manager == "system":
        # What root's shell says of root's own places is not the service's.
        for name in [name for name in os.environ if name.startswith(("XDG_", "LOOKALIKE_"))]:
            del os.environ[name]
    os.environ.update(places.variables)


def _own_name() -> str:
    """Return what this user is called; the number, where nobody has given a name to it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _own_command() -> Path:
    return Path(sysconfig.get_path("scripts"), "lookaliked")


def _systemd_version() -> int:
    """Return the version of systemd; 0 where it is not there to ask."""
    try:
        said = subprocess.run(("systemctl", "--version"), capture_output=True, text=True, check=False).stdout  # noqa: S607
    except OSError:
        return 0
    found = re.match(r"systemd (\d+)", said)
    return int(found[1]) if found else 0


def _agreed(plan: Plan, *, dry_run: bool, yes: bool, question: str) -> bool:
    """Show what would be done, and return whether it is to be; ServiceError where nobody is there to be asked."""
    asked = bool(plan.changed) or bool(question and plan.removals)
    if dry_run or asked:
        for line in plan.shown():
            typer.echo(printable(line))
    if dry_run:
        for notice in plan.notices:
            _say(notice)
        return False
    if not asked or yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise ServiceError("nothing was done: nobody is there to be asked; look at what is shown above, and say --yes")
    return typer.confirm(question, err=True, abort=True)


def _carry_out(plan: Plan, places: Places) -> None:
    try:
        carry_out(plan, _say)
    except CommandFailed as error:
        raise ServiceError(*_with_last_words(error, places)) from error
    for notice in plan.notices:
        _say(notice)


def _with_last_words(error: CommandFailed, places: Places) -> list[str]:
    """Return what a person needs to know of a service that did not start: what the daemon said of itself, and where there is more."""
    words = (*places.systemctl, "show", "--property=StatusText", "--value", locations.SERVICE)
    said = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    lines = [str(error), *([f"It said: {said}"] if said.startswith("failed: ") else [])]
    return [*lines, f"Its log says more: {places.journalctl} --lines=20"]


def _show(places: Places) -> None:
    words = (*places.systemctl, "status", "--no-pager", "--lines=0", locations.SERVICE)
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, errors="surrogateescape", check=False).stdout
    for line in said.splitlines():
        typer.echo(printable(line))
    name = _own_name()
    if places.manager == "user" and not (LINGER / name).exists():
        _say(f"it runs while you are logged in; to have it from boot on: loginctl enable-linger {name}")


def _say(sentence: str | LookalikeError) -> None:
    typer.echo(shown(sentence), err=True)
