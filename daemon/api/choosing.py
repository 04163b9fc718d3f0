"""Which models answer a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.api.asking import Question
    from daemon.index.index import Collection, Index

WORDS = "words"
"""The model that an extra of this distribution brings: it is installed, others are pulled."""


class Choice:
    """Chooses among the models of the index.

    A text goes to the first of `text_models` that is there. Where none is, a sentence names `text_candidates`: models that would
    understand it, and whether all that each needs is on this machine.
    """

    def __init__(
        self,
        index: Index,
        understands_text: Callable[[Collection], bool],
        *,
        text_models: Sequence[str],
        text_candidates: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._index = index
        self._understands_text = understands_text
        self._text_models = tuple(text_models)
        self._text_candidates = text_candidates

    def collections(self, question: Question) -> list[Collection]:
        """Return what answers, one collection or more; QueryError where a model is not known, or a text not understood."""
        names = question.models or self._index.models
        for name in names:
            if name not in self._index.models:
                raise QueryError(
                    "unknown_model",
                    f"there is no model {name[:80]}; this library has {', '.join(self._index.models)}",
                )
        answering = [self._index.answering(name) for name in names]
        if question.has_text:
            answering = self._with_text(question, answering)
        return answering if question.models or question.fuse else answering[:1]

    def _with_text(self, question: Question, answering: Sequence[Collection]) -> list[Collection]:
        """Return those that understand text, in the order in which they are preferred; of models that are named, all must."""
        able = [collection for collection in answering if self._understands_text(collection)]
        if not able or (question.models and len(able) < len(answering)):
            raise QueryError("no_text_model", self._nobody_understands(answering))
        if question.models:
            return able
        order = {name: position for position, name in enumerate(self._text_models)}
        return sorted(able, key=lambda collection: order.get(collection.model, len(order)))

    def _nobody_understands(self, asked: Sequence[Collection]) -> str:
        able = [name for name in self._index.models if self._understands_text(self._index.answering(name))]
        if able:
            unable = [collection.model for collection in asked if collection.model not in able]
            return f"{_listed(unable)} cannot be asked by text; ask {_listed(able, 'or')}"
        return f"no model here understands text; {self._advice()} to 'models' in the configuration"

    def _advice(self) -> str:
        candidates = self._text_candidates()
        ready = [name for name, is_ready in candidates.items() if is_ready]
        if ready:
            return f"add {_listed(ready, 'or')}"
        pulled = [name for name in candidates if name != WORDS]
        advice = [f"pull {'one of ' if len(pulled) > 1 else ''}{', '.join(pulled)}"] if pulled else []
        if WORDS in candidates:
            advice.append(f"install the extra text for {WORDS}")
        return f"{', or '.join(advice)}, and add it"


def _listed(names: Sequence[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
