"""Names of files in sentences: they may hold anything."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return `text` with what would end a line or steer a terminal escaped, and bytes that are no UTF-8: \n, \x1b, \udcff."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
