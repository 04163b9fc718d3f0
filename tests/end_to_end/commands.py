"""Every command of both programs, as Typer knows them: a new one is tested without being named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from typer.main import get_command

from cli.main import app as lookalike
from daemon.main import app as lookaliked

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent


class Command(NamedTuple):
    """A command as it is typed, with a word for each argument that it cannot do without."""

    words: tuple[str, ...]
    options: frozenset[str]
    """The long options it takes."""

    @property
    def program(self) -> str:
        return self.words[0]

    def typed(self) -> list[str]:
        return [str(BIN / self.words[0]), *self.words[1:]]

    def __str__(self) -> str:
        return " ".join(self.words)


def every_command() -> list[Command]:
    return [*_below(get_command(lookalike), ("lookalike",)), *_below(get_command(lookaliked), ("lookaliked",))]


def _below(command: object, words: tuple[str, ...]) -> Iterator[Command]:
    commands = getattr(command, "commands", None)
    if commands:
        for name, one in sorted(commands.items()):
            yield from _below(one, (*words, name))
        return
    parameters = command.params  # type: ignore[attr-defined]
    needed = [one for one in parameters if one.param_type_name == "argument" and one.required]
    given = tuple("x.jpg" for one in needed for _ in range(max(1, one.nargs)))
    yield Command((*words, *given), frozenset(name for one in parameters for name in one.opts if name.startswith("--")))
