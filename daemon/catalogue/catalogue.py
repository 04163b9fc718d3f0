"""The specs there are, by name: the user's before those that are shipped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import paths
from daemon.encode.specs import is_name, load_spec
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from daemon.encode.specs import ModelSpec

_SUFFIX = ".yaml"


@dataclass(frozen=True)
class Entry:
    """The spec at `path`; `problem` says what is wrong with it where `spec` is None."""

    name: str
    path: Path
    own: bool
    """Whether it is the user's, and not shipped."""
    spec: ModelSpec | None
    problem: str = ""


class Catalogue:
    """Specs are files NAME.yaml in two directories, neither of which need exist; a user without a home directory has no `own` one."""

    def __init__(self, own: Path | None, shipped: Path) -> None:
        self._own = own
        self.shipped = shipped

    @property
    def own(self) -> Path:
        """Return the directory of the specs of the user; NoHomeDirectory if the user has no home directory."""
        return self._own or paths.config_file().parent

    def find(self, name: str) -> Path:
        """Return the spec of the model `name`, or the path that `name` is where it holds a separator.

        ConfigError names what there is when there is no such model.
        """
        if not name:
            raise ConfigError(
                "models", ["no model is named: the name is empty; lookalike models lists those there are"]
            )
        if os.sep in name:
            return paths.expanded(Path(name))
        found = self._files().get(name)
        if found is None:
            known = ", ".join(sorted(self._files())) or "none"
            problem = f"there is no model {name}; there are {known}, and a path names a spec that lies elsewhere"
            raise ConfigError("models", [problem])
        return found

    def load(self, name: str) -> ModelSpec:
        """Return the spec that `find` finds; ConfigError when it has problems, or bears another name than its file."""
        path = self.find(name)
        spec = load_spec(path)
        if path.parent in {self._own, self.shipped} and spec.name != path.stem:
            rename = f"its name is {spec.name}; call the file {spec.name}{_SUFFIX}"
            # A file that was named so as no model can be is to be renamed.
            rewrite = f", or write 'name: {path.stem}' into it" if is_name(path.stem) else ""
            raise ConfigError(str(path), [f"{rename}{rewrite}"])
        return spec

    def shadowed(self, name: str) -> Path | None:
        """Return the shipped spec of this name, before which one of the user's would stand."""
        path = self.shipped / f"{name}{_SUFFIX}"
        return path if os.sep not in name and path.is_file() else None

    def to_be_made(self, name: str) -> ModelSpec | None:
        """Return the shipped spec of this name where it is of a file that its user has to make."""
        path = self.shadowed(name)
        spec = None if path is None else load_spec(path)
        return spec if spec is not None and spec.source.kind == "file" else None

    def entries(self) -> list[Entry]:
        """Return every model by name; one whose spec is broken costs no other one."""
        return [self.entry(path) for _, path in sorted(self._files().items())]

    def entry(self, path: Path) -> Entry:
        """Return what is known of the spec at `path`, wherever it lies."""
        own = path.parent != self.shipped
        try:
            spec = self.load(str(path.absolute()))
        except ConfigError as error:
            return Entry(path.stem, path, own, None, "; ".join(error.problems))
        return Entry(spec.name, path, own, spec)

    def _files(self) -> dict[str, Path]:
        # Of two with the same name, the later one stands.
        return {
            path.stem: path
            for directory in (self.shipped, self._own)
            if directory is not None
            for path in sorted(directory.glob(f"*{_SUFFIX}"))
        }
