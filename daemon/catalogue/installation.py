"""Where models lie on this machine, by the configuration that lookaliked reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon import config as configuration
from daemon import paths
from daemon.catalogue.catalogue import Catalogue
from daemon.encode.providers import CPU, Provider
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.encode.models import Model
    from daemon.encode.specs import ModelSpec

SPECS = "models"
"""The directory of the user's specs, beside the configuration file."""


@dataclass(frozen=True)
class Installation:
    """What the commands on models work with; plain values, as far as they need the configuration."""

    catalogue: Catalogue
    models_dir: Path
    cache_dir: Path
    configured: tuple[str, ...]
    """The models that the configuration names, each a name or the path of a spec."""
    socket: Path
    max_pixels: int
    provider: Provider = CPU

    @classmethod
    def read(cls, file: Path | None) -> Installation:
        """Return what the configuration at `file`, or (None) the usual one, says; ConfigError names what is wrong with it."""
        file = file or paths.config_file_in_place()
        settings = configuration.load(file, watching=False)
        return cls(
            own_catalogue(file),
            settings.models_dir,
            settings.cache_dir,
            settings.models,
            settings.socket_path,
            settings.limits.max_pixels,
            Provider(settings.encode.provider, settings.encode.provider_options, settings.encode.allow_fallback),
        )

    def prepare(self, spec: ModelSpec) -> Model:
        """Return the model of `spec`, ready to run; ModelError says what is missing."""
        # A list of models needs none of what builds them.
        from daemon.encode.models import prepare  # noqa: PLC0415

        return prepare(spec, self.cache_dir, self.models_dir)

    def is_configured(self, spec: Path) -> bool:
        """Return whether the configuration has lookaliked start with the model of the spec at this path."""
        return any(self._path(name) == spec for name in self.configured)

    def _path(self, name: str) -> Path | None:
        try:
            return self.catalogue.find(name)
        except ConfigError:
            return None


def own_catalogue(file: Path | None) -> Catalogue:
    """Return the catalogue that goes with the configuration at `file`, or (None) with the usual place of one."""
    try:
        own = (file or paths.config_file()).absolute().parent / SPECS
    except paths.NoHomeDirectory:
        own = None
    return Catalogue(own, paths.shipped("models"))
