"""Which collections a library has: one for each model, and one more while a changed model is built behind it."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.index.mappings import Mappings
    from daemon.index.vectors import Vectors

log = logging.getLogger(__name__)

FINGERPRINT = re.compile(r"[0-9a-f]+")
"""How the name of a collection ends, behind its alias."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the vectors of one version of a model live."""

    model: str
    version: str
    """What tells the model from itself before a change: vectors of two versions cannot be compared."""
    name: str
    alias: str
    """What leads to the collection that answers for the model."""
    dim: int
    metric: str


class Encoders(Protocol):
    """What encodes for the versions of the models."""

    def revive(self, version: str) -> bool:
        """Make an earlier version encode again; False where its files are gone."""

    def release(self, version: str) -> None:
        """Let go of a version that is of no use any more."""


class Versions:
    """The collections of one library, those of the configured models in their order.

    The alias of a model leads to the collection that answers for it, and so says after a restart whether a changed model is
    complete. Until it is, every photo is written to both. Where the earlier version cannot encode any more, the new one answers
    as far as it has come.
    """

    def __init__(
        self, mappings: Mappings, vectors: Vectors, current: Sequence[Collection], encoders: Encoders | None
    ) -> None:
        self._mappings = mappings
        self._vectors = vectors
        self._encoders = encoders
        self.current = tuple(current)
        self.earlier: tuple[Collection, ...] = ()

    @property
    def all(self) -> tuple[Collection, ...]:
        """Every collection that is written to."""
        return self.current + self.earlier

    def answering(self, model: str) -> Collection:
        """Return the collection that answers for a model; KeyError when it is not configured."""
        for collection in (*self.earlier, *self.current):
            if collection.model == model:
                return collection
        raise KeyError(model)

    def establish(self) -> None:
        """Make, load and record the collections, and find out which versions are still being replaced."""
        recorded = self._mappings.collections()
        earlier: list[Collection] = []
        for one in self.current:
            # Before it is made: what nobody knows of would stay for ever.
            self._mappings.record(one)
            self._vectors.ensure(one.name, dim=one.dim, metric=one.metric)
            before = self._answered_so_far(one, recorded)
            if before is not None:
                # An emptied mapping had it no more: it is recorded, or dropped below.
                recorded[before.name] = before
            if before is not None and self._can_go_on(before):
                self._mappings.record(before)
                self._vectors.ensure(before.name, dim=before.dim, metric=before.metric)
                self._vectors.point(one.alias, before.name)
                earlier.append(before)
            else:
                self._vectors.point(one.alias, one.name)
        self.earlier = tuple(earlier)
        kept, models = {one.name for one in self.all}, {one.model for one in self.current}
        for collection in recorded.values():
            if collection.model in models and collection.name not in kept:
                self._drop(collection)

    def _answered_so_far(self, current: Collection, recorded: dict[str, Collection]) -> Collection | None:
        """Return the earlier version that has answered for a model, by its alias, whatever either store has lost."""
        name = self._vectors.target(current.alias)
        if name is None:
            # The list of aliases was lost: the version that knows most.
            others = [one for one in recorded.values() if one.model == current.model and one.name != current.name]
            return max(others, key=lambda one: self._mappings.count_encoded(one.name), default=None)
        if name == current.name:
            return None
        return recorded.get(name) or self._read(current, name)

    def _read(self, current: Collection, name: str) -> Collection | None:
        """Return what an emptied mapping has recorded of a collection that was made for another version of a model."""
        fingerprint = name.removeprefix(f"{current.alias}_")
        described = self._vectors.described(name)
        if described is None or not FINGERPRINT.fullmatch(fingerprint):
            return None
        dim, metric = described
        return replace(current, version=f"{current.model}-{fingerprint}", name=name, dim=dim, metric=metric)

    def _can_go_on(self, before: Collection) -> bool:
        return self._encoders is not None and self._encoders.revive(before.version)

    def replace(self, earlier: Collection) -> None:
        """Let the current version of a model answer, and drop the earlier one."""
        current = next(one for one in self.current if one.model == earlier.model)
        self._vectors.point(current.alias, current.name)
        self.earlier = tuple(one for one in self.earlier if one != earlier)
        self._drop(earlier)

    def retired(self) -> list[Collection]:
        """Return the collections of models that are no longer configured."""
        models = {one.model for one in self.current}
        return [one for one in self._mappings.collections().values() if one.model not in models]

    def free(self, model: str) -> list[Collection]:
        """Drop the collections of a model that is not configured, and return them."""
        freed = [one for one in self.retired() if one.model == model]
        for collection in freed:
            self._vectors.unpoint(collection.alias)
            self._drop(collection)
        return freed

    def _drop(self, collection: Collection) -> None:
        log.debug("dropping %s", collection.name)
        self._vectors.drop(collection.name)
        if self._encoders is not None:
            self._encoders.release(collection.version)
        # Last: what is recorded is dropped again after a crash.
        self._mappings.forget_collection(collection.name)


def fields(collection: Collection) -> dict[str, object]:
    """Return what is recorded of a collection beside its name."""
    described = asdict(collection)
    del described["name"]
    return described
