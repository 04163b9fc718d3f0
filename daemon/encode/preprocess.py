"""From a decoded photo to what a model is fed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from daemon.encode.specs import CentreSquare, Longest, Shortest

if TYPE_CHECKING:
    from daemon.encode.specs import InputSpec


class Filter(NamedTuple):
    """A way to resample, and how many pixels of the smaller image it reaches to each side of one."""

    resampling: Image.Resampling
    support: float


# The supports are those of Pillow's src/libImaging/Resample.c.
FILTERS = {
    "nearest": Filter(Image.Resampling.NEAREST, 0.5),
    "box": Filter(Image.Resampling.BOX, 0.5),
    "bilinear": Filter(Image.Resampling.BILINEAR, 1.0),
    "bicubic": Filter(Image.Resampling.BICUBIC, 2.0),
    "lanczos": Filter(Image.Resampling.LANCZOS, 3.0),
}
# Pillow's documentation: from 3.0 on, averaging whole pixels first is mostly indistinguishable from resampling alone. It also
# bounds what is made on the way, [source rows, size], to six times the result. For NEAREST, Pillow averages nothing.
_REDUCING_GAP = 3.0
# A photo whose sides differ by more than this factor is cut before it is scaled.
_STRIP = 4


class Box(NamedTuple):
    """A part of a photo, in pixels of it and fractions of them."""

    left: float
    top: float
    right: float
    bottom: float


def min_side(spec: InputSpec) -> int:
    """Return the pixels the shorter side of a decoded photo needs, so that nothing is scaled up.

    For `longest` a square photo needs them all; a longer one would do with fewer, and is decoded larger than it must be.
    """
    match spec.resize:
        case CentreSquare(padding=padding):
            return spec.size + padding
        case Shortest(to=to):
            return to or spec.size
    return spec.size


def preprocess(image: Image.Image, spec: InputSpec) -> np.ndarray:
    """Return one RGB photo as the spec's input, of its dtype, [3, size, size] or [size, size, 3] by its layout."""
    pixels = np.asarray(_resized(image, spec))
    if spec.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    if spec.layout == "nchw":
        pixels = pixels.transpose(2, 0, 1)
    if spec.dtype == "uint8":
        return np.ascontiguousarray(pixels)
    return _normalised(pixels, spec).astype(spec.dtype, copy=False)


def _normalised(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    std = np.array(spec.std, np.float32)
    factor, offset = np.float32(spec.scale) / std, np.array(spec.mean, np.float32) / std
    if spec.layout == "nchw":
        factor, offset = factor[:, None, None], offset[:, None, None]
    values: np.ndarray = np.multiply(pixels, factor, dtype=np.float32, order="C")
    values -= offset
    return values


def _resized(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Return the square of side size that the model sees; no image on the way is more than a few times as large."""
    size = (spec.size, spec.size)
    match spec.resize:
        case CentreSquare(padding=padding):
            # Cut first: the rule's own code samples nothing that lies around the square.
            return _scaled(image.crop(centre_square(*image.size, spec.size, padding)), size, spec)
        case Shortest(to=to):
            return _centre_of_scaled(image, to or spec.size, spec)
        case Longest(fill=fill):
            return _padded(_scaled(image, fitted(*image.size, spec.size), spec), size, fill)
    return _scaled(image, size, spec)


def _scaled(image: Image.Image, size: tuple[int, int], spec: InputSpec, box: Box | None = None) -> Image.Image:
    """Return the part of `image` in `box`, all of it without one, at `size`; what lies around the box is sampled too."""
    return image.resize(size, FILTERS[spec.interpolation].resampling, box=box, reducing_gap=_REDUCING_GAP)


def _padded(image: Image.Image, size: tuple[int, int], fill: tuple[int, int, int]) -> Image.Image:
    """Return `image` in the centre of one colour; where the border is odd, as Pillow's ImageOps.pad places it."""
    square = Image.new("RGB", size, fill)
    square.paste(image, (round((size[0] - image.width) / 2), round((size[1] - image.height) / 2)))
    return square


def _centre_of_scaled(image: Image.Image, shortest: int, spec: InputSpec) -> Image.Image:
    """Return the centre square of a photo whose shorter side is scaled to `shortest` pixels.

    A long strip is cut before it is scaled, which gives the same to within a rounding of each pixel.
    """
    scaled = scaled_to_shortest(*image.size, shortest)
    # torchvision, transforms/functional.py, center_crop; half a pixel goes to the even side.
    left, top = (round((side - spec.size) / 2) for side in scaled)
    seen = Box(left, top, left + spec.size, top + spec.size)
    if max(scaled) <= _STRIP * shortest:
        return _scaled(image, scaled, spec).crop(seen)
    to_x, to_y = image.width / scaled[0], image.height / scaled[1]
    strip, box = _cut_around(image, Box(seen.left * to_x, seen.top * to_y, seen.right * to_x, seen.bottom * to_y), spec)
    return _scaled(strip, (spec.size, spec.size), spec, box)


def _cut_around(image: Image.Image, box: Box, spec: InputSpec) -> tuple[Image.Image, Box]:
    """Return the part of `image` that the filter sees for `box`, and the box in it.

    Pillow keeps a box in single precision, which is several pixels in a strip of a hundred million.
    """
    support = FILTERS[spec.interpolation].support
    # Pillow widens the filter when it scales down; one pixel more for what it rounds.
    reach_x = support * max(1.0, (box.right - box.left) / spec.size) + 1
    reach_y = support * max(1.0, (box.bottom - box.top) / spec.size) + 1
    left, top = max(0, math.floor(box.left - reach_x)), max(0, math.floor(box.top - reach_y))
    right = min(image.width, math.ceil(box.right + reach_x))
    bottom = min(image.height, math.ceil(box.bottom + reach_y))
    inner = Box(box.left - left, box.top - top, min(box.right, right) - left, min(box.bottom, bottom) - top)
    return image.crop((left, top, right, bottom)), inner


def centre_square(width: int, height: int, size: int, padding: int) -> tuple[int, int, int, int]:
    """Return the part of a photo that `centre-square` sees, as left, top, right, bottom in pixels.

    It follows `_decode_and_center_crop` of tensorflow/tpu, models/official/efficientnet/preprocessing.py.
    """
    side = max(1, int(size / (size + padding) * min(width, height)))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    return left, top, left + side, top + side


def scaled_to_shortest(width: int, height: int, shortest: int) -> tuple[int, int]:
    """Return the width and height of a photo scaled until its shorter side is `shortest`.

    The fraction of the longer side is cut off: torchvision, transforms/functional.py, _compute_resized_output_size.
    """
    if width <= height:
        return shortest, int(shortest * height / width)
    return int(shortest * width / height), shortest


def fitted(width: int, height: int, size: int) -> tuple[int, int]:
    """Return the width and height of a photo scaled until its longer side is `size`, never less than a pixel.

    They are rounded as Pillow's ImageOps.contain rounds them.
    """
    longer = max(width, height)
    return max(1, round(width / longer * size)), max(1, round(height / longer * size))
