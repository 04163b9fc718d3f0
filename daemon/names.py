"""Texts from elsewhere in sentences, lines and fields: names of files, of models and of whatever a file holds.

Standard library only: `lookalike` imports it at every start.
"""

from __future__ import annotations

import unicodedata

_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Return `text` with everything escaped that ends a line, that a terminal obeys or that it cannot show: \n, \x1b, \u202e.

    A byte that is not UTF-8 (a lone surrogate here, PEP 383) is shown as that byte: \xff. Every output has its texts from here.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    # Unlike str.isprintable(), let wide and narrow spaces pass: file names of cameras and screenshots hold them.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - the range of PEP 383
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:  # noqa: PLR2004 - ASCII
        return _NAMED_ESCAPES.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the basic plane
