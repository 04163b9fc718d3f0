"""Request bodies: JSON objects, and the values in them. What is not as it must be is a QueryError, code bad_request."""

from __future__ import annotations

import json
import os
from typing import Any

from daemon.errors import QueryError


def json_object(body: bytes) -> dict[str, Any]:
    """Return the object that a body is."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise QueryError("bad_request", "the body is not JSON") from error
    if not isinstance(value, dict):
        raise QueryError("bad_request", "the body must be a JSON object")
    return value


def check_path(path: str) -> None:
    """Refuse what cannot be the name of a file."""
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        # A surrogate that stands for no byte: see Answer.json_bytes.
        possible = False
    if not possible:
        raise QueryError("bad_request", "no file can have such a path")


def path_in(asked: dict[str, Any], key: str, *, needed: bool = False) -> str:
    """Return the path under `key`; empty where it is not given and not `needed`."""
    value = asked.get(key, "")
    if not isinstance(value, str) or (needed and not value):
        raise QueryError("bad_request", f"the body must be an object with a {key!r}, which is a path")
    check_path(value)
    return value


def whole_number(asked: dict[str, Any], key: str) -> int | None:
    """Return the number under `key`, None where it is not given."""
    value = asked.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise QueryError("bad_request", f"'{key}' must be a whole number")
    return value


def flag(asked: dict[str, Any], key: str) -> bool:
    """Return whether `key` is true; it is not where it is not given."""
    value = asked.get(key, False)
    if not isinstance(value, bool):
        raise QueryError("bad_request", f"'{key}' must be true or false")
    return value
