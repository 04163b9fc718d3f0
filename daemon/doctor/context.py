"""What the checks know before they look: the configuration, what a running daemon says, and as whom it works."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from daemon import config as configuration
from daemon import paths
from daemon.catalogue.installation import own_catalogue
from daemon.config import Config, Folder
from daemon.doctor import census
from daemon.doctor.machine import Machine
from daemon.doctor.users import User
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.catalogue.catalogue import Catalogue
    from daemon.config import Reading
    from daemon.doctor.census import Census

COUNT_SECONDS = 10.0
"""How long the files below all folders together are counted."""

NO_HOME = "/nonexistent"
"""Where Debian says that users live who have no home."""


class Heard(NamedTuple):
    """What a daemon answered to GET /v1/status; where none did, `refusal` is the sentence that says why."""

    status: Mapping[str, Any] | None
    refusal: str = ""


@dataclass(frozen=True)
class Patient:
    """What is to be examined, as it was asked for."""

    ask: Callable[[Path], Heard]
    """Asks the daemon behind a socket."""
    file: Path | None = None
    """The configuration; None for the usual place of one."""
    folders: tuple[Path, ...] = ()
    """Folders in place of those that are configured or watched."""
    socket: Path | None = None
    count_seconds: float = COUNT_SECONDS
    machine: Machine = field(default_factory=Machine)
    say: Callable[[str], None] = lambda _: None
    """Is told what takes a while."""


@dataclass(frozen=True)
class Context:
    """What every check is given."""

    patient: Patient
    file: Path | None
    """The configuration file, None where there is none."""
    reading: Reading | None
    """None where the file cannot be read at all."""
    refusal: ConfigError | None
    """Everything that is wrong with the configuration."""
    settings: Config
    """With the default where something is wrong."""
    catalogue: Catalogue
    socket: Path
    heard: Heard

    @property
    def machine(self) -> Machine:
        return self.patient.machine

    @property
    def status(self) -> Mapping[str, Any] | None:
        """What the running daemon says of itself."""
        return self.heard.status

    @property
    def data_dir(self) -> Path:
        """Where the daemon that answers keeps its data, else where one with this configuration would."""
        return Path(self.status["data_dir"]) if self.status else self.settings.data_dir

    @property
    def folders(self) -> tuple[Folder, ...]:
        """The folders that were asked about; else those that are watched; else those of the configuration."""
        if self.status and not self.patient.folders:
            wanted = {folder.path: folder.watch for folder in self.settings.folders}
            watched = [Path(folder["path"]) for folder in self.status["folders"]]
            return tuple(Folder(path=path, watch=wanted.get(path, "auto")) for path in watched)
        return self.settings.folders

    @property
    def embedded_redis(self) -> bool:
        return self._embeds("Redis", otherwise=self.settings.redis.url is None)

    @property
    def embedded_milvus(self) -> bool:
        return self._embeds("Milvus", otherwise=self.settings.milvus.uri is None)

    def _embeds(self, store: str, *, otherwise: bool) -> bool:
        """Whether the daemon that answers runs this store itself, or one with this configuration would."""
        told = [bool(one["embedded"]) for one in self.status["stores"] if one["name"] == store] if self.status else []
        return told[0] if told else otherwise

    @cached_property
    def user(self) -> User:
        """The user that the daemon runs as: whose data directory it is, or who asks where there is none yet."""
        return User.owning(self.data_dir) or User.asking()

    @cached_property
    def looker(self) -> User:
        """The user as whom the folders are looked at: the daemon's where that may be, else whoever asks."""
        return self.user if self.user.can_be_become else User.asking()

    @property
    def as_root(self) -> str:
        """The command that examines the same as root, who may look into everything."""
        given = [*(["--config", str(self.file)] if self.file else []), "--socket", str(self.socket)]
        asked = shlex.join([*given, *map(str, self.patient.folders)])
        # The environment says where things are, and root's says other places.
        return f"sudo --preserve-env $(command -v lookalike) doctor {asked}"

    @property
    def lock(self) -> Path:
        return self.data_dir / paths.LOCK_NAME

    @cached_property
    def census(self) -> tuple[Census, ...]:
        """What lies below each folder."""
        taken: list[Census] = []
        left = self.patient.count_seconds
        for folder in self.folders:
            self.patient.say(f"counting what is in {folder.path}")
            share = left / (len(self.folders) - len(taken))
            taken.append(census.taken(folder.path, self.settings.watch.ignore, self.looker, share))
        return tuple(taken)

    @property
    def photos(self) -> int:
        """How many photos there are, as far as they were counted or the daemon knows them."""
        counted = sum(folder.photos for folder in self.census)
        return max(counted, int(self.status["photos"]) if self.status else 0)


def assembled(patient: Patient) -> Context:
    """Return what the checks are given; nothing that is wrong keeps it from that."""
    file, of_machine = patient.file, patient.machine.configuration
    reading = refusal = None
    try:
        if file is None:
            file = paths.config_file_in_place() or (of_machine if os.path.exists(of_machine) else None)
        if file == of_machine:
            os.environ.update(patient.machine.given_by_unit())
        reading = configuration.read(file, patient.folders, watching=False)
        settings, refusal = reading.config, reading.refusal()
    except ConfigError as error:
        settings, refusal = _defaults(patient), error
    except paths.NoHomeDirectory as error:
        # The checks go on, with a home directory that is not there.
        os.environ["HOME"] = NO_HOME
        settings, refusal = _defaults(patient), ConfigError("the environment", [str(error)])
    socket = patient.socket or settings.socket_path
    return Context(patient, file, reading, refusal, settings, own_catalogue(file), socket, patient.ask(socket))


def _defaults(patient: Patient) -> Config:
    with contextlib.suppress(ConfigError):
        return configuration.read(None, patient.folders, watching=False).config
    return Config()
