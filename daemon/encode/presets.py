"""How the field feeds its image models: for each convention, the keys of a spec's `input` that it fixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

# Pixels of the side of the square that a model sees.
MIN_SIDE, MAX_SIDE = 8, 4096

PRESETS: dict[str, dict[str, Any]] = {
    # keras.applications.imagenet_utils.preprocess_input(mode="caffe"), after keras.utils.load_img(target_size=...), which takes
    # the nearest pixel: blue, green, red, each less its mean over ImageNet.
    "keras-caffe": {
        "size": 224,
        "resize": {"rule": "exact"},
        "interpolation": "nearest",
        "layout": "nhwc",
        "channels": "bgr",
        "scale": 1.0,
        "mean": [103.939, 116.779, 123.68],
        "std": [1.0, 1.0, 1.0],
    },
    # The same with mode="tf": from -1 to 1.
    "keras-tf": {
        "size": 224,
        "resize": {"rule": "exact"},
        "interpolation": "nearest",
        "layout": "nhwc",
        "channels": "rgb",
        "scale": 1 / 127.5,
        "mean": [1.0, 1.0, 1.0],
        "std": [1.0, 1.0, 1.0],
    },
    # torchvision.transforms._presets.ImageClassification as it is by default: 256, then the centre 224.
    "torchvision": {
        "size": 224,
        "resize": {"rule": "shortest", "to": 256},
        "interpolation": "bilinear",
        "layout": "nchw",
        "channels": "rgb",
        "scale": 1 / 255,
        **_IMAGENET,
    },
    # openai/CLIP, clip/clip.py, _transform: Resize(224, BICUBIC), CenterCrop(224), Normalize.
    "clip": {
        "size": 224,
        "resize": {"rule": "shortest"},
        "interpolation": "bicubic",
        "layout": "nchw",
        "channels": "rgb",
        "scale": 1 / 255,
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    },
    # google-research/big_vision, SigLIP: the whole photo squeezed into the square, `resize(224)|value_range(-1, 1)`. The filter is
    # that of SiglipImageProcessor in Hugging Face's transformers, through which most graphs were exported; SigLIP 2 has bilinear.
    "siglip": {
        "size": 224,
        "resize": {"rule": "exact"},
        "interpolation": "bicubic",
        "layout": "nchw",
        "channels": "rgb",
        "scale": 1 / 255,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


def with_preset(preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a spec's `input`: those `given`, and for the others those of a preset, a key of PRESETS.

    What the shorter side is scaled to grows with the size: torchvision keeps 224 of 256, and so 448 of 512.
    """
    known = PRESETS[preset]
    size, to = given.get("size"), known["resize"].get("to")
    if to is None or type(size) is not int or size < MIN_SIDE:
        return {**known, **given}
    return {**known, "resize": {**known["resize"], "to": round(size * to / known["size"])}, **given}
