"""The conventions of the field, against their published definitions written out in NumPy.

Nothing here is taken from the presets: constants and formulas are those of each project's own code.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from daemon.encode.models import ModelSpec
from daemon.encode.preprocess import preprocess
from daemon.encode.presets import PRESETS
from daemon.encode.specs import InputSpec

TOLERANCE = 1e-3
# Width and height: portrait and landscape, smaller and larger than what the model sees, odd and even.
SIZES = [(224, 224), (256, 256), (640, 480), (375, 500), (333, 1000), (301, 299), (100, 150), (1023, 767)]


def photo(width: int, height: int) -> Image.Image:
    """Return gradients with noise: every pixel differs from its neighbours, and the four quarters from each other."""
    rng = np.random.default_rng(width * height)
    y, x = np.mgrid[0:height, 0:width]
    gradients = np.stack([x / width, y / height, 1 - (x + y) / (width + height)], axis=2) * 200
    return Image.fromarray((gradients + rng.integers(0, 56, (height, width, 3))).astype(np.uint8))


def preset_input(image: Image.Image, name: str) -> np.ndarray:
    return preprocess(image, InputSpec.model_validate({"preset": name}))


def nearest(image: Image.Image, side: int) -> np.ndarray:
    """Return the pixel under the middle of each pixel of the square: what load_img(target_size=...) takes by default.

    keras/src/utils/image_utils.py: interpolation="nearest", keep_aspect_ratio=False, img.resize((width, height), NEAREST).
    Pillow's ImagingScaleAffine steps from middle to middle, which tells what becomes of one between two pixels.
    """
    rows, columns = (
        np.cumsum([length / side / 2, *[length / side] * (side - 1)]).astype(int)
        for length in (image.height, image.width)
    )
    seen: np.ndarray = np.asarray(image).astype(np.float64)[rows][:, columns]
    return seen


def resized_and_cropped(image: Image.Image, shorter: int, side: int, resampling: Image.Resampling) -> np.ndarray:
    """Return Resize(shorter) and CenterCrop(side) of torchvision.transforms on a PIL image, [side, side, 3], 0 to 255.

    torchvision/transforms/functional.py: _compute_resized_output_size and center_crop.
    """
    short, long = sorted(image.size)
    longer = int(shorter * long / short)
    whole = image.resize((shorter, longer) if image.width <= image.height else (longer, shorter), resampling)
    top, left = round((whole.height - side) / 2.0), round((whole.width - side) / 2.0)
    cropped: np.ndarray = np.asarray(whole).astype(np.float64)[top : top + side, left : left + side]
    return cropped


def to_tensor_and_normalised(pixels: np.ndarray, mean: list[float], std: list[float]) -> np.ndarray:
    """Return ToTensor() and Normalize(mean, std) of torchvision.transforms: channels first, (value / 255 - mean) / std."""
    return np.asarray((pixels / 255.0 - np.array(mean)) / np.array(std)).transpose(2, 0, 1)


@pytest.mark.parametrize("size", SIZES)
def test_keras_caffe_is_blue_green_red_less_the_means_of_imagenet(size: tuple[int, int]) -> None:
    """keras/src/applications/imagenet_utils.py, _preprocess_numpy_input(mode="caffe")."""
    x = nearest(photo(*size), 224)[..., ::-1].copy()
    x[..., 0] -= 103.939
    x[..., 1] -= 116.779
    x[..., 2] -= 123.68
    np.testing.assert_allclose(preset_input(photo(*size), "keras-caffe"), x, atol=TOLERANCE)


@pytest.mark.parametrize("size", SIZES)
def test_keras_tf_is_from_minus_one_to_one(size: tuple[int, int]) -> None:
    """keras/src/applications/imagenet_utils.py, _preprocess_numpy_input(mode="tf")."""
    x = nearest(photo(*size), 224)
    x /= 127.5
    x -= 1.0
    np.testing.assert_allclose(preset_input(photo(*size), "keras-tf"), x, atol=TOLERANCE)


@pytest.mark.parametrize("size", SIZES)
def test_torchvision_is_its_preset_for_image_classification(size: tuple[int, int]) -> None:
    """torchvision/transforms/_presets.py, ImageClassification(crop_size=224): resize_size=256, bilinear."""
    pixels = resized_and_cropped(photo(*size), 256, 224, Image.Resampling.BILINEAR)
    expected = to_tensor_and_normalised(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    np.testing.assert_allclose(preset_input(photo(*size), "torchvision"), expected, atol=TOLERANCE)


@pytest.mark.parametrize("size", SIZES)
def test_clip_is_the_transform_of_its_authors(size: tuple[int, int]) -> None:
    """openai/CLIP, clip/clip.py, _transform(n_px=224)."""
    pixels = resized_and_cropped(photo(*size), 224, 224, Image.Resampling.BICUBIC)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    np.testing.assert_allclose(
        preset_input(photo(*size), "clip"), to_tensor_and_normalised(pixels, mean, std), atol=TOLERANCE
    )


@pytest.mark.parametrize("size", SIZES)
def test_siglip_is_the_whole_photo_from_minus_one_to_one(size: tuple[int, int]) -> None:
    """transformers/models/siglip/image_processing_siglip.py: resample=BICUBIC, rescale 1/255, mean and std 0.5."""
    pixels = np.asarray(photo(*size).resize((224, 224), Image.Resampling.BICUBIC)).astype(np.float64)
    expected = to_tensor_and_normalised(pixels, [0.5] * 3, [0.5] * 3)
    np.testing.assert_allclose(preset_input(photo(*size), "siglip"), expected, atol=TOLERANCE)


def triangle_weights(length: int, side: int) -> np.ndarray:
    """Return the weight of each of `length` pixels in each of `side`: a triangle as wide as the scale, [side, length].

    Pillow's documentation of BILINEAR: "linear interpolation on all pixels that may contribute to the output value"; its
    half width is the scale when it scales down, and weights are normalised.
    """
    scale = length / side
    width = max(1.0, scale)
    centres = (np.arange(side)[:, None] + 0.5) * scale
    weights = np.maximum(0.0, 1 - np.abs(np.arange(length)[None] + 0.5 - centres) / width)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("size", [(640, 480), (375, 500), (333, 224), (97, 150)])
def test_bilinear_takes_the_weighted_mean_of_all_pixels_under_a_triangle(size: tuple[int, int]) -> None:
    image = photo(*size)
    pixels = np.asarray(image).astype(np.float64)
    across = np.floor(np.einsum("ow,hwc->hoc", triangle_weights(image.width, 224), pixels) + 0.5)
    expected = np.einsum("oh,hwc->owc", triangle_weights(image.height, 224), across)
    described = {
        "preset": "siglip",
        "interpolation": "bilinear",
        "layout": "nhwc",
        "scale": 1,
        "mean": [0] * 3,
        "std": [1] * 3,
    }
    result = preprocess(image, InputSpec.model_validate(described))
    # Each is rounded to a whole number, rows after columns; weights of 22 bits round a few that lie between two the other way.
    difference = np.abs(result - expected)
    assert difference.max() <= 1.5
    assert (difference > 0.51).mean() < 0.01


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_is_the_same_as_its_keys_written_out(name: str) -> None:
    named, written = InputSpec.model_validate({"preset": name}), InputSpec.model_validate(PRESETS[name])
    assert named.model_dump(mode="json") == written.model_dump(mode="json")
    assert "preset" not in named.model_dump()


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_key_that_is_given_goes_before_the_preset_s(name: str) -> None:
    spec = InputSpec.model_validate({"preset": name, "size": 192, "dtype": "float16", "mean": [0.25, 0.5, 0.75]})
    assert (spec.size, spec.dtype, spec.mean) == (192, "float16", (0.25, 0.5, 0.75))
    assert spec.std == tuple(PRESETS[name]["std"])


def test_every_preset_can_be_named_and_no_other() -> None:
    described = ModelSpec.model_json_schema()["$defs"]["InputSpec"]["properties"]["preset"]["anyOf"][0]["enum"]
    assert sorted(described) == sorted(PRESETS)
