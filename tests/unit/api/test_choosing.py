"""Which models answer, by what is asked."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.api.asking import Photo, Question, Term, Text
from daemon.api.choosing import Choice
from daemon.errors import QueryError
from daemon.index.index import Collection

ALL = ("lite", "dino", "words", "clip")


class Models:
    """An index, as far as it says which models there are."""

    def __init__(self, *names: str) -> None:
        self.models = names

    def answering(self, model: str) -> Collection:
        return Collection(model=model, version=f"{model}-1", name=f"l_{model}", alias=model, dim=8, metric="cosine")


def choose(
    names: tuple[str, ...], question: Question, *, able: frozenset[str] = frozenset({"words", "clip"})
) -> list[str]:
    index: Any = Models(*names)
    choice = Choice(
        index,
        lambda collection: collection.model in able,
        text_models=("siglip", "clip", "words"),
        text_candidates=lambda: dict.fromkeys(("clip", "siglip", "words"), False),
    )
    return [collection.model for collection in choice.collections(question)]


def image(*models: str, fuse: bool = False) -> Question:
    return Question("id", (Term(Photo(1)),), 10, models, fuse)


def text(*models: str, fuse: bool = False) -> Question:
    return Question("terms", (Term(Photo(1)), Term(Text("at night"))), 10, models, fuse)


def test_an_image_goes_to_the_first_model_and_a_text_to_the_one_that_is_best_at_it() -> None:
    assert choose(ALL, image()) == ["lite"]
    assert choose(ALL, text()) == ["clip"]
    assert choose(("lite", "words"), text()) == ["words"]


def test_a_model_for_text_that_nobody_has_heard_of_is_better_than_none() -> None:
    assert choose(("lite", "mine"), text(), able=frozenset({"mine"})) == ["mine"]
    assert choose(("lite", "mine", "words"), text(), able=frozenset({"mine", "words"})) == ["words"]


def test_models_that_are_named_answer_in_the_order_of_their_names() -> None:
    assert choose(ALL, image("dino", "lite")) == ["dino", "lite"]
    assert choose(ALL, text("words", "clip")) == ["words", "clip"]


def test_a_fusion_takes_all_models_that_can_answer() -> None:
    assert choose(ALL, image(fuse=True)) == list(ALL)
    assert choose(ALL, text(fuse=True)) == ["clip", "words"]
    assert choose(ALL, image("dino", fuse=True)) == ["dino"]


@pytest.mark.parametrize(
    ("names", "question", "code", "said"),
    [
        (ALL, image("vgg"), "unknown_model", "there is no model vgg; this library has lite, dino, words, clip"),
        (ALL, text("lite"), "no_text_model", "lite cannot be asked by text; ask words or clip"),
        (
            ALL,
            text("lite", "clip", "dino"),
            "no_text_model",
            "lite and dino cannot be asked by text; ask words or clip",
        ),
        (
            ("lite",),
            text(),
            "no_text_model",
            (
                "no model here understands text; pull one of clip, siglip, or install the extra text for words,"
                " and add it to 'models' in the configuration"
            ),
        ),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    names: tuple[str, ...], question: Question, code: str, said: str
) -> None:
    with pytest.raises(QueryError) as caught:
        choose(names, question)
    assert (caught.value.code, str(caught.value)) == (code, said)


@pytest.mark.parametrize(
    ("candidates", "advice"),
    [
        ({"clip": False}, "pull clip, and add it"),
        ({"words": False}, "install the extra text for words, and add it"),
        ({"clip": False, "words": False}, "pull clip, or install the extra text for words, and add it"),
        ({"clip": False, "words": True}, "add words"),
        ({"clip": True, "words": True}, "add clip or words"),
    ],
)
def test_the_advice_names_what_is_there_and_else_what_is_to_be_had(candidates: dict[str, bool], advice: str) -> None:
    index: Any = Models("lite")
    choice = Choice(index, lambda _: False, text_models=(), text_candidates=lambda: candidates)

    with pytest.raises(QueryError, match="understands text") as caught:
        choice.collections(text())
    assert str(caught.value) == f"no model here understands text; {advice} to 'models' in the configuration"
