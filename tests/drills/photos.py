"""Photos that cost next to nothing: 64 x 48 pixels of a few random colours, each with a content of its own."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from random import Random

SIZE = (64, 48)
COARSE = (8, 6)
FORMATS = {".jpg": "JPEG", ".png": "PNG"}
SUFFIXES = tuple(FORMATS)


def photo(random: Random, suffix: str = ".jpg") -> bytes:
    """Return a photo that no other call returns."""
    image = Image.frombytes("RGB", COARSE, random.randbytes(3 * COARSE[0] * COARSE[1])).resize(SIZE)
    file = io.BytesIO()
    image.save(file, FORMATS[suffix])
    return file.getvalue()


@functools.lru_cache(maxsize=100_000)
def is_photo(data: bytes) -> bool:
    """Whether Pillow decodes all of it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True
