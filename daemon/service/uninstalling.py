"""Plans the end of a service: its units go; its configuration, index and cache stay, unless they are to be purged."""

from __future__ import annotations

import fnmatch
import os
from typing import TYPE_CHECKING

from daemon import config as configuration
from daemon.errors import ServiceError
from daemon.folders import overlaps
from daemon.service import units
from daemon.service.places import ACCOUNT, SERVICE, SOCKET
from daemon.service.plan import Command, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.config import Config
    from daemon.service.places import Places

    Contents = tuple[Path, list[str]]

OF_THE_INDEX = ("lock", "*.pid", "valkey", "milvus", "*.damaged-*", "in_hand", "logs", "models")
OF_THE_CACHE = ("models",)
"""What lookaliked makes in its directories."""
SHOWN = 3
"""Names of other things that are told."""


def plan_removal(places: Places, *, purge: bool, running: bool) -> Plan:
    """Return what would be done; ServiceError where there is nothing to do, or where a purge could reach photos."""
    found = list(units.installed(places))
    own = [path for path in found if units.is_ours(path)]
    config = _configuration(places) if purge else None
    kept = list(_contents(config)) if config else []
    data = list(_data(places, config, kept)) if config else []
    if not found and not data:
        raise ServiceError(f"no service is installed in {places.units}")
    return Plan(
        # A service that came another way, as from a distribution's package, is not ours to stop.
        first=tuple(_stopping(places, running=running)) if own else (),
        unused=config.data_dir if config and data else None,
        removals=(*own, *data),
        emptied=tuple(_emptied(places, config)),
        commands=(Command((*places.systemctl, "daemon-reload")),) if running else (),
        notices=tuple(_notices(places, [path for path in found if path not in own], kept, purge=purge)),
    )


def _stopping(places: Places, *, running: bool) -> Iterator[Command]:
    """Yield what may fail: a unit may have been taken away by somebody already."""
    # Both at once: a query between the two would start the service again.
    yield Command((*places.systemctl, "disable", *(["--now"] if running else []), SOCKET, SERVICE), optional=True)
    if running:
        yield Command((*places.systemctl, "reset-failed", SOCKET, SERVICE), optional=True)
        # The unit keeps its runtime directory when it stops, for the socket in it.
        yield Command((*places.systemctl, "clean", "--what=runtime", SERVICE), optional=True)


def _data(places: Places, config: Config, kept: list[Contents]) -> Iterator[Path]:
    """Yield everything that a purge would delete; ServiceError where that lies below a watched folder, or around one."""
    own = {"data_dir": config.data_dir, "cache_dir": config.cache_dir}
    for _, sentence in overlaps([folder.path for folder in config.folders], own, config.watch.ignore):
        raise ServiceError(f"nothing is deleted: {sentence}")
    for directory, others in kept:
        if not others:
            yield from _listed(directory)
    yield from (
        path for path in _listed(places.credentials) if path.name in configuration.CREDENTIALS and path.is_file()
    )
    if os.path.isfile(places.config):
        yield places.config


def _listed(directory: Path) -> list[Path]:
    """Return what is in a directory, sorted; an empty list where there is no such directory. ServiceError where this user may not read it."""
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        reason = f"{directory} cannot be read ({error.strerror}); say sudo before this command"
        raise ServiceError(reason) from error


def _configuration(places: Places) -> Config:
    file = places.config if os.path.isfile(places.config) else None
    return configuration.load(file, environment={}, watching=False)


def _contents(config: Config) -> Iterator[Contents]:
    """Yield the directories that lookaliked keeps, each with the names in it that are not its own.

    Where there are some, a name like `models` or `logs` may be somebody else's too.
    """
    own: dict[Path, tuple[str, ...]] = {config.data_dir: OF_THE_INDEX}
    own[config.cache_dir] = own.get(config.cache_dir, ()) + OF_THE_CACHE
    for directory, names in own.items():
        if os.path.isdir(directory):
            found = [path.name for path in _listed(directory)]
            yield directory, [name for name in found if not any(fnmatch.fnmatchcase(name, one) for one in names)]


def _emptied(places: Places, config: Config | None) -> Iterator[Path]:
    yield from (places.units / f"{name}.d" for name in (SERVICE, SOCKET))
    if config:
        yield from (config.data_dir, config.cache_dir, places.credentials, places.config.parent)


def _notices(places: Places, foreign: list[Path], kept: list[Contents], *, purge: bool) -> Iterator[str]:
    yield from (f"{path} stays: it was not written by install-service" for path in foreign)
    if not purge:
        yield f"configuration, index and cache stay; to delete them too: lookaliked uninstall-service --{places.manager} --purge"
        return
    for directory, others in kept:
        if others:
            shown = ", ".join(others[:SHOWN]) + (", ..." if others[SHOWN:] else "")
            yield f"{directory} stays as it is, for it holds other things too: {shown}"
    if places.manager == "system":
        yield f"the user and the group {ACCOUNT} stay; to delete them: userdel {ACCOUNT}"
