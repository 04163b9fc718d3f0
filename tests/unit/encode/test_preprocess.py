"""What a model is fed, against the same computed another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from daemon.encode.preprocess import crop_box, min_side, preprocess
from daemon.encode.specs import InputSpec

LITE0: dict[str, Any] = {
    "size": 224,
    "resize": {"rule": "centre-square", "padding": 32},
    "interpolation": "bicubic",
    "layout": "nchw",
    "channels": "rgb",
    "scale": 1.0,
    "mean": [127.0] * 3,
    "std": [128.0] * 3,
    "dtype": "float32",
}


def spec(**changes: Any) -> InputSpec:
    return InputSpec.model_validate(LITE0 | changes)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth(width: int, height: int) -> Image.Image:
    return noise(9, 7).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("width", "height"), [(256, 256), (300, 400), (411, 257), (223, 500), (3, 1)])
def test_the_input_is_the_centre_square_scaled_and_shifted(width: int, height: int) -> None:
    image = noise(width, height)
    side = max(1, int(224 / 256 * min(width, height)))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    expected = (np.asarray(square).astype(np.float64) - 127) / 128
    np.testing.assert_array_equal(preprocess(image, spec()), expected.transpose(2, 0, 1))


def test_the_input_is_contiguous_float32_without_a_batch_axis() -> None:
    result = preprocess(noise(300, 300), spec())
    assert result.shape == (3, 224, 224)
    assert result.dtype == np.dtype(np.float32)
    assert result.flags.c_contiguous


def test_black_and_white_become_the_ends_of_the_range() -> None:
    assert np.unique(preprocess(Image.new("RGB", (256, 256), "black"), spec())) == [-127 / 128]
    assert np.unique(preprocess(Image.new("RGB", (256, 256), "white"), spec())) == [1.0]


def test_mean_std_and_scale_apply_to_their_channel() -> None:
    described = spec(scale=1 / 255, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    result = preprocess(Image.new("RGB", (256, 256), (255, 0, 51)), described)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(result[:, 100, 100], expected, rtol=1e-5)


def test_channels_last_holds_the_same_numbers() -> None:
    image = noise(300, 260)
    np.testing.assert_array_equal(preprocess(image, spec(layout="nhwc")).transpose(2, 0, 1), preprocess(image, spec()))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_bgr_is_rgb_backwards_and_its_mean_counts_in_that_order(layout: str) -> None:
    image = Image.new("RGB", (256, 256), (10, 20, 30))
    result = preprocess(image, spec(channels="bgr", layout=layout, mean=[1.0, 2.0, 3.0], std=[1.0] * 3))
    pixel = result[:, 0, 0] if layout == "nchw" else result[0, 0]
    assert pixel.tolist() == [29, 18, 7]
    assert result.flags.c_contiguous


def test_exact_sees_the_whole_photo() -> None:
    image = smooth(500, 300)
    expected = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)).astype(np.float32)
    result = preprocess(image, spec(resize={"rule": "exact"}, mean=[0.0] * 3, std=[1.0] * 3, layout="nhwc"))
    np.testing.assert_allclose(result, expected, atol=1)


def test_averaging_pixels_first_does_not_change_a_large_photo() -> None:
    image = smooth(3000, 4000)
    box = crop_box(3000, 4000, spec())
    expected = np.asarray(image.crop(box).resize((224, 224), Image.Resampling.BICUBIC)).astype(np.float32)
    result = preprocess(image, spec(layout="nhwc", mean=[0.0] * 3, std=[1.0] * 3))
    assert np.abs(result - expected).mean() < 0.5


def test_a_decoded_photo_needs_the_square_and_its_border() -> None:
    assert min_side(spec()) == 256
    assert min_side(spec(resize={"rule": "exact"})) == 224


@pytest.mark.parametrize("size", [(256, 256), (257, 300), (1, 1), (1, 5000), (5001, 2)])
def test_the_square_lies_inside_the_photo(size: tuple[int, int]) -> None:
    left, top, right, bottom = crop_box(*size, spec())
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert right - left == bottom - top
