"""What the daemon makes of the models that its configuration names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from daemon import main, paths
from daemon.catalogue.catalogue import Catalogue
from daemon.config import load
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "own", paths.shipped("models"))


def prepared(catalogue: Catalogue, *names: str) -> list[Any]:
    return [SimpleNamespace(spec=catalogue.load(name)) for name in names]


@pytest.mark.parametrize(
    ("configured", "preferred"),
    [
        (("efficientnet-lite0", "words"), ["words"]),
        (("words", "clip-vit-b32"), ["clip-vit-b32", "words"]),
        (("words", "siglip2-base", "dinov2-small", "clip-vit-b32"), ["siglip2-base", "clip-vit-b32", "words"]),
        (("efficientnet-lite0",), []),
    ],
)
def test_a_model_that_understands_sentences_takes_texts_over_from_words(
    catalogue: Catalogue, configured: tuple[str, ...], preferred: list[str]
) -> None:
    assert main._by_preference(prepared(catalogue, *configured)) == preferred


def test_models_that_would_understand_texts_are_those_with_a_text_tower(catalogue: Catalogue) -> None:
    assert main._text_candidates(catalogue) == ["clip-vit-b32", "siglip2-base", "words"]


def test_two_models_of_one_name_are_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.yaml"
    copy.write_bytes(catalogue.find("efficientnet-lite0").read_bytes())
    settings = load(None, (tmp_path,), {}, models=("efficientnet-lite0", str(copy)))
    with pytest.raises(ConfigError, match="there are two models called efficientnet-lite0; rename one"):
        main._specs(settings, catalogue)


def test_a_model_that_is_not_there_is_refused_with_those_that_are(catalogue: Catalogue, tmp_path: Path) -> None:
    settings = load(None, (tmp_path,), {}, models=("clip-vit-b16",))
    with pytest.raises(ConfigError, match="there is no model clip-vit-b16; there are clip-vit-b32, dinov2-small, "):
        main._specs(settings, catalogue)
