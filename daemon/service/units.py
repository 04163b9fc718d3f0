"""The unit files as they are written on this machine: the shipped ones, with its paths, and a drop-in for what else it needs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon import ownership, paths
from daemon.errors import ServiceError
from daemon.service.places import ACCOUNT, SERVICE, SLICE, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from daemon.service.places import Places

MARK = "# Written by lookaliked install-service, which asks before it writes over what was changed here."
"""The first line of every file that is written, by which uninstall-service knows it."""
INSTALLED = "10-installed.conf"
BACK_OFF, NETWORK, GPU = "restart-back-off.conf", "network.conf", "gpu.conf"


@dataclass(frozen=True)
class Needs:
    """What this machine's service needs that the shipped unit cannot know."""

    lookaliked: Path
    """The command, by its absolute path."""
    folders: tuple[Path, ...]
    writable: tuple[Path, ...] = ()
    """Directories of ours that the configuration puts elsewhere."""
    variables: Mapping[str, str] = field(default_factory=dict)
    run_as: str = ""
    """The user in place of the service's own; the machine's service alone has it."""
    groups: tuple[str, ...] = ()
    """Groups whose photos it may read, the same."""
    drop_ins: tuple[str, ...] = ()
    """Shipped drop-ins by their names."""


def rendered(places: Places, needs: Needs) -> dict[Path, str]:
    """Return every unit file by its path; ServiceError when what it has to name cannot stand in one."""
    files = {}
    for unit in sorted(paths.shipped(places.manager, "systemd").iterdir()):
        text = unit.read_text(encoding="utf-8")
        files[places.units / unit.name] = _marked(
            _with_command(text, needs.lookaliked) if unit.name == SERVICE else text
        )
    drop_ins = places.units / f"{SERVICE}.d"
    files[drop_ins / INSTALLED] = _marked("\n".join(_drop_in(needs)) + "\n")
    if needs.run_as:
        files[places.units / f"{SOCKET}.d" / INSTALLED] = _marked(f"\n[Socket]\nSocketUser={quoted(needs.run_as)}\n")
    for name in needs.drop_ins:
        files[drop_ins / name] = _marked((paths.shipped("drop-ins", "systemd") / name).read_text(encoding="utf-8"))
    if places.accounts:
        files[places.accounts] = _marked(f'u {ACCOUNT} - "Index of similar photos" {places.data_dir}\n')
    return files


def installed(places: Places) -> Iterator[Path]:
    """Yield the files that are there of those that an installation may write, whoever wrote them."""
    names = [SERVICE, SOCKET, SLICE, f"{SOCKET}.d/{INSTALLED}"]
    names += [f"{SERVICE}.d/{name}" for name in (INSTALLED, BACK_OFF, NETWORK, GPU)]
    candidates = [*(places.units / name for name in names), *([places.accounts] if places.accounts else [])]
    return (path for path in candidates if os.path.isfile(path))


def is_ours(path: Path) -> bool:
    """Return whether an installation wrote the file."""
    try:
        with open(path, "rb", opener=ownership.open_named) as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def _marked(text: str) -> str:
    return f"{MARK}\n{text}"


def _with_command(text: str, lookaliked: Path) -> str:
    command = f"ExecStart={quoted(lookaliked)} run"
    return re.sub(r"^ExecStart=.*$", lambda _: command, text, flags=re.MULTILINE)


def _drop_in(needs: Needs) -> Iterator[str]:
    yield "# What the configuration of this machine asks for. Run install-service again when its folders change."
    yield ""
    yield "[Service]"
    for name, value in sorted(needs.variables.items()):
        yield f"Environment={quoted(f'{name}={value}')}"
    if needs.run_as:
        yield f"User={quoted(needs.run_as)}"
    if needs.groups:
        yield f"SupplementaryGroups={' '.join(map(quoted, needs.groups))}"
    # A name that cannot stand in a unit is read-only all the same, by ProtectSystem=strict.
    yield from _paths("ReadOnlyPaths", (folder for folder in needs.folders if str(folder).isprintable()))
    yield from _paths("ReadWritePaths", needs.writable)


def _paths(key: str, listed: Iterable[Path]) -> Iterator[str]:
    # The minus: a disk that is not there now is no reason not to start.
    return (f"{key}={quoted(f'-{path}')}" for path in listed)


def quoted(value: object) -> str:
    """Return a word of a unit file that means `value`: systemd.syntax(7), and specifiers of systemd.unit(5).

    ServiceError where there is none: a line's end would begin another setting.
    """
    if not str(value).isprintable():
        raise ServiceError(f"{value} cannot be named in a unit of systemd; choose a plainer path")
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return text if re.fullmatch(r"[\w/.=:@%+,-]+", text) else f'"{text}"'
