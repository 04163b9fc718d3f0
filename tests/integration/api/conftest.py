"""A client of the HTTP interface, and the shipped models over their real weights."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon import paths
from daemon.encode.encoder import Encoder, load_encoders
from daemon.encode.models import Model, load_spec, prepare
from daemon.encode.text import TextEncoder
from daemon.index.index import Collection, Index
from daemon.index.keys import Keys
from daemon.index.mappings import Mappings
from daemon.index.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODELS = ("efficientnet-lite0", "words")
_numbers = itertools.count()


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(os.fspath(self._path))


class Client:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(
        self, method: str, target: str, body: Any = None, kind: str = "image/png"
    ) -> tuple[int, dict[str, Any]]:
        connection = Connection(self.path)
        try:
            connection.request(method, target, body, {"Content-Type": kind})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        assert raw.isascii()
        answer = json.loads(raw)
        assert answer["schema"] == 1
        return response.status, answer

    def asked(self, **query: Any) -> tuple[int, dict[str, Any]]:
        return self("POST", "/v1/search", json.dumps(query).encode(), "application/json")

    def code(self, *request: Any, **query: Any) -> tuple[int, str]:
        status, answer = self.asked(**query) if query else self(*request)
        assert "\n" not in answer["error"]["message"]
        return status, answer["error"]["code"]


def library_of(stores: Any, models: Sequence[Model]) -> Index:
    """Return the index of a library that nobody has used, with a collection for each model."""
    keys = Keys(f"api{next(_numbers)}")
    collections = [
        Collection(
            model=model.spec.name,
            version=model.version,
            name=keys.collection(model.spec.name, model.fingerprint),
            alias=keys.alias(model.spec.name),
            dim=model.spec.output.dim,
            metric=model.spec.metric,
        )
        for model in models
    ]
    mappings = Mappings(stores.valkey.url, keys, stores.lease(keys))
    return Index(mappings, Vectors(stores.milvus.url, embedded=True), collections)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    directory = tmp_path_factory.mktemp("models")
    specs = [load_spec(paths.shipped("models") / f"{name}.yaml") for name in MODELS]
    return {spec.name: prepare(spec, directory / "cache", directory) for spec in specs}


@pytest.fixture(scope="session")
def encoders(models: dict[str, Model]) -> list[Encoder]:
    return load_encoders(models.values(), threads=1)


@pytest.fixture(scope="session")
def texts(models: dict[str, Model]) -> dict[str, TextEncoder]:
    words = models["words"]
    return {words.version: TextEncoder(words, threads=1)}


@pytest.fixture
def directory() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="api-"))
    yield place
    shutil.rmtree(place)
