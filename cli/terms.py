"""What a query is made of: images and texts, and how much of each, as they are written on the command line."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from cli.errors import CliError
from cli.files import STDIN, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

EXTENSIONS = (
    ".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".tga", ".tif", ".tiff", ".webp", ".xbm", ".xpm",
)  # fmt: skip
"""Names that end so are meant as images: the more common ones of those that the daemon indexes."""

MAX_WEIGHT = 1000

_SIGNS = {"+": 1, "-": -1}
_TEXT = "text:"


class Term(NamedTuple):
    """An image (a file's name, or - for standard input) or a text, and its weight, below 0 for what is not wanted."""

    kind: Literal["image", "text"]
    value: str
    weight: float = 1.0
    data: bytes | None = None
    """The image itself, where it has been read already."""


def parse(arguments: Sequence[str]) -> tuple[Term, ...]:
    """Return the terms of TERM [+|- TERM]...; CliError for one that cannot be, wrong usage for what does not read so."""
    terms = [_term(arguments[0], 1)]
    for position in range(1, len(arguments), 2):
        operator = arguments[position]
        if operator not in _SIGNS:
            raise typer.BadParameter(
                f"Between two terms stands + or -, not {operator!r}; a text of several words is one argument, in quotes."
            )
        if position + 1 == len(arguments):
            raise typer.BadParameter(f"After the last {operator} a term is missing.")
        terms.append(_term(arguments[position + 1], _SIGNS[operator]))
    if sum(term.value == STDIN for term in terms if term.kind == "image") > 1:
        raise typer.BadParameter("Standard input can be read only once.")
    return tuple(terms)


def _term(argument: str, sign: int) -> Term:
    if argument == "+":
        raise typer.BadParameter("A + stands between two terms.")
    weight, value = _weight(argument)
    if value == STDIN:
        return Term("image", STDIN, sign * weight)
    if value.startswith(_TEXT):
        value = value.removeprefix(_TEXT)
    elif value.strip() and _is_image(value):
        return Term("image", value, sign * weight)
    if not value.strip():
        raise CliError("a term of the query is empty: it must be an image file or a text")
    return Term("text", value, sign * weight)


def _weight(argument: str) -> tuple[float, str]:
    """Return the weight and the rest of 2:boat.jpg, unless a file has that very name."""
    weight, colon, rest = argument.partition(":")
    if not (colon and _is_number(weight)) or _is_there(argument):
        return 1.0, argument
    if not (weight.isascii() and weight.replace(".", "", 1).isdigit()):
        raise typer.BadParameter(
            f"A weight is a plain decimal number, as in {shlex.quote(f'0.5:{rest}')}, and not {weight!r}; to search for the"
            f" text itself, write {shlex.quote(_TEXT + argument)}."
        )
    if not 0 < float(weight) <= MAX_WEIGHT:
        raise typer.BadParameter(f"The weight {weight} is not above 0 and at most {MAX_WEIGHT}.")
    return float(weight), rest


def _is_number(text: str) -> bool:
    """Whether a person may have meant a number: 1e3, -2, 0,5 and inf too."""
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _is_there(name: str) -> bool:
    try:
        with reading(name):
            os.stat(name)
    except CliError:
        return False
    return True


def _is_image(name: str) -> bool:
    """Whether it names a file, or is written as names of image files are; then CliError where there is none."""
    is_path = os.sep in name or name in (os.curdir, os.pardir)
    is_named_so = os.path.splitext(name)[1].lower() in EXTENSIONS
    if not is_path and not is_named_so and not _is_there(name):
        return False
    try:
        with reading(name):
            found = os.stat(name)
    except CliError as error:
        if is_named_so:
            raise
        raise CliError(f"{error}; if it is a text, write {shlex.quote(_TEXT + name)}") from error
    if stat.S_ISDIR(found.st_mode):
        if is_path or is_named_so:
            raise CliError(f"{name} is a directory, not a photo")
        return False
    return True
