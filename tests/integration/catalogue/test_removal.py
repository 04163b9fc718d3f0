from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from daemon.catalogue.adding import add
from daemon.catalogue.examining import examine
from daemon.catalogue.pull import pull
from daemon.catalogue.removal import leftovers, remove
from daemon.catalogue.wishes import Wishes
from daemon.errors import ConfigError
from tests.integration.catalogue.graphs import image_graph, installation, save, sha256, spec_text

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.catalogue.installation import Installation
    from tests.integration.catalogue.conftest import FileServer


def everything(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def pulled(place: Installation, directory: Path, name: str, source: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.yaml").write_text(spec_text(name, source), encoding="utf-8")
    pull(place.catalogue.load(name), place, lambda _: None, lambda *_: None)


def test_what_was_added_goes_and_the_original_stays(tmp_path: Path) -> None:
    place = installation(tmp_path)
    file = save(tmp_path / "from" / "m.onnx", image_graph(), data="m.weights")
    add(examine(file, Wishes(), place.cache_dir), place.catalogue, replace=False)
    prepared = place.prepare(place.catalogue.load("m"))

    found = leftovers("m", place)
    remove(found, place.cache_dir)

    assert found.size > 2 * file.stat().st_size
    assert not prepared.directory.exists()
    assert everything(tmp_path / "config") == []
    assert everything(tmp_path / "from") == ["m.onnx", "m.weights"]


def test_pulled_files_stay_as_long_as_another_spec_needs_them(file_server: FileServer, tmp_path: Path) -> None:
    place = installation(tmp_path)
    content = image_graph().SerializeToString()
    file_server.files["/m.onnx"] = content
    source = {"kind": "url", "url": file_server.url("/m.onnx"), "sha256": sha256(content)}
    pulled(place, place.catalogue.own, "a", source)
    pulled(place, place.catalogue.shipped, "b", source)

    remove(leftovers("a", place), place.cache_dir)
    assert len(everything(place.models_dir)) == 1

    remove(leftovers("b", place), place.cache_dir)
    assert everything(place.models_dir) == []
    assert everything(place.catalogue.shipped) == ["b.yaml"]


def test_what_a_broken_download_left_goes_too(file_server: FileServer, tmp_path: Path) -> None:
    place = installation(tmp_path)
    content = image_graph().SerializeToString()
    file_server.files["/m.onnx"] = content
    pulled(
        place, place.catalogue.own, "a", {"kind": "url", "url": file_server.url("/m.onnx"), "sha256": sha256(content)}
    )
    graph = next(place.models_dir.rglob("m.onnx"))
    graph.rename(graph.with_name("m.onnx.part"))

    remove(leftovers("a", place), place.cache_dir)

    assert everything(place.models_dir) == []


def test_a_broken_spec_can_be_removed(tmp_path: Path) -> None:
    place = installation(tmp_path)
    place.catalogue.own.mkdir(parents=True)
    (place.catalogue.own / "m.yaml").write_text("name: m\n", encoding="utf-8")

    remove(leftovers("m", place), place.cache_dir)

    assert everything(tmp_path) == []


def test_of_a_model_without_a_spec_what_was_prepared_goes(tmp_path: Path) -> None:
    place = installation(tmp_path)
    add(examine(save(tmp_path / "m.onnx", image_graph()), Wishes(), place.cache_dir), place.catalogue, replace=False)
    prepared = place.prepare(place.catalogue.load("m"))
    (place.catalogue.own / "m.yaml").unlink()

    found = leftovers("m", place)
    remove(found, place.cache_dir)

    assert (found.known, found.versions) == (False, (prepared.version,))
    assert not prepared.directory.exists()


def test_a_model_whose_name_begins_alike_is_left_alone(tmp_path: Path) -> None:
    place = installation(tmp_path)
    for name in ("m", "m-large"):
        wishes = Wishes(name=name)
        add(examine(save(tmp_path / "m.onnx", image_graph()), wishes, place.cache_dir), place.catalogue, replace=False)
        place.prepare(place.catalogue.load(name))

    remove(leftovers("m", place), place.cache_dir)

    assert place.catalogue.load("m-large").name == "m-large"
    assert [path.name for path in place.catalogue.own.iterdir() if path.is_dir()] == ["m-large"]
    assert len(list((place.cache_dir / "models").glob("m-large-*"))) == 1


def both(place: Installation, directory: Path) -> Installation:
    """Return an installation with a shipped model m that is configured, and one of the user's that stands before it."""
    place.catalogue.shipped.mkdir(parents=True)
    source = {"kind": "url", "url": "https://example.org/m.onnx", "sha256": "0" * 64}
    (place.catalogue.shipped / "m.yaml").write_text(spec_text("m", source), encoding="utf-8")
    add(examine(save(directory / "m.onnx", image_graph()), Wishes(), place.cache_dir), place.catalogue, replace=True)
    return dataclasses.replace(place, configured=("m",))


def test_one_that_stands_before_a_shipped_one_gives_its_name_back(tmp_path: Path) -> None:
    place = both(installation(tmp_path), tmp_path)
    prepared = place.prepare(place.catalogue.load("m"))

    found = leftovers("m", place)
    remove(found, place.cache_dir)

    assert (found.configured, found.uncovers) == (True, True)
    assert place.catalogue.find("m").parent == place.catalogue.shipped
    assert everything(place.catalogue.own) == []
    # It answers until the shipped one is complete.
    assert prepared.directory.exists()
    assert not leftovers("m", place).uncovers


def test_a_path_stands_for_the_model_whose_spec_is_there(tmp_path: Path) -> None:
    place = installation(tmp_path)
    add(examine(save(tmp_path / "m.onnx", image_graph()), Wishes(), place.cache_dir), place.catalogue, replace=False)
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(spec_text("other", {"kind": "file", "path": str(tmp_path / "m.onnx")}), encoding="utf-8")
    prepared = place.prepare(place.catalogue.load(str(elsewhere)))

    remove(leftovers(str(elsewhere), place), place.cache_dir)
    assert (elsewhere.exists(), prepared.directory.exists()) == (True, False)

    assert leftovers(str(place.catalogue.own / "m.yaml"), place) == leftovers("m", place)


@pytest.mark.parametrize("name", ["", "/nope/m.yaml"])
def test_a_name_of_nothing_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        leftovers(name, installation(tmp_path))


@pytest.mark.parametrize("name", ["..", ".", "*", "**", "[", "M"])
def test_a_name_that_no_model_can_have_means_no_file(tmp_path: Path, name: str) -> None:
    place = both(installation(tmp_path), tmp_path)
    (place.catalogue.own / "M").mkdir()

    assert (leftovers(name, place).paths, leftovers(name, place).versions) == ((), ())


def test_of_a_spec_that_was_deleted_by_hand_the_copies_go_too(tmp_path: Path) -> None:
    place = installation(tmp_path)
    add(examine(save(tmp_path / "m.onnx", image_graph()), Wishes(), place.cache_dir), place.catalogue, replace=False)
    (place.catalogue.own / "m.yaml").unlink()

    remove(leftovers("m", place), place.cache_dir)

    assert everything(place.catalogue.own) == []
