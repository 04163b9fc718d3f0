"""Plans an installation: configuration, units, and the commands that start the service."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon import config as configuration
from daemon.catalogue.configured import complaints as unusable_models
from daemon.catalogue.installation import own_catalogue
from daemon.errors import ConfigError
from daemon.folders import unusable
from daemon.ownership import open_named
from daemon.service import settings, units
from daemon.service.places import ACCOUNT, SERVICE, SOCKET
from daemon.service.plan import Command, Plan, Writing
from daemon.service.reach import Account, check_command, hidden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.config import Config
    from daemon.service.places import Places

BACK_OFF_VERSION = 254
"""The systemd that knows RestartSteps=."""
KEPT_VARIABLES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "LOOKALIKE_DATA_DIR")
"""Where a user's own places come from: a service manager may not know of them."""


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    folders: tuple[Path, ...] = ()
    run_as: str = ""
    groups: tuple[str, ...] = ()
    network: bool = False
    start: bool = True


def plan_installation(places: Places, request: Request, lookaliked: Path, systemd_version: int) -> Plan:
    """Return what would be done; ConfigError or ServiceError where the service could not work.

    `lookaliked` is this installation's command. The process sees the places as the service will (Places.variables).
    """
    _check_folders(request)
    account = _account(places, request)
    check_command(lookaliked, account)
    text = _read(places.config)
    wanted = (
        settings.new(places, request.folders)
        if text is None
        else settings.with_folders(places.config, text, request.folders)
    )
    config = _checked(places, wanted)
    needs = units.Needs(
        lookaliked,
        tuple(folder.path for folder in config.folders),
        writable=tuple(_elsewhere(places, config)),
        variables=_variables(places),
        run_as=request.run_as,
        groups=request.groups,
        drop_ins=tuple(_drop_ins(config, request, systemd_version)),
    )
    files = {path: (content, 0o644) for path, content in units.rendered(places, needs).items()}
    # The machine's is read by a user that does not own it.
    files[places.config] = (wanted, 0o644 if places.manager == "system" else 0o600)
    return Plan(
        directories=tuple(_directories(places, config)),
        writings=tuple(Writing(path, content, _read(path), mode) for path, (content, mode) in sorted(files.items())),
        # Drop-ins that nothing asks for any more.
        removals=tuple(path for path in units.installed(places) if path not in files and units.is_ours(path)),
        commands=tuple(_commands(places)) if request.start else (),
        notices=tuple(_notices(places, request, config, account)),
    )


def _check_folders(request: Request) -> None:
    """ConfigError where somebody has just named a folder that cannot be read; of configured ones the disk may come later."""
    problems = [sentence for folder in request.folders if (sentence := unusable(folder))]
    if problems:
        raise ConfigError("--folder", problems)


def _account(places: Places, request: Request) -> Account | None:
    # A dry run is anybody's, and who is not root cannot ask what another user may.
    if places.manager == "user" or os.geteuid() != 0:
        return None
    return Account.of(request.run_as or ACCOUNT, request.groups, must_exist=bool(request.run_as))


def _checked(places: Places, text: str) -> Config:
    """Return the configuration that the service will have; ConfigError with everything for which it could not start."""
    # In a dry run by somebody else than root, what is secret stays unknown.
    readable = os.access(places.credentials, os.R_OK | os.X_OK)
    environment = {"CREDENTIALS_DIRECTORY": str(places.credentials)} if readable else {}
    reading = configuration.read(places.config, environment=environment, text=text)
    refusal = reading.refusal(unusable_models(reading, own_catalogue(places.config)))
    if refusal:
        raise refusal
    unseen = [str(folder.path) for folder in reading.config.folders if hidden(folder.path)]
    if unseen:
        reason = (
            f"{', '.join(unseen)} is a place for temporary files, which a service does not see; watch another folder"
        )
        raise ConfigError(str(places.config), [reason])
    return reading.config


def _elsewhere(places: Places, config: Config) -> Iterator[Path]:
    """Yield the directories of ours that the shipped unit does not open by itself."""
    if config.data_dir != places.data_dir or places.manager == "user":
        yield config.data_dir
    if config.cache_dir != places.cache_dir:
        yield config.cache_dir


def _directories(places: Places, config: Config) -> Iterator[tuple[Path, int]]:
    # systemd makes the others; what it opens for writing has to be there.
    yield from ((directory, 0o700) for directory in _elsewhere(places, config))
    yield places.credentials, 0o700


def _drop_ins(config: Config, request: Request, systemd_version: int) -> Iterator[str]:
    if systemd_version >= BACK_OFF_VERSION:
        yield units.BACK_OFF
    redis = config.redis.url.get_secret_value() if config.redis.url else "unix:"
    remote = not redis.startswith("unix:") or not (config.milvus.uri or "unix:").startswith("unix:")
    if request.network or remote or config.api.listen:
        yield units.NETWORK
    if config.encode.provider != "cpu":
        yield units.GPU


def _variables(places: Places) -> dict[str, str]:
    if places.manager == "system":
        return {}
    return {name: os.environ[name] for name in KEPT_VARIABLES if os.environ.get(name)}


def _commands(places: Places) -> Iterator[Command]:
    if places.accounts:
        yield Command(("systemd-sysusers", str(places.accounts)))
    yield Command((*places.systemctl, "daemon-reload"))
    yield Command((*places.systemctl, "enable", SOCKET, SERVICE))
    # Of one that runs already, too: it is to have the new unit.
    yield Command((*places.systemctl, "restart", SOCKET, SERVICE))


def _notices(places: Places, request: Request, config: Config, account: Account | None) -> Iterator[str]:
    if account:
        for folder in config.folders:
            if not account.may_read(folder.path):
                yield (
                    f"the user {account.name} may not read {folder.path}: let it in (setfacl --recursive --modify u:{account.name}:rX), "
                    "or install with --group or --run-as"
                )
    if places.manager == "system" and config.api.group != ACCOUNT:
        yield f"the members of the group {ACCOUNT} may ask when {places.config} says so: api.group: {ACCOUNT}"
    if not request.start:
        yield f"nothing was started; when systemd runs: {'; '.join(map(str, _commands(places)))}"


def _read(path: Path) -> str | None:
    try:
        with open(path, encoding="utf-8", opener=open_named) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(str(path), [f"it cannot be read: {reason}"]) from error
