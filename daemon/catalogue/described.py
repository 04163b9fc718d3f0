"""What there is to say of models, as plain values that become JSON."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from daemon.catalogue import files
from daemon.catalogue.annotated import plain
from daemon.encode.sources import sha256_of
from daemon.errors import ModelError

if TYPE_CHECKING:
    from daemon.catalogue.catalogue import Entry
    from daemon.catalogue.files import Part
    from daemon.catalogue.installation import Installation
    from daemon.encode.specs import ModelSpec

_UNKNOWN: dict[str, Any] = {
    "summary": "", "dim": None, "metric": None, "licence": "", "from": "", "text": False, "pinned": False,
}  # fmt: skip


def listed(installation: Installation) -> list[dict[str, Any]]:
    """Return a line for every model of the catalogue, and for specs that the configuration names by their paths."""
    catalogue = installation.catalogue
    elsewhere = [catalogue.entry(catalogue.find(name)) for name in installation.configured if os.sep in name]
    return [_line(entry, installation) for entry in [*catalogue.entries(), *elsewhere]]


def without_spec(name: str) -> dict[str, Any]:
    """Return the line of a model that the daemon has vectors of, and of which there is no spec any more."""
    line = {"name": name, "path": None, "own": False, "configured": False}
    return (
        line
        | _UNKNOWN
        | {"state": "no spec", "reason": "its spec is gone; lookalike models remove deletes its vectors"}
    )


def shown(name: str, installation: Installation) -> dict[str, Any]:
    """Return all there is to say of one model; its files are read, and the model is prepared when they are all here.

    ConfigError when there is no such spec, or when it has problems.
    """
    spec = installation.catalogue.load(name)
    path = installation.catalogue.find(name)
    state, reason = files.state(spec, installation.models_dir)
    answer = {
        "name": spec.name,
        "path": str(path),
        "own": path.parent != installation.catalogue.shipped,
        "configured": installation.is_configured(path),
        "spec": understood(spec),
        "yaml": plain(understood(spec)),
        "pinned": all(files.pinned(part.source) for part in files.parts(spec)),
        "files": [file for part in files.parts(spec) for file in _files(spec, part, installation)],
        "fingerprint": None,
        "prepared": None,
    }
    if state == "ready":
        try:
            model = installation.prepare(spec)
            answer |= {"fingerprint": model.fingerprint, "prepared": str(model.directory)}
        except ModelError as error:
            state, reason = "broken", error.reason
    return answer | {"state": state, "reason": reason}


def understood(spec: ModelSpec) -> dict[str, Any]:
    """Return a spec with all that its preset and the defaults give, as a spec could say it."""
    said: dict[str, Any] = spec.model_dump(mode="json", exclude_none=True)
    return said


def _line(entry: Entry, installation: Installation) -> dict[str, Any]:
    line = {
        "name": entry.name,
        "path": str(entry.path),
        "own": entry.own,
        "configured": installation.is_configured(entry.path),
    }
    if entry.spec is None:
        return line | _UNKNOWN | {"state": "broken", "reason": entry.problem}
    spec = entry.spec
    state, reason = files.state(spec, installation.models_dir)
    return line | {
        "summary": spec.summary,
        "dim": spec.output.dim,
        "metric": spec.metric,
        "licence": spec.licence,
        "from": files.origin(spec.source),
        "text": spec.text is not None,
        "pinned": all(files.pinned(part.source) for part in files.parts(spec)),
        "state": state,
        "reason": reason,
    }


def _files(spec: ModelSpec, part: Part, installation: Installation) -> list[dict[str, Any]]:
    described = {"role": part.role, "from": files.origin(part.source), "pinned": files.pinned(part.source)}
    try:
        paths = files.located_all(spec, part, installation.models_dir)
        return [
            described | {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(spec.name, path)}
            for path in paths
        ]
    except (ModelError, OSError):
        return [described | {"path": None, "bytes": None, "sha256": part.source.sha256}]
