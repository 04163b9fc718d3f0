"""Gray values of more than 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from daemon.encode.colours import to_rgb


def grays(values: list[float], dtype: type[np.generic]) -> list[int]:
    image = to_rgb(Image.fromarray(np.array([values], dtype)))
    assert image.mode == "RGB"
    return [int(value) for value in np.asarray(image)[0, :, 0]]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 257, 32896, 65535], np.uint16, [0, 1, 128, 255]),
        ([0, 65535], np.int32, [0, 255]),
        ([-100, 0, 100], np.int32, [0, 128, 255]),
        ([0, 70_000, 140_000], np.int32, [0, 128, 255]),
        ([0.0, 0.25, 1.0], np.float32, [0, 64, 255]),
        ([0.0, 5.0, 10.0], np.float32, [0, 128, 255]),
        ([float("nan"), 1.0], np.float32, [0, 255]),
        ([float("inf"), float("-inf"), 0.5], np.float32, [0, 0, 128]),
        ([7.0, 7.0], np.float32, [0, 0]),
    ],
)
def test_values_are_scaled_and_never_clipped(values: list[float], dtype: type[np.generic], expected: list[int]) -> None:
    assert grays(values, dtype) == expected


def test_rgb_is_not_copied() -> None:
    image = Image.new("RGB", (4, 4))
    assert to_rgb(image) is image
