"""The shipped model over its real weights, and an encoder of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.encode.encoder import Encoder
from daemon.encode.models import Model, ModelSpec, load_spec, prepare

SPEC = Path(__file__).parents[3] / "configs" / "models" / "efficientnet-lite0.yaml"


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    return load_spec(SPEC)


@pytest.fixture(scope="session")
def model(spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("models")
    return prepare(spec, directory / "cache", directory)


@pytest.fixture(scope="session")
def encoder(model: Model) -> Encoder:
    return Encoder([model], threads=1)
