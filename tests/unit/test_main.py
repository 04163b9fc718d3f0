"""What the daemon makes of the models that its configuration names."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from daemon import life, main, paths
from daemon.catalogue.catalogue import Catalogue
from daemon.errors import ConfigError


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
    assert life._by_preference(prepared(catalogue, *configured)) == preferred


def test_models_that_would_understand_texts_are_those_with_a_text_tower(catalogue: Catalogue, tmp_path: Path) -> None:
    candidates = life._text_candidates(catalogue, tmp_path)
    assert candidates == {"clip-vit-b32": False, "siglip2-base": False, "words": True}


def test_all_that_keeps_the_daemon_from_starting_is_said_at_once(catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "lookalike.yaml"
    file.write_text("flavour: mild\nmodels:\n- clip-vit-b16\n- efficientnet-lite9\n")
    with pytest.raises(ConfigError) as caught:
        main._settings(file, (tmp_path / "nowhere",), (), catalogue)
    assert caught.value.source == str(file)
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "At 'flavour' (line 1): this key is not known",
        "At 'models[0]' (line 3): there is no model clip-vit-b16",
        "At 'models[1]' (line 4): there is no model efficientnet-lite9",
        f"On the command line: {tmp_path}/nowhere does not exist",
    ]


def test_a_reload_takes_up_no_variable_that_was_not_there_at_the_start(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "lookalike.yaml"
    file.write_text(f"folders: ['{tmp_path}']\n")
    given = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
    # As a library does that loads a .env file.
    monkeypatch.setenv("LOOKALIKE_REDIS_URL", "redis://attacker/0")
    monkeypatch.setenv("LOOKALIKE_DATA_DIR", "/nonexistent")
    again = main._settings_again(file, (), (), catalogue, given)
    assert again.redis.url is None
    assert again.data_dir != Path("/nonexistent")
    assert main._settings_again(file, (), (), catalogue, {**given, "LOOKALIKE_REDIS_URL": "redis://own/0"}).redis.url


def checked(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the exit status of check-config, and what it said of the file."""
    file = tmp_path / "lookalike.yaml"
    file.write_text(text)
    try:
        main.check_config(file)
    except typer.Exit as end:
        return end.exit_code, capsys.readouterr().err
    return 0, capsys.readouterr().out.removeprefix(f"{file} ").rstrip()


def test_a_good_file_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"models: [words]\nfolders: ['{tmp_path}']\ndata_dir: /var/lib/x\n"
    assert checked(text, tmp_path, capsys) == (0, "is good: 1 folder, model words")
    two = "models: [efficientnet-lite0, words]"
    said = "is good: folders from the command line alone, models efficientnet-lite0, words"
    assert checked(two, tmp_path, capsys) == (0, said)


def test_a_file_that_only_lacks_folders_is_checked_in_all_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = checked("models: [clip-vit-b16]\nsearch: {limit: 2000}\n", tmp_path, capsys)
    assert status == 78
    assert "At 'search.limit' (line 2)" in said
    assert "At 'models[0]' (line 1): there is no model clip-vit-b16" in said
    assert "no folder" not in said
