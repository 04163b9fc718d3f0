"""From every mode Pillow decodes to, to RGB with 8 bits a channel."""

from __future__ import annotations

import numpy as np
from PIL import Image

_WHITE = (255, 255, 255, 255)
_UINT16_MAX = 65535.0


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image as RGB: transparency over white, more than 8 bits scaled and not clipped.

    The image itself is returned when it is RGB already.
    """
    if image.mode.startswith(("I", "F")):
        pixels = np.asarray(image)
        image = Image.fromarray(to_uint8(pixels, _UINT16_MAX if np.issubdtype(pixels.dtype, np.integer) else 1.0))
    elif image.has_transparency_data:
        image = _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)


def to_uint8(pixels: np.ndarray, high: float) -> np.ndarray:
    """Scale values from 0..`high` to 0..255, whatever their shape and type.

    Whole numbers are taken to fill 16 bits and floating point to fill 0..1, as cameras and scanners write them; values that
    reach outside that are scaled from their own least to their own greatest.
    """
    values = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low = 0.0
    least, greatest = float(values.min()), float(values.max())
    if least < low or greatest > high:
        low, high = least, greatest
    values -= low
    values *= 255.0 / ((high - low) or 1.0)
    return np.rint(values).astype(np.uint8)
