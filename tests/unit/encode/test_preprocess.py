"""What a model is fed, against the same computed another way."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from daemon.encode.preprocess import centre_square, fitted, min_side, preprocess, scaled_to_shortest
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


FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def spec(**changes: Any) -> InputSpec:
    return InputSpec.model_validate(LITE0 | changes)


def plain(**changes: Any) -> InputSpec:
    """Return a spec that feeds pixels as they are, channels last."""
    return spec(**{"layout": "nhwc", "mean": [0.0] * 3, "std": [1.0] * 3} | changes)


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
    box = centre_square(3000, 4000, 224, 32)
    expected = np.asarray(image.crop(box).resize((224, 224), Image.Resampling.BICUBIC)).astype(np.float32)
    result = preprocess(image, spec(layout="nhwc", mean=[0.0] * 3, std=[1.0] * 3))
    assert np.abs(result - expected).mean() < 0.5


@pytest.mark.parametrize(
    ("resize", "side"),
    [
        ({"rule": "centre-square", "padding": 32}, 256),
        ({"rule": "shortest"}, 224),
        ({"rule": "shortest", "to": 256}, 256),
        ({"rule": "longest"}, 224),
        ({"rule": "exact"}, 224),
    ],
)
def test_a_decoded_photo_needs_the_pixels_that_are_seen_and_those_around_them(
    resize: dict[str, Any], side: int
) -> None:
    assert min_side(spec(resize=resize)) == side


@pytest.mark.parametrize("size", [(256, 256), (257, 300), (1, 1), (1, 5000), (5001, 2)])
def test_the_square_lies_inside_the_photo(size: tuple[int, int]) -> None:
    left, top, right, bottom = centre_square(*size, 224, 32)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert right - left == bottom - top


SIZES = [(256, 256), (300, 400), (411, 257), (257, 411), (640, 427), (999, 300), (120, 91), (224, 1000), (500, 3)]


@pytest.mark.parametrize("interpolation", list(FILTERS))
@pytest.mark.parametrize("to", [32, 37, 40])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (75, 100), (103, 64), (160, 107), (250, 75), (30, 23)])
def test_shortest_is_all_of_the_photo_scaled_and_its_centre_cut(
    width: int, height: int, to: int, interpolation: str
) -> None:
    image = noise(width, height)
    scaled = (to, int(to * height / width)) if width <= height else (int(to * width / height), to)
    left, top = round((scaled[0] - 32) / 2.0), round((scaled[1] - 32) / 2.0)
    expected = image.resize(scaled, FILTERS[interpolation]).crop((left, top, left + 32, top + 32))
    result = preprocess(image, plain(size=32, resize={"rule": "shortest", "to": to}, interpolation=interpolation))
    np.testing.assert_array_equal(result, np.asarray(expected))


@pytest.mark.parametrize("interpolation", list(FILTERS))
@pytest.mark.parametrize(("width", "height"), [(501, 97), (97, 503), (1999, 13), (5, 1201), (1, 700)])
def test_of_a_strip_shortest_is_the_same_although_it_is_cut_first(width: int, height: int, interpolation: str) -> None:
    image = noise(width, height)
    scaled = (37, int(37 * height / width)) if width <= height else (int(37 * width / height), 37)
    left, top = round((scaled[0] - 32) / 2.0), round((scaled[1] - 32) / 2.0)
    expected = image.resize(scaled, FILTERS[interpolation]).crop((left, top, left + 32, top + 32))
    result = preprocess(image, plain(size=32, resize={"rule": "shortest", "to": 37}, interpolation=interpolation))
    difference = np.abs(result - np.asarray(expected).astype(np.float32))
    # Rows and columns are rounded one after the other, and two filters jump from a pixel to its neighbour by a rounding.
    jumps = 0.05 if interpolation in {"nearest", "box"} else 0.001
    assert (difference > 2).mean() <= jumps


@pytest.mark.parametrize("interpolation", list(FILTERS))
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_longest_is_the_whole_photo_in_the_centre_of_one_colour(width: int, height: int, interpolation: str) -> None:
    image = noise(width, height)
    expected = ImageOps.pad(image, (224, 224), FILTERS[interpolation], color=(10, 20, 30))
    described = plain(resize={"rule": "longest", "fill": [10, 20, 30]}, interpolation=interpolation)
    np.testing.assert_array_equal(preprocess(image, described), np.asarray(expected))


def test_the_fill_is_red_green_and_blue_whatever_the_model_s_order() -> None:
    described = plain(resize={"rule": "longest", "fill": [10, 20, 30]}, channels="bgr")
    result = preprocess(Image.new("RGB", (224, 8), "white"), described)
    assert result[0, 0].tolist() == [30, 20, 10]
    assert result[112, 112].tolist() == [255, 255, 255]


@pytest.mark.parametrize("interpolation", list(FILTERS))
def test_exact_squeezes_the_whole_photo_into_the_square(interpolation: str) -> None:
    image = noise(500, 300)
    expected = np.asarray(image.resize((224, 224), FILTERS[interpolation]))
    result = preprocess(image, plain(resize={"rule": "exact"}, interpolation=interpolation))
    np.testing.assert_array_equal(result, expected)


def test_the_nearest_pixel_is_taken_and_never_a_mean_of_several() -> None:
    """The other filters average blocks of a large photo before they scale it."""
    image = Image.fromarray(np.random.default_rng(1).choice([0, 255], (2400, 2400, 1)).repeat(3, 2).astype(np.uint8))
    result = preprocess(image, plain(resize={"rule": "exact"}, interpolation="nearest"))
    assert set(np.unique(result)) == {0.0, 255.0}


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_uint8_is_the_pixels_as_they_are(layout: str) -> None:
    image = noise(224, 224)
    described = plain(resize={"rule": "exact"}, dtype="uint8", layout=layout, channels="bgr")
    result = preprocess(image, described)
    expected = np.asarray(image)[:, :, ::-1]
    assert result.dtype == np.dtype(np.uint8)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected.transpose(2, 0, 1) if layout == "nchw" else expected)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_float16_is_float32_rounded_once(layout: str) -> None:
    image = noise(300, 260)
    result = preprocess(image, spec(dtype="float16", layout=layout))
    assert result.dtype == np.dtype(np.float16)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, preprocess(image, spec(layout=layout)).astype(np.float16))


EXTREME = [(1, 10_000), (65_500, 8), (8, 65_500), (1, 1), (2, 2_000_000)]
RULES: list[dict[str, Any]] = [
    {"rule": "centre-square", "padding": 32},
    {"rule": "shortest", "to": 256},
    {"rule": "longest", "fill": [200, 100, 50]},
    {"rule": "exact"},
]


@pytest.mark.parametrize(
    ("size", "interpolation", "resize"),
    [
        *itertools.product(EXTREME, FILTERS, RULES),
        # As many pixels as a large photo has, once for each rule and each filter: half a second each.
        *(((2, 30_000_000), interpolation, RULES[n % len(RULES)]) for n, interpolation in enumerate(FILTERS)),
    ],
)
def test_a_strip_of_any_length_becomes_a_square_of_its_own_colour_in_little_memory(
    size: tuple[int, int], interpolation: str, resize: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.new("RGB", size, (200, 100, 50))
    made: list[int] = []
    new = Image.Image._new

    def counted(self: Image.Image, core: Any) -> Image.Image:
        made.append(core.size[0] * core.size[1])
        return new(self, core)

    monkeypatch.setattr(Image.Image, "_new", counted)
    result = preprocess(image, plain(resize=resize, interpolation=interpolation))
    assert result.shape == (224, 224, 3)
    assert np.abs(result - [200, 100, 50]).max() <= 1
    assert max(made) <= 8 * 256**2


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((500, 375), (341, 256)),
        ((375, 500), (256, 341)),
        ((64, 64), (256, 256)),
        ((257, 256), (257, 256)),
        ((1, 9), (256, 2304)),
    ],
)
def test_the_longer_side_loses_its_fraction_when_the_shorter_is_scaled(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert scaled_to_shortest(*size, 256) == scaled


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((224, 224), (224, 224)),
        ((1000, 500), (224, 112)),
        ((500, 1000), (112, 224)),
        ((65_500, 8), (224, 1)),
        ((1, 9), (25, 224)),
    ],
)
def test_a_photo_is_fitted_by_its_longer_side_and_never_to_nothing(
    size: tuple[int, int], inner: tuple[int, int]
) -> None:
    assert fitted(*size, 224) == inner
