"""The first image of a FITS file with its physical values: Pillow leaves BZERO and BSCALE out. FITS Standard 4.0, sections 4 and 5."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from daemon.encode.colours import to_uint8
from daemon.encode.unread import Unread

_BLOCK = 2880
_CARD = 80
_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_WHITE = {8: 255.0, 16: 65535.0, 32: 65535.0, 64: 65535.0}
"""The value of white by BITPIX; floating point has 1."""


def is_fits(data: bytes) -> bool:
    """Whether the bytes begin as a FITS file does, with its image in the primary unit: others are Pillow's."""
    return data[:6] == b"SIMPLE" and _cards(data)[0].get("NAXIS", "0") in ("2", "3")


def sides(data: bytes) -> tuple[int, int]:
    """Return the width and height; Unread where the header has none."""
    cards, _ = _cards(data)
    try:
        return int(cards["NAXIS1"]), int(cards["NAXIS2"])
    except (KeyError, ValueError) as error:
        message = "a FITS file whose header gives no width and height"
        raise Unread(message) from error


def read(data: bytes) -> Image.Image:
    """Return the image with its first row at the bottom, as FITS has it: gray, or RGB of three planes."""
    cards, begin = _cards(data)
    width, height = sides(data)
    planes = int(cards.get("NAXIS3", "1")) if cards["NAXIS"] == "3" else 1
    bits = int(cards.get("BITPIX", "0"))
    if bits not in _TYPES or planes not in (1, 3):
        message = f"a FITS image of {abs(bits)} bits and {planes} planes"
        raise Unread(message)
    scale, zero = (
        float(cards.get(name, default).replace("D", "E")) for name, default in (("BSCALE", "1"), ("BZERO", "0"))
    )
    kind = np.dtype(_TYPES[bits])
    if width < 1 or height < 1 or begin + width * height * planes * kind.itemsize > len(data):
        raise EOFError
    values = np.frombuffer(data, kind, width * height * planes, begin).astype(np.float32)
    if not (math.isfinite(scale) and math.isfinite(zero)):
        scale, zero = 1.0, 0.0
    values = values * np.float32(scale) + np.float32(zero)
    pixels = to_uint8(values, _WHITE.get(bits, 1.0)).reshape(planes, height, width)[:, ::-1]
    return Image.fromarray(pixels[0] if planes == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, 2)))


def _cards(data: bytes) -> tuple[dict[str, str], int]:
    """Return the header's values as they are written, and where the data begin."""
    cards: dict[str, str] = {}
    for at in range(0, min(len(data), 100 * _BLOCK), _CARD):
        card = data[at : at + _CARD].decode("ascii", errors="replace")
        if card[:8].strip() == "END":
            return cards, (at // _BLOCK + 1) * _BLOCK
        if card[8:10] == "= ":
            cards.setdefault(card[:8].strip(), card[10:].split("/")[0].strip())
    return cards, len(data)
