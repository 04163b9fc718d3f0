"""From an ONNX graph, and what its user says of it, to a spec: what can be read is read, and what cannot is said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.encode.presets import MAX_SIDE, MIN_SIDE, PRESETS
from daemon.encode.specs import is_name
from daemon.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.catalogue.wishes import Wishes
    from daemon.encode.graphs import GraphInfo, Value

_IMAGE_AXES, _TOKEN_AXES, _ROW_AXES = 4, 3, 2
_CHANNELS = 3
_DTYPES = ("float32", "float16", "uint8")
_TOKENS = ("int64", "int32")
# What exporters call the output that is meant to be compared, the best first.
_EMBEDDINGS = (
    "image_embeds",
    "image_features",
    "pooler_output",
    "embedding",
    "embeddings",
    "features",
    "feature",
    "last_hidden_state",
)
# The family that a file's name gives away, and how it is fed.
_FAMILIES = {"siglip": "siglip", "clip": "clip"}
_PIXELS = {"scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}


@dataclass(frozen=True)
class Proposal:
    """The sections `input` and `output` of a spec, but for the dimension; `decisions` say what was taken for what, and why."""

    input: dict[str, Any]
    output: dict[str, Any]
    decisions: list[str] = field(default_factory=list)


def propose(name: str, info: GraphInfo, wishes: Wishes) -> Proposal:
    """Return how the graph of the model `name` is to be fed and read; ModelError when it cannot be an image model here."""
    value = _image_input(name, info)
    layout, size = _square(name, value, wishes)
    preset, why = _preset(name, value, layout, wishes)
    decisions = [f"input: {value.name}, {value.dtype}, {layout.upper()}", why]
    known = PRESETS.get(preset or "", {})
    size, reason = _size(name, size, known, wishes)
    decisions.append(f"size: {size} ({reason})")
    fed: dict[str, Any] = {"preset": preset} if preset else _bare(layout)
    fed["size"] = size
    if preset and known["layout"] != layout:
        fed["layout"] = layout
    if wishes.resize and size == known.get("size"):
        fed["resize"] = wishes.resize
    if value.dtype != "float32":
        fed["dtype"] = value.dtype
    if preset and value.dtype == "uint8":
        fed |= _PIXELS
        decisions.append(f"numbers: pixels as they are, for the graph takes uint8; of {preset}, no scale, mean and std")
    read = _output(name, info, preset, wishes, decisions)
    return Proposal(fed, read, decisions)


def _image_input(name: str, info: GraphInfo) -> Value:
    names = ", ".join(value.name for value in info.inputs)
    if len(info.inputs) != 1:
        raise ModelError(
            name,
            f"it takes {len(info.inputs)} inputs ({names}) where an image model takes one; export the image part alone.",
        )
    value = info.inputs[0]
    if value.dtype in _TOKENS:
        raise ModelError(
            name,
            f"its input {names} takes {value.dtype}, which are tokens of a text; add its image model, and give this one as --text.",
        )
    if value.dtype not in _DTYPES:
        raise ModelError(name, f"its input {names} takes {value.dtype}; export it with {', '.join(_DTYPES)}.")
    if value.shape is None or len(value.shape) != _IMAGE_AXES:
        axes = "does not say its axes" if value.shape is None else f"has {len(value.shape)} axes"
        raise ModelError(
            name,
            f"its input {names} {axes}, and an image has {_IMAGE_AXES}: photos, channels, height and width; export it so.",
        )
    photos = value.shape[0]
    if isinstance(photos, int) and photos != 1:
        raise ModelError(
            name,
            f"it takes {photos} photos at a time, no more and no fewer; export it with a batch of any size, or of 1.",
        )
    return value


def _square(name: str, value: Value, wishes: Wishes) -> tuple[str, int | None]:
    """Return the layout, and the side where the graph fixes it."""
    assert value.shape is not None  # noqa: S101 - for the type checker
    first, last = value.shape[1], value.shape[3]
    if _CHANNELS not in {first, last} and isinstance(first, int) and isinstance(last, int):
        taken = min(first, last)
        channels = f"{taken} channel{'' if taken == 1 else 's'}"
        raise ModelError(
            name, f"its input takes {channels} where a photo has {_CHANNELS}; export it for colour photos."
        )
    if _CHANNELS in {first, last}:
        layout = "nchw" if first == _CHANNELS else "nhwc"
    else:
        layout = PRESETS.get(wishes.preset or "torchvision", {}).get("layout", "nchw")
    height, width = value.shape[2:] if layout == "nchw" else value.shape[1:3]
    if isinstance(height, int) and isinstance(width, int) and height != width:
        raise ModelError(
            name,
            f"it takes images of {width} x {height} pixels, and only squares are made here; export it for a square.",
        )
    side = height if isinstance(height, int) else width
    return layout, side if isinstance(side, int) else None


def _preset(name: str, value: Value, layout: str, wishes: Wishes) -> tuple[str | None, str]:
    if wishes.preset:
        return wishes.preset, f"preprocessing: {wishes.preset}, as you say"
    if value.dtype == "uint8":
        return None, "preprocessing: none but the size, for it takes pixels as they are"
    family = next((preset for word, preset in _FAMILIES.items() if word in name), None)
    if family:
        return family, f"preprocessing: {family}, by its name; another --preset, if that is wrong"
    guess = "torchvision" if layout == "nchw" else "keras-tf"
    return guess, f"preprocessing: {guess}, a guess, for no graph says it; look how it was trained, and set --preset"


def _size(name: str, fixed: int | None, known: dict[str, Any], wishes: Wishes) -> tuple[int, str]:
    if fixed is not None and wishes.size not in (None, fixed):
        raise ModelError(name, f"it takes images of {fixed} x {fixed} pixels and no others; leave --size out.")
    if fixed is not None and not MIN_SIDE <= fixed <= MAX_SIDE:
        made = f"{MIN_SIDE} to {MAX_SIDE:,} can be made here"
        raise ModelError(name, f"it takes images of {fixed} x {fixed} pixels, and {made}; export it for another size.")
    if fixed is not None:
        return fixed, "the graph takes no other"
    if wishes.size is not None:
        return wishes.size, "as you say"
    return int(known.get("size", 224)), "the usual one, for the graph takes any; --size sets another"


def _bare(layout: str) -> dict[str, Any]:
    return {"resize": {"rule": "exact"}, "interpolation": "bilinear", "layout": layout, "channels": "rgb", **_PIXELS}


def _output(name: str, info: GraphInfo, preset: str | None, wishes: Wishes, decisions: list[str]) -> dict[str, Any]:
    value, why = _chosen(name, info, wishes)
    pooling = wishes.pooling
    if pooling is None:
        axes = _ROW_AXES if value.shape is None else len(value.shape)
        # MAC, the usual descriptor by maps of VGG and ResNet: Tolias et al. 2016, https://arxiv.org/abs/1511.05879.
        of_maps = "max" if preset == "keras-caffe" else "avg"
        pooling = {_IMAGE_AXES: of_maps, _TOKEN_AXES: "cls"}.get(axes, "none")
    decisions.append(f"output: {value.name} ({why}), pooling {pooling}")
    return ({} if len(info.outputs) == 1 else {"name": value.name}) | {"pooling": pooling}


def _chosen(name: str, info: GraphInfo, wishes: Wishes) -> tuple[Value, str]:
    by_name = {value.name: value for value in info.outputs}
    listed = ", ".join(by_name)
    if wishes.output is not None:
        position = int(wishes.output) if wishes.output.isdecimal() else None
        if position is not None and wishes.output not in by_name and position < len(info.outputs):
            return info.outputs[position], "as you say"
        if wishes.output not in by_name:
            raise ModelError(name, f"it has no output {wishes.output}; set --output to one of {listed}.")
        return by_name[wishes.output], "as you say"
    if len(info.outputs) == 1:
        return info.outputs[0], "its only one"
    for known in _EMBEDDINGS:
        if known in by_name:
            return by_name[known], f"by its name, of {listed}"
    raise ModelError(
        name,
        f"it has {len(info.outputs)} outputs, and none is called as embeddings are; set --output to one of {listed}.",
    )


def chosen_name(file: Path, wishes: Wishes) -> str:
    """Return what the model in `file` is to be called; ModelError when no model can be called so."""
    name = model_name(file.stem) if wishes.name is None else wishes.name
    if wishes.name is None and not name:
        raise ModelError(file.name, "no name can be made of the file's; give one with --name.")
    if not is_name(name):
        reason = (
            "no model can be called so: a name has lower-case letters and digits, with single hyphens between them, and "
            "begins with a letter; give another with --name."
        )
        raise ModelError(name or "''", reason)
    return name


def model_name(stem: str) -> str:
    """Return a file's name as a model's: lower-case letters, digits and hyphens; empty where nothing is left of it."""
    words = re.findall(r"[a-z0-9]+", stem.lower())
    return re.sub(r"^[0-9-]+", "", "-".join(words))[:64].rstrip("-")
