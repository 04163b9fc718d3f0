"""From decoded photos to unit vectors: one graph for the life of the process, and every model that reads it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from daemon.encode.heads import Head
from daemon.encode.inputs import photo_input
from daemon.encode.preprocess import min_side, preprocess
from daemon.encode.providers import CPU
from daemon.encode.session import Session
from daemon.encode.trial import refuse_constant, refuse_disagreement, trial_images
from daemon.instruments import ENCODE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from PIL import Image

    from daemon.encode.models import Model
    from daemon.encode.providers import Provider

# Photos that go through the graph at once. A CPU gains nothing from more, whose feature maps leave its caches: one thread
# encodes 104 photos/s at 1 and at 2, 85 at 4, 73 at 8, and two threads 198, 156, 162, 76 (x86-64, onnxruntime 1.32).
BATCH = 1

Vectors = dict[str, np.ndarray]


def load_encoders(models: Iterable[Model], *, threads: int, provider: Provider = CPU) -> list[Encoder]:
    """Return encoders for all models, one for those that read the same graph and are fed alike.

    ModelError names the first that cannot be used.
    """
    groups: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        groups.setdefault((model.digest, model.spec.input.model_dump_json()), []).append(model)
    return [Encoder(group, threads=threads, provider=provider) for group in groups.values()]


class Encoder:
    """Turns photos into rows of length 1; safe to be called from several threads. A query goes before bulk work.

    Its models have equal digests and equal inputs. A photo goes through the graph once, whatever their number.
    """

    def __init__(self, models: Sequence[Model], *, threads: int, provider: Provider = CPU) -> None:
        """Load the graph and try every model on a few images.

        ModelError names the model whose output cannot be a vector of its spec, is the same for all images, or is another
        than the CPU's.
        """
        first = models[0]
        self._spec = first.spec.input
        self._session = Session(first.spec.name, first.graph, threads=threads, provider=provider)
        self._input = photo_input(self._session, self._spec)
        self._heads = [Head(model, self._session) for model in models]
        self._outputs = list(dict.fromkeys(head.output for head in self._heads))
        self.models = tuple(models)
        self.versions = tuple(model.version for model in models)
        self._names = "+".join(model.spec.name for model in models)
        self._turn = threading.Condition()
        self._queries = 0
        self._encoded = 0
        self._try(threads)

    @property
    def min_side(self) -> int:
        """The pixels that the shorter side of a decoded photo should have: what decode() takes."""
        return min_side(self._spec)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph, as onnxruntime calls it."""
        return self._session.provider

    @property
    def encoded(self) -> int:
        """How many photos encode() has encoded since the start, each once; queries and the trial do not count."""
        return self._encoded

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """Return an RGB photo as one input, without the batch axis: work for the threads that load."""
        return preprocess(image, self._spec)

    def encode(self, inputs: Sequence[np.ndarray] | np.ndarray) -> Vectors:
        """Return, by version, one row for each input, float32 [inputs, dim], each of length 1; ModelError when one cannot be.

        Between batches it waits for queries to end.
        """
        rows = {
            head.model.version: np.empty((len(inputs), head.model.spec.output.dim), np.float32) for head in self._heads
        }
        for start in range(0, len(inputs), BATCH):
            self._wait_for_queries()
            batch = np.asarray(inputs[start : start + BATCH])
            with ENCODE_SECONDS.timed(self._names):
                encoded = self._run(self._session, batch)
            for version, found in encoded.items():
                rows[version][start : start + BATCH] = found
            self._count(len(batch))
        return rows

    def encode_query(self, query: np.ndarray) -> Vectors:
        """Return, by version, the row of one input, float32 [dim], of length 1, ahead of all photos that wait to be encoded."""
        with self._precedence():
            return {version: rows[0] for version, rows in self._run(self._session, query[np.newaxis]).items()}

    def close(self) -> None:
        """Give the graph's memory back; ModelError from encode and encode_query from now on."""
        self._session.close()

    def _run(self, session: Session, batch: np.ndarray) -> Vectors:
        outputs = session.run({self._input: batch}, self._outputs)
        return {head.model.version: head.vectors(outputs[head.output], len(batch)) for head in self._heads}

    def _try(self, threads: int) -> None:
        images = [self.preprocess(image)[np.newaxis] for image in trial_images(self.min_side)]
        found = self._tried(self._session, images)
        for head in self._heads:
            refuse_constant(head.name, found[head.model.version], "photo")
        if self.provider == CPU.execution_provider:
            return
        reference = Session(self._session.name, self.models[0].graph, threads=threads)
        expected = self._tried(reference, images)
        reference.close()
        for head in self._heads:
            refuse_disagreement(head.name, self.provider, found[head.model.version], expected[head.model.version])

    def _tried(self, session: Session, images: Sequence[np.ndarray]) -> Vectors:
        rows = [self._run(session, image) for image in images]
        return {version: np.concatenate([row[version] for row in rows]) for version in self.versions}

    def _wait_for_queries(self) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._queries == 0)

    @contextmanager
    def _precedence(self) -> Iterator[None]:
        with self._turn:
            self._queries += 1
        try:
            yield
        finally:
            with self._turn:
                self._queries -= 1
                self._turn.notify_all()

    def _count(self, photos: int) -> None:
        with self._turn:
            self._encoded += photos
