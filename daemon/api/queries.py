"""Questions: from images, texts and what is made of them to the photos that are like it."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from daemon.api import schema
from daemon.api.arithmetic import combined
from daemon.api.choosing import Choice
from daemon.api.embedding import Embedding
from daemon.api.fusion import fused
from daemon.errors import QueryError, StoreUnavailable
from daemon.index.tally import Counting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from daemon.api.asking import Question
    from daemon.api.embedding import Embedded, QueryEncoder, TextEncoder
    from daemon.encode.images import Decode
    from daemon.index.index import Collection, Index
    from daemon.index.search import Result, Search

RRF = "rrf"
FETCHED = 16_384
"""How many vectors are fetched at most to make up for those that may not be shown: as many as Milvus returns at once."""
RRF_DEPTH = 100
"""So many photos of each model are fused at least: one that two models rank below the limit may come above it."""


class Queries:
    """Answers one question at a time for any number of threads. Raises QueryError, ModelError, or StoreUnavailable.

    `encoders` and `texts` encode images and texts, by the version of their model.
    """

    def __init__(
        self,
        index: Index,
        search: Search,
        encoders: Mapping[str, QueryEncoder],
        texts: Mapping[str, TextEncoder],
        is_unverified: Callable[[str], bool],
        *,
        text_models: Sequence[str],
        text_candidates: Callable[[], Mapping[str, bool]],
        max_limit: int,
        decode: Decode,
        counting: Counting | None = None,
    ) -> None:
        """Without `counting`, every photo of the index counts."""
        self._counting = counting or Counting(index)
        self._index = index
        self._search = search
        self._is_unverified = is_unverified
        self._max_limit = max_limit
        self._most = max(max_limit, FETCHED)
        self._embedding = Embedding(index, search, encoders, texts, decode=decode)
        self._choice = Choice(
            index, self._embedding.understands_text, text_models=text_models, text_candidates=text_candidates
        )

    def answer(self, question: Question) -> schema.SearchAnswer:
        """Return the photos that are most like what is asked for, best first."""
        versions = self._index.collections
        try:
            return self._answer(question)
        except StoreUnavailable:
            if self._index.collections == versions:
                raise
            # A changed model took over meanwhile, and the collection of its earlier version went.
            return self._answer(question)

    def _answer(self, question: Question) -> schema.SearchAnswer:
        started = time.perf_counter()
        if not 1 <= question.limit <= self._max_limit:
            raise QueryError(
                "bad_request",
                f"the limit must be between 1 and {self._max_limit} (search.max_limit in the configuration)",
            )
        collections = self._choice.collections(question)
        terms = [
            self._embedding.of(term.what, "the query" if len(question.terms) == 1 else f"term {number}", collections)
            for number, term in enumerate(question.terms, start=1)
        ]
        asked = terms[0].photo if question.lone else None
        vectors = [_query_vector(question, terms, collection) for collection in collections]
        is_fused = question.fuse or len(collections) > 1
        results = (
            self._fused(collections, vectors, question.limit, asked)
            if is_fused
            else self._nearest(collections[0], vectors[0], question.limit, asked)
        )
        return schema.SearchAnswer(
            model="+".join(collection.model for collection in collections),
            metric=RRF if is_fused else collections[0].metric,
            query=schema.Query(by=question.by, id=_id_of(asked, results)),
            models=self._answered(collections),
            took_ms=round(1000 * (time.perf_counter() - started), 1),
            results=results,
        )

    def _nearest(
        self, collection: Collection, vector: NDArray[np.float32], limit: int, asked: int | None
    ) -> list[schema.Result]:
        found = self._search.nearest(collection, vector, limit, most=self._most, asked=asked)
        return [self._result(result, result.score) for result in found]

    def _fused(
        self, collections: Sequence[Collection], vectors: Sequence[NDArray[np.float32]], limit: int, asked: int | None
    ) -> list[schema.Result]:
        depth = min(max(RRF_DEPTH, 2 * limit), self._max_limit)
        found = {
            collection.model: self._search.nearest(collection, vector, depth, most=self._most, asked=asked)
            for collection, vector in zip(collections, vectors, strict=True)
        }
        by_id = {result.id: result for results in found.values() for result in results}
        ranking = fused({model: [result.id for result in results] for model, results in found.items()})
        return [self._result(by_id[one.id], one.score, one.ranks) for one in ranking[:limit]]

    def _answered(self, collections: Sequence[Collection]) -> list[schema.Answered]:
        tally = self._counting()
        return [
            schema.Answered(
                name=collection.model,
                metric=collection.metric,
                photos=tally.encoded.get(collection.name, 0),
                of=tally.photos,
            )
            for collection in collections
        ]

    def _result(self, result: Result, score: float, ranks: Mapping[str, int] = MappingProxyType({})) -> schema.Result:
        return schema.Result(
            score=round(score, 6),
            id=str(result.id),
            paths=result.paths,
            unverified=[path for path in result.paths if self._is_unverified(path)],
            width=result.photo.width,
            height=result.photo.height,
            format=result.photo.format,
            taken_at=result.photo.taken_at,
            bytes=result.photo.bytes,
            ranks=dict(ranks),
        )


def _id_of(asked: int | None, results: Sequence[schema.Result]) -> str | None:
    """Return the id of the photo asked about, by what the answer shows: since it was looked up, its last file may have gone."""
    return results[0].id if results and results[0].id == str(asked) else None


def _query_vector(question: Question, terms: Sequence[Embedded], collection: Collection) -> NDArray[np.float32]:
    rows = [term.vector(collection) for term in terms]
    if question.lone:
        return rows[0]
    vector = combined(rows, [term.weight for term in question.terms])
    if vector is None:
        raise QueryError("bad_request", "the terms cancel each other out, and nothing is left to be compared")
    return vector
