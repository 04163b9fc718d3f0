"""Asking about images and texts: by what the library knows of a file, else by its bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cli import files
from cli.errors import CliError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.answers import SearchAnswer
    from cli.client import Client, Query, Reply
    from cli.terms import Term


def find_similar(client: Client, terms: Sequence[Term], query: Query) -> Reply[SearchAnswer]:
    """Ask by path for photos that the library knows as they are on disk now, else by their bytes."""
    try:
        if len(terms) > 1 or terms[0].kind == "text":
            return _find_terms(client, [repeatable(term) for term in terms], query)
        return _find_image(client, terms[0], query)
    except RefusedError as error:
        if error.code in {"not_an_image", "too_large"}:
            raise CliError(_named(str(error), terms)) from error
        raise


def repeatable(term: Term) -> Term:
    """Return a term that can be asked about more than once: what comes through a pipe is read now."""
    if term.kind == "text" or term.data is not None or files.is_regular(term.value):
        return term
    return term._replace(data=files.held(term.value))


def _named(sentence: str, terms: Sequence[Term]) -> str:
    """Return what the daemon says of bytes, which it was given without a name, with the name of their file."""
    if len(terms) == 1:
        name = files.shown(terms[0].value)
        subject = "the query "
        return f"{name} {sentence.removeprefix(subject)}" if sentence.startswith(subject) else f"{name}: {sentence}"
    for number, term in enumerate(terms, start=1):
        subject = f"term {number} "
        if sentence.startswith(subject):
            return f"{files.shown(term.value)} {sentence.removeprefix(subject)}"
    return sentence


def _find_image(client: Client, term: Term, query: Query) -> Reply[SearchAnswer]:
    if term.data is not None:
        return client.search_bytes(iter([term.data]), len(term.data), query)
    if files.is_regular(term.value):
        with files.reading(term.value):
            found, path = Path(term.value).stat(), os.path.realpath(term.value)
        try:
            return client.search_path(path, found, query)
        except RefusedError as error:
            if error.code != "not_in_library":
                raise
    chunks, size = files.streamed(term.value)
    return client.search_bytes(chunks, size, query)


def _find_terms(client: Client, terms: Sequence[Term], query: Query) -> Reply[SearchAnswer]:
    try:
        return client.search_terms([_by_path(term) for term in terms], query)
    except RefusedError as error:
        if error.code != "not_in_library":
            raise
    return client.search_terms([_by_bytes(term) for term in terms], query)


def _by_path(term: Term) -> dict[str, object]:
    if term.kind == "text" or term.data is not None:
        return _by_bytes(term)
    with files.reading(term.value):
        found, path = Path(term.value).stat(), os.path.realpath(term.value)
    return {"path": path, "size": found.st_size, "mtime_ns": found.st_mtime_ns, "weight": term.weight}


def _by_bytes(term: Term) -> dict[str, object]:
    if term.kind == "text":
        return {"text": term.value, "weight": term.weight}
    import binascii  # noqa: PLC0415 - for those alone who combine images

    data = files.held(term.value) if term.data is None else term.data
    return {"image": binascii.b2a_base64(data, newline=False).decode("ascii"), "weight": term.weight}
