"""The configuration file of a service: a new one, or folders put into the one that is there, with all else left as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from daemon.documents import Document
from daemon.errors import ConfigError
from daemon.names import printable
from daemon.service.places import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from daemon.service.places import Places


def new(places: Places, folders: Sequence[Path]) -> str:
    """Return a configuration file that watches `folders`."""
    lines = [
        "# The configuration of lookaliked. docs/configuration.md has every key; check this file with",
        printable(f"#   lookaliked check-config {places.config}"),
        "",
        "folders:",
        *(f"  - {_scalar(str(folder))}" for folder in folders),
    ]
    if places.manager == "system":
        lines += [
            "",
            "# As the unit has them; here for commands that are run by hand, such as lookalike models pull.",
            f"data_dir: {places.data_dir}",
            f"cache_dir: {places.cache_dir}",
            f"runtime_dir: {places.runtime_dir}",
            "",
            "api:",
            f"  # Who may ask: sudo usermod --append --groups {ACCOUNT} NAME",
            f"  group: {ACCOUNT}",
        ]
    return "\n".join(lines) + "\n"


def with_folders(source: Path, text: str, folders: Sequence[Path]) -> str:
    """Return the text of a configuration file with those of `folders` put in that it does not name.

    ConfigError when it is no configuration, or cannot be changed without a look at it.
    """
    before = Document(str(source), text)
    named = {item["path"] if isinstance(item, dict) else item for item in before.data.get("folders") or ()}
    added = [str(folder) for folder in folders if str(folder) not in named]
    if not added:
        return text
    changed = _insert(text, [_scalar(folder) for folder in added])
    expected = {**before.data, "folders": [*added, *(before.data.get("folders") or ())]}
    if not _says(changed, expected):
        raise ConfigError(str(source), [f"its folders cannot be changed by a program; add {', '.join(added)} to them"])
    return changed


def _says(text: str, expected: dict[str, object]) -> bool:
    try:
        document = Document("", text)
    except ConfigError:
        return False
    return not document.problems and document.data == expected


def _insert(text: str, scalars: Sequence[str]) -> str:
    """Put the folders before those that are there, which stay as they are written."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    nodes = {key.value: (key, value) for key, value in root.value} if isinstance(root, yaml.MappingNode) else {}
    if "folders" not in nodes:
        ending = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{ending}\nfolders:\n{_listed(scalars, 2)}"
    key, value = nodes["folders"]
    start: int = value.start_mark.index
    if isinstance(value, yaml.SequenceNode) and value.value:
        if value.flow_style:
            return f"{text[: start + 1]}{', '.join(scalars)}, {text[start + 1 :]}"
        line = text.rfind("\n", 0, start) + 1
        return text[:line] + _listed(scalars, start - line) + text[line:]
    # An empty list, or no value at all.
    colon = text.index(":", key.end_mark.index) + 1
    rest = text[max(colon, value.end_mark.index) :]
    return f"{text[:colon]}\n{_listed(scalars, 2)}{rest.removeprefix(chr(10))}"


def _listed(scalars: Sequence[str], indent: int) -> str:
    return "".join(f"{' ' * indent}- {scalar}\n" for scalar in scalars)


def _scalar(value: str) -> str:
    """Return a text in YAML, on one line."""
    dumped: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return dumped.removesuffix("...\n").strip()
