"""The unit: whether a service manager runs the daemon, and how its last run ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from daemon.doctor.finding import Finding, note, ok, problem, warning
from daemon.doctor.users import User

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context

UNIT = "lookaliked.service"
SOCKET = "lookaliked.socket"
SHOWN = ("LoadState", "UnitFileState", "ActiveState", "Result", "ExecMainStatus", "NRestarts", "NeedDaemonReload")
BAD_CONFIGURATION = "78"


class Manager(NamedTuple):
    """One of the two service managers, and how they are spoken to."""

    name: str
    option: str
    systemctl: str
    journalctl: str


SYSTEM = Manager("the system", "--system", "sudo systemctl", "sudo journalctl")
OF_USER = Manager("you", "--user", "systemctl --user", "journalctl --user")


def check(context: Context) -> Iterator[Finding]:
    if not context.machine.has_systemd:
        yield note("systemd does not run here, so nothing starts lookaliked after a restart of the machine but you")
        return
    answers = {manager: _shown(context, manager, UNIT, SHOWN) for manager in (SYSTEM, OF_USER)}
    if not any(answers.values()):
        yield note("systemd does not say how its services are", "systemctl status")
        return
    units = {manager: unit for manager, unit in answers.items() if unit and unit.get("LoadState") != "not-found"}
    if not units:
        yield note(
            "no unit is installed, so lookaliked runs for as long as you run it", "lookaliked install-service --user"
        )
    for manager, unit in units.items():
        yield from _findings(context, manager, unit)


def _shown(context: Context, manager: Manager, unit: str, properties: tuple[str, ...]) -> dict[str, str]:
    """Return what systemd knows of a unit, nothing where it does not answer."""
    ran = context.machine.run("systemctl", manager.option, "show", unit, f"--property={','.join(properties)}")
    if ran is None or ran.status:
        return {}
    return dict(line.split("=", 1) for line in ran.output.splitlines() if "=" in line)


def _findings(context: Context, manager: Manager, unit: dict[str, str]) -> Iterator[Finding]:
    name = f"the unit of {manager.name}"
    look = f"{manager.journalctl} --unit lookaliked --lines 50"
    active, enabled = unit.get("ActiveState", ""), unit.get("UnitFileState") == "enabled"
    if unit.get("LoadState") not in ("loaded", "masked"):
        yield problem(f"{name} cannot be loaded ({unit.get('LoadState')})", f"{manager.systemctl} status lookaliked")
    elif active == "failed":
        yield _failed(name, manager, unit, look)
    elif active == "inactive" and _is_waited_for(context, manager):
        yield ok(f"{name} is not running, and started by the first query")
    elif enabled and active == "inactive":
        yield warning(f"{name} is enabled and does not run", f"{manager.systemctl} start lookaliked", look)
    elif active == "active" and not enabled:
        yield note(f"{name} runs, and is not started with the machine", f"{manager.systemctl} enable lookaliked")
    else:
        yield ok(f"{name} is {unit.get('UnitFileState') or 'there'}, and {active or 'unknown'}")
    restarts = unit.get("NRestarts", "0")
    if restarts not in ("", "0"):
        yield warning(f"{name} was restarted {restarts} times since it was started", look)
    if unit.get("NeedDaemonReload") == "yes":
        yield warning(f"{name} was changed, and systemd has not read it yet", f"{manager.systemctl} daemon-reload")
    if manager is OF_USER and enabled and not _lingers(context):
        yield note(
            f"{name} ends when you log out, for lingering is off", f"loginctl enable-linger {User.asking().name}"
        )


def _is_waited_for(context: Context, manager: Manager) -> bool:
    """Whether systemd listens on the socket for the daemon: systemd.socket(5)."""
    return _shown(context, manager, SOCKET, ("ActiveState",)).get("ActiveState") == "active"


def _failed(name: str, manager: Manager, unit: dict[str, str], look: str) -> Finding:
    status = unit.get("ExecMainStatus", "")
    if status == BAD_CONFIGURATION:
        return problem(
            f"{name} has failed with status 78: its configuration cannot be used, so systemd does not start it again",
            look,
            f"{manager.systemctl} restart lookaliked  # once it is corrected",
        )
    return problem(
        f"{name} has failed ({unit.get('Result') or 'unknown'}, status {status or 'unknown'})",
        look,
        f"{manager.systemctl} restart lookaliked",
    )


def _lingers(context: Context) -> bool:
    """Whether the user's service manager outlives the session; True where that cannot be told."""
    ran = context.machine.run("loginctl", "show-user", str(os.geteuid()), "--property=Linger")
    return ran is None or ran.status != 0 or "Linger=no" not in ran.output
