from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.catalogue.catalogue import Catalogue
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """
name: {name}
licence: MIT
source: {{kind: file, path: model.onnx}}
input: {{preset: torchvision}}
output: {{pooling: none, dim: {dim}}}
metric: cosine
"""


def write(path: Path, name: str, dim: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SPEC.format(name=name, dim=dim), encoding="utf-8")
    return path


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    write(tmp_path / "shipped" / "a.yaml", "a")
    write(tmp_path / "shipped" / "b.yaml", "b")
    return Catalogue(tmp_path / "own", tmp_path / "shipped")


def test_a_spec_of_the_users_stands_before_a_shipped_one(catalogue: Catalogue) -> None:
    own = write(catalogue.own / "a.yaml", "a", dim=7)

    assert catalogue.find("a") == own
    assert [(entry.name, entry.own) for entry in catalogue.entries()] == [("a", True), ("b", False)]
    assert catalogue.load("a").output.dim == 7


def test_what_there_is_is_named_where_a_name_is_unknown(catalogue: Catalogue) -> None:
    write(catalogue.own / "mine.yaml", "mine")

    with pytest.raises(ConfigError, match="there is no model c; there are a, b, mine, and a path names a spec"):
        catalogue.find("c")


def test_a_name_with_a_separator_is_a_path(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert catalogue.find("~/a.yaml") == tmp_path / "a.yaml"


def test_a_broken_spec_is_listed_with_its_problem_and_costs_no_other(catalogue: Catalogue) -> None:
    write(catalogue.own / "broken.yaml", "broken").write_text("name: broken\nmetric: far\n", encoding="utf-8")

    entries = {entry.name: entry for entry in catalogue.entries()}

    assert list(entries) == ["a", "b", "broken"]
    assert entries["broken"].spec is None
    assert "At 'metric' (line 2)" in entries["broken"].problem
    assert entries["a"].spec is not None


def test_a_spec_in_the_catalogue_bears_the_name_of_its_file(catalogue: Catalogue, tmp_path: Path) -> None:
    write(catalogue.own / "c.yaml", "d")

    with pytest.raises(ConfigError, match=r"its name is d; call the file d\.yaml, or write 'name: c' into it"):
        catalogue.load("c")
    assert catalogue.load(str(write(tmp_path / "elsewhere.yaml", "d"))).name == "d"


def test_directories_that_are_not_there_hold_nothing(tmp_path: Path) -> None:
    assert Catalogue(tmp_path / "a", tmp_path / "b").entries() == []


def test_an_empty_name_is_one_sentence(catalogue: Catalogue) -> None:
    with pytest.raises(ConfigError, match="no model is named"):
        catalogue.find("")


def test_only_a_shipped_spec_of_a_file_waits_for_one(catalogue: Catalogue) -> None:
    url = "{kind: url, url: 'https://example.org/b.onnx', sha256: " + "a" * 64 + "}"
    text = SPEC.format(name="b", dim=3).replace("{kind: file, path: model.onnx}", url)
    (catalogue.shipped / "b.yaml").write_text(text, encoding="utf-8")

    waiting = catalogue.to_be_made("a")

    assert waiting is not None
    assert waiting.name == "a"
    assert (catalogue.to_be_made("b"), catalogue.to_be_made("c")) == (None, None)
    assert (catalogue.shadowed("b"), catalogue.shadowed("c")) == (catalogue.shipped / "b.yaml", None)
