"""Pictures of questions: how many are held at once, and for how long."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np

from daemon.api.asking import Picture
from daemon.api.embedding import PICTURES, Embedding
from daemon.index.index import Collection

COLLECTIONS = [Collection(name, name, name, name, 1, "cosine") for name in ("one", "two", "three")]


class Held:
    """Counts the pictures between the decoder and the last encoder that looks at them."""

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._now = 0
        self.most = self.decoded = 0

    def decode(self, *_: Any, **__: Any) -> Any:
        with self._counting:
            self._now += 1
            self.decoded += 1
            self.most = max(self.most, self._now)
        return SimpleNamespace(image=SimpleNamespace(width=1, height=1, left=len(COLLECTIONS)))

    def preprocess(self, image: Any) -> Any:
        time.sleep(0.01)
        image.left -= 1
        with self._counting:
            self._now -= not image.left
        return np.ones(1, np.float32)


class Encoder:
    min_side = 1

    def __init__(self, held: Held, version: str) -> None:
        self.preprocess = held.preprocess
        self._version = version

    def encode_query(self, _: Any) -> Any:
        return {self._version: np.ones(1)}


def test_few_pictures_are_held_at_once_and_each_is_decoded_once_for_all_models() -> None:
    held = Held()
    encoders = {one.version: Encoder(held, one.version) for one in COLLECTIONS}
    search: Any = SimpleNamespace(is_known=lambda _: False)
    embedding = Embedding(SimpleNamespace(), search, encoders, {}, decode=held.decode)  # type: ignore[arg-type]

    def ask(number: int) -> None:
        terms = [embedding.of(Picture(b"%d %d" % (number, one)), "a", COLLECTIONS) for one in range(3)]
        for collection in COLLECTIONS:
            for term in terms:
                term.vector(collection)

    with ThreadPoolExecutor(8) as askers:
        list(askers.map(ask, range(8)))
    assert held.decoded == 8 * 3
    assert held.most <= PICTURES
