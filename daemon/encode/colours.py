"""From every mode Pillow decodes to, to RGB with 8 bits a channel."""

from __future__ import annotations

import numpy as np
from PIL import Image

_WHITE = (255, 255, 255, 255)
_UINT16_MAX = 65535


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image as RGB: transparency over white, more than 8 bits scaled and not clipped.

    The image itself is returned when it is RGB already.
    """
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_to_uint8(np.asarray(image)))
    elif image.has_transparency_data:
        image = _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Scale gray values of 16 bits, 32 bits or floating point, [height, width], to 0..255.

    Whole numbers are taken to fill 16 bits and floating point to fill 0..1, as cameras and scanners write them; what
    reaches outside that is scaled from its own least to its own greatest value.
    """
    values = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = 0.0, float(_UINT16_MAX if np.issubdtype(pixels.dtype, np.integer) else 1)
    least, greatest = float(values.min()), float(values.max())
    if least < low or greatest > high:
        low, high = least, greatest
    values -= low
    values *= 255.0 / ((high - low) or 1.0)
    return np.rint(values).astype(np.uint8)
