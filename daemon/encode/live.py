"""The models that encode now."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from daemon.encode.encoder import load_encoders
from daemon.encode.models import discard, prepared
from daemon.encode.text import TextEncoder
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from daemon.encode.encoder import Encoder
    from daemon.encode.models import Model
    from daemon.encode.providers import Provider

log = logging.getLogger(__name__)

# One thread a call and as many calls at once as there are threads: with other work on the machine, faster than one call that is
# waited for by several threads.
THREADS = 1


class LiveModels:
    """What encodes photos and texts, by the model's version. May be read from any thread; revived and released is one at a time."""

    def __init__(self, models: Sequence[Model], cache_dir: Path, provider: Provider) -> None:
        """Load the models; ModelError when one cannot be used."""
        self._cache_dir = cache_dir
        self._provider = provider
        self._encoders: dict[str, Encoder] = {}
        self._texts: dict[str, TextEncoder] = {}
        self._load(models)

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """Every encoder once; one may serve several models."""
        return tuple(dict.fromkeys(tuple(self._encoders.values())))

    @property
    def by_version(self) -> Mapping[str, Encoder]:
        return self._encoders

    @property
    def texts(self) -> Mapping[str, TextEncoder]:
        """What encodes texts, for the models that understand them."""
        return self._texts

    def revive(self, version: str) -> bool:
        """Make an earlier version encode again; False where its files are gone, or of no use any more."""
        if version in self._encoders:
            return True
        try:
            model = prepared(self._cache_dir, version)
            if model is None:
                return False
            self._load([model])
        except ModelError as error:
            log.warning("the earlier version of a model cannot go on answering: %s", error, extra={"model": error.name})
            return False
        return True

    def release(self, version: str) -> None:
        """Let go of a version; work that is under way with it still ends."""
        self._encoders.pop(version, None)
        self._texts.pop(version, None)
        try:
            discard(self._cache_dir, version)
        except ModelError as error:
            log.warning("an earlier version of a model leaves its files behind: %s", error, extra={"model": error.name})

    def _load(self, models: Sequence[Model]) -> None:
        loaded = load_encoders(models, threads=THREADS, provider=self._provider)
        texts = {model.version: TextEncoder(model, threads=THREADS) for model in models if model.text_graph}
        self._encoders.update((version, one) for one in loaded for version in one.versions)
        self._texts.update(texts)
