"""What a log line says of its subject beside its words: given as `extra={"path": …}`, kept by the journal and in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

FIELDS = {
    "path": "the file or folder it is about",
    "photo": "the id of the photo",
    "model": "the name of the model",
    "store": "Redis or Milvus",
    "kind": "of a file that is not indexed, the class of its failure",
    "duration_seconds": "how long it took",
    "count": "how many lines this one stands for",
}
"""Every field, and what it says."""


def fields_of(record: logging.LogRecord) -> dict[str, str | int | float]:
    """Return the fields that a line has, by name; a text as Python has it, which is not printable yet."""
    return {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
