"""What a model means: the annotated YAML spec beside its weights, read strictly."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from daemon.documents import Document
from daemon.encode.presets import PRESETS
from daemon.errors import ConfigError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PerChannel = Annotated[tuple[float, float, float], Field(strict=False)]
PixelValue = Annotated[int, Field(ge=0, le=255)]
Pooling = Literal["none", "avg", "max", "cls", "mean-of-tokens"]

_BASE = "base"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _inside(file: str) -> str:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a relative path without '..'")
    return file


InnerPath = Annotated[
    str, Field(min_length=1), BeforeValidator(lambda file: _inside(file) if isinstance(file, str) else file)
]


class PackageSource(_Section):
    """A file that an installed Python distribution ships."""

    kind: Literal["pypi"]
    package: str = Field(min_length=1)
    version: str | None = None
    """The release that `pull` installs; None is the newest."""
    file: InnerPath
    sha256: Sha256


class FileSource(_Section):
    """A file of this machine; `path` is absolute once it is loaded."""

    kind: Literal["file"]
    path: Annotated[Path, Field(strict=False)]
    sha256: Sha256 | None = None

    @field_validator("path")
    @classmethod
    def _beside_the_spec(cls, path: Path, info: ValidationInfo) -> Path:
        base = (info.context or {}).get(_BASE)
        return base / path if base else path


class UrlSource(_Section):
    """A file that is downloaded from `url` when it is pulled."""

    kind: Literal["url"]
    url: str = Field(pattern=r"^https?://")
    sha256: Sha256


class HuggingFaceSource(_Section):
    """A file of a repository of huggingface.co, at a revision; without a checksum it is not pinned."""

    kind: Literal["huggingface"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(min_length=1)
    file: InnerPath
    sha256: Sha256 | None = None
    data: tuple[InnerPath, ...] = Field(default=(), strict=False)
    """Files in which the graph at `file` keeps its weights, where it does."""


Source = Annotated[PackageSource | FileSource | UrlSource | HuggingFaceSource, Field(discriminator="kind")]


class EfficientNetLite(_Section):
    """The weights are a torch checkpoint of an EfficientNet-Lite, of which a graph is built."""

    kind: Literal["efficientnet-lite"]
    variant: Literal["lite0", "lite1", "lite2"]


class CentreSquare(_Section):
    """Cut the centre square of side size / (size + padding) times the shorter side, then scale it to size."""

    rule: Literal["centre-square"]
    padding: int = Field(ge=0)


class Shortest(_Section):
    """Scale the shorter side to `to` pixels (None is size), then cut the centre square of side size."""

    rule: Literal["shortest"]
    to: int | None = Field(default=None, ge=8, le=8192)


class Longest(_Section):
    """Scale the longer side to size, then pad to a square with one colour, the photo in its centre."""

    rule: Literal["longest"]
    fill: Annotated[tuple[PixelValue, PixelValue, PixelValue], Field(strict=False)] = (0, 0, 0)
    """Red, green and blue, whatever the order of the channels."""


class Exact(_Section):
    """Scale the whole photo to a square, whatever its shape."""

    rule: Literal["exact"]


Resize = Annotated[CentreSquare | Shortest | Longest | Exact, Field(discriminator="rule")]


class InputSpec(_Section):
    """What the model is fed: value = (pixel * scale - mean) / std, with pixels from 0 to 255.

    `preset` names a convention of the field, which gives every key that is not given here: see daemon/encode/presets.py.
    """

    preset: Literal["keras-caffe", "keras-tf", "torchvision", "clip", "siglip"] | None = Field(
        default=None, exclude=True
    )
    size: int = Field(ge=8, le=4096)
    resize: Resize
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
    layout: Literal["nchw", "nhwc"]
    channels: Literal["rgb", "bgr"]
    scale: float = Field(gt=0)
    mean: PerChannel
    """In the order of the channels as the model sees them, as is `std`."""
    std: PerChannel
    dtype: Literal["float32", "float16", "uint8"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") in PRESETS:
            return {**PRESETS[data["preset"]], **data}
        return data

    @field_validator("std")
    @classmethod
    def _no_division_by_zero(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError("must be greater than 0 for every channel")
        return std

    @model_validator(mode="after")
    def _whole_pixels(self) -> InputSpec:
        if self.dtype == "uint8" and (self.scale, *self.mean, *self.std) != (1, 0, 0, 0, 1, 1, 1):
            raise ValueError("a uint8 input takes pixels as they are: scale must be 1, mean 0 and std 1")
        return self


class OutputSpec(_Section):
    """Which output is the embedding, how it becomes a row, and how many numbers a vector has in the end."""

    name: str | Annotated[int, Field(ge=0)] | None = None
    """Its name, or its position from 0; None where the graph has one output."""
    pooling: Pooling
    dim: int = Field(gt=0, le=32768)


class Affine(_Section):
    """row = (row - mean) @ matrix: a PCA, say. The source is an .npz file with `mean` [in] and `matrix` [in, dim]."""

    kind: Literal["affine"]
    source: Source


class Words(_Section):
    """ConSE (Norouzi et al. 2014, https://arxiv.org/abs/1312.5650): class probabilities weight the vectors of class names.

    The row, a classifier's features, gives probabilities by the classifier of the same weights; the `top` greatest weight the
    text tower's vectors of their classes' names, a JSON list or an object by class index.
    """

    kind: Literal["words"]
    names: Source
    top: int = Field(default=10, ge=1)


class TextOutput(_Section):
    """Which output of the text tower is a row of the image vectors' dimension, and how it becomes one."""

    name: str | Annotated[int, Field(ge=0)] | None = None
    pooling: Literal["none", "cls", "mean-of-tokens"]


class TextSpec(_Section):
    """The graph that maps a text to where its photos are."""

    source: Source
    tokenizer: Source
    """A tokenizer.json of the library `tokenizers`."""
    context: int = Field(ge=4, le=8192)
    """At most so many tokens, the special ones included."""
    pad: bool = False
    """Whether shorter texts are filled up to `context` tokens, for graphs that take no others."""
    lowercase: bool = False
    template: str = Field(default="{}", pattern=r"^[^{}]*\{\}[^{}]*$")
    """What is encoded of a text, in the place of {}."""
    output: TextOutput


class ModelSpec(_Section):
    """All there is to know of a model; equal specs over equal weights give equal vectors."""

    name: str = Field(max_length=64, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
    summary: str = ""
    """What it is good for, in a few words."""
    licence: str = Field(min_length=1)
    source: Source
    builder: EfficientNetLite | None = None
    """What makes an ONNX graph of weights that are none."""
    input: InputSpec
    output: OutputSpec
    projection: Annotated[Affine | Words, Field(discriminator="kind")] | None = None
    metric: Literal["cosine", "l2", "ip"]
    text: TextSpec | None = None

    @model_validator(mode="after")
    def _words_of_a_classifier(self) -> ModelSpec:
        if isinstance(self.projection, Words) and (self.builder is None or self.text is None):
            raise ValueError("a projection to words needs a builder, which has the classifier, and a text tower")
        return self


def load_spec(path: Path) -> ModelSpec:
    """Return the spec at `path`; ConfigError names all its problems, each with its place."""
    document = Document.read(path)
    try:
        spec = ModelSpec.model_validate(document.data, context={_BASE: path.absolute().parent})
    except ValidationError as error:
        raise document.refuse(error) from error
    if document.problems:
        raise ConfigError(document.source, document.problems)
    return spec
