"""From a decoded photo to what a model is fed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from daemon.encode.specs import CentreSquare

if TYPE_CHECKING:
    from daemon.encode.specs import InputSpec

_INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Pillow's documentation: from 3.0 on, averaging whole pixels first is mostly indistinguishable from resampling alone.
_REDUCING_GAP = 3.0


def min_side(spec: InputSpec) -> int:
    """Return the pixels the shorter side of a decoded photo needs, so that nothing is scaled up."""
    return spec.size + spec.resize.padding if isinstance(spec.resize, CentreSquare) else spec.size


def preprocess(image: Image.Image, spec: InputSpec) -> np.ndarray:
    """Return one RGB photo as the spec's input, float32, [3, size, size] or [size, size, 3] by its layout."""
    size = (spec.size, spec.size)
    # Cut first: resize(box=...) would also sample what lies around the box.
    seen = image.crop(crop_box(image.width, image.height, spec))
    pixels = np.asarray(seen.resize(size, _INTERPOLATION[spec.interpolation], reducing_gap=_REDUCING_GAP))
    if spec.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    std = np.array(spec.std, np.float32)
    factor, offset = np.float32(spec.scale) / std, np.array(spec.mean, np.float32) / std
    if spec.layout == "nchw":
        pixels, factor, offset = pixels.transpose(2, 0, 1), factor[:, None, None], offset[:, None, None]
    values: np.ndarray = np.multiply(pixels, factor, dtype=np.float32, order="C")
    values -= offset
    return values


def crop_box(width: int, height: int, spec: InputSpec) -> tuple[int, int, int, int]:
    """Return the part of a photo the model sees, as left, top, right, bottom in pixels.

    The centre square follows `_decode_and_center_crop` of tensorflow/tpu, models/official/efficientnet/preprocessing.py.
    """
    if not isinstance(spec.resize, CentreSquare):
        return 0, 0, width, height
    side = max(1, int(spec.size / (spec.size + spec.resize.padding) * min(width, height)))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    return left, top, left + side, top + side
