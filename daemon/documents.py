"""Read a YAML document strictly, and say where in it something is wrong.

PyYAML keeps the last of two equal keys without a word, and follows YAML 1.1, where `no` is false and `010` is eight. Here a
repeated key is a problem with its line, and plain scalars follow the YAML 1.2 core schema: true, false, null, decimal numbers.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml
from yaml.composer import ComposerError

from daemon.errors import ConfigError
from daemon.ownership import open_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    Place = tuple[str | int, ...]
    Complaint = tuple[Place, str]
    """What is wrong, and with which value."""


MAX_BYTES = 256 * 1024
"""Far more than any configuration or spec; PyYAML takes seconds for it."""
MAX_DEPTH = 32


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema, without aliases, which can expand, and of bounded depth."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise ComposerError(None, None, "aliases (*) are not read; write the value again", mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ComposerError(None, None, f"it is nested more than {MAX_DEPTH} levels deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile(r"^$")))


_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "bool", "int", "float", "null")}


class Document:
    """A YAML mapping, and the line of each of its values."""

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self.problems: list[str] = []
        self._lines: dict[Place, int] = {}
        self._origins: dict[Place, str] = {}
        self._loader = _Loader("")
        if len(text.encode(errors="surrogateescape")) > MAX_BYTES:
            raise ConfigError(source, [f"it has more than {MAX_BYTES >> 10} KiB"])
        try:
            node = yaml.compose(text, Loader=_Loader)
            self.data: Any = None if node is None else self._value(node, ())
        except yaml.YAMLError as error:
            raise ConfigError(source, [_syntax_problem(error)]) from error
        if self.data is None and not self.problems:
            self.data = {}
        if not isinstance(self.data, dict):
            raise ConfigError(source, self.problems or ["the document must be a mapping of keys to values"])

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read the file at `path`; ConfigError when it cannot be read or is not YAML."""
        try:
            # A shell passes a pipe, as from <(command). Any other pipe may have no writer.
            opener = None if path.is_relative_to("/dev") else open_named
            with open(path, "rb", opener=opener) as file:
                return cls(str(path), file.read(MAX_BYTES + 1).decode())
        except OSError as error:
            raise ConfigError(str(path), [f"it cannot be read: {error.strerror}"]) from error
        except UnicodeDecodeError as error:
            raise ConfigError(str(path), [f"it cannot be read: it is not UTF-8 text (byte {error.start})"]) from error

    def set(self, place: Place, value: object, origin: str) -> None:
        """Put a value over what is written; problems with it are told of its `origin`, and not of a line."""
        *outer, key = place
        mapping = self.data
        for part in outer:
            if mapping.get(part) is None:
                mapping[part] = {}
            mapping = mapping[part]
            if not isinstance(mapping, dict):
                # What is no mapping is left for the model to refuse.
                return
        mapping[key] = value
        self._origins[place] = origin

    def is_written(self, place: Place) -> bool:
        """Whether the value is the document's own, and not put over it."""
        return not any(place[:length] in self._origins for length in range(1, len(place) + 1))

    def problem(self, place: Place, message: str) -> str:
        """Return one problem as a person reads it, with where its value comes from: the key and, where known, the line."""
        around = [place[:length] for length in range(len(place), 0, -1)]
        origin = next((self._origins[outer] for outer in around if outer in self._origins), None)
        if origin:
            return f"{origin}: {message}"
        line = next((self._lines[outer] for outer in around if outer in self._lines), None)
        return _problem_at(place, line, message)

    def refuse(self, error: ValidationError, missing: Mapping[Place, str] = MappingProxyType({})) -> ConfigError:
        """Return the ConfigError that tells of everything wrong: what the reader found, then what pydantic found.

        `missing` has the messages for keys that may be given in another way than by writing them.
        """
        found = [self.problem(place, message) for place, message in self.complaints(error, missing)]
        return ConfigError(self.source, [*self.problems, *found])

    def complaints(
        self, error: ValidationError, missing: Mapping[Place, str] = MappingProxyType({})
    ) -> Iterable[Complaint]:
        """Yield what pydantic found wrong, as a person says it."""
        for item in error.errors(include_url=False):
            place = self._place((*item["loc"], *_discriminator(item)))
            yield place, (item["type"] == "missing" and missing.get(place)) or _in_words(item)

    def _place(self, location: Place) -> Place:
        """Return where in the document an error lies; pydantic also names the kind of a union it tried, which no one wrote."""
        place: Place = ()
        value = self.data
        entered = False
        for index, part in enumerate(location):
            last = index == len(location) - 1
            if isinstance(value, dict) and entered and not last and part in value.values():
                # The kind that a union went by: it stands as a value in the mapping, and may be the name of a key as well.
                entered = False
                continue
            if isinstance(value, dict) and (part in value or last):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int):
                value = value[part] if part < len(value) else None
            else:
                continue
            entered = True
            place = (*place, part)
        return place

    def _value(self, node: yaml.Node, place: Place) -> Any:
        self._lines.setdefault(place, node.start_mark.line + 1)
        if node.tag not in _TAGS:
            self.problems.append(self.problem(place, f"the tag {node.tag} is not known"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*place, index)) for index, item in enumerate(node.value)]
        kind = node.tag.rpartition(":")[2]
        try:
            if kind in ("map", "seq"):
                raise ValueError(kind)
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, IndexError):
            # Each of PyYAML's constructors has its own error for a value that its tag does not fit.
            self.problems.append(self.problem(place, f"{node.value[:40]!r} is no {kind}"))
            return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(_problem_at(place, line, "a key must be plain text"))
                continue
            key = str(key_node.value)
            inner = (*place, key)
            if key in values:
                self.problems.append(
                    _problem_at(inner, line, f"this key was already given on line {self._lines[inner]}")
                )
            self._lines.setdefault(inner, line)
            values[key] = self._value(value_node, inner)
        return values


def _problem_at(place: Place, line: int | None, message: str) -> str:
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    where = f" (line {line})" if line else ""
    return f"At '{dotted}'{where}: {message}" if dotted else message


def _discriminator(item: ErrorDetails) -> Place:
    """Return the key by which a union tells its kinds apart, where that key is what is wrong."""
    if item["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return (str(item["ctx"]["discriminator"]).strip("'"),)
    return ()


_WORDS = {
    "missing": "this key is missing; add it",
    "union_tag_not_found": "this key is missing; add it",
    "extra_forbidden": "this key is not known; remove it, or check its spelling",
    "model_type": "should be a mapping of keys to values",
    "model_attributes_type": "should be a mapping of keys to values",
    "dict_type": "should be a mapping of keys to values",
    "tuple_type": "should be a list",
    "string_type": "should be a text",
    "path_type": "should be a path",
}


def _in_words(item: ErrorDetails) -> str:
    """Return what pydantic found as a person says it; what no one has words for here is told in pydantic's."""
    kind = item["type"]
    if kind == "missing" and isinstance(item["loc"][-1], int):
        return "this value is missing; add it"
    if kind == "union_tag_invalid":
        *others, last = str(item["ctx"]["expected_tags"]).split(", ")
        return f"should be {', '.join(others)} or {last}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return _WORDS.get(kind) or message[:1].lower() + message[1:]


def _syntax_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it is not YAML"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)
