from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from daemon.catalogue import measure as module
from daemon.catalogue import samples
from daemon.catalogue.adding import add
from daemon.catalogue.examining import examine
from daemon.catalogue.measure import measure
from daemon.catalogue.wishes import Wishes
from daemon.errors import PhotoError
from tests.integration.catalogue.graphs import FEATURES, image_graph, installation, save

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.encode.models import Model


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEASURED_SECONDS", 0.05)


def model(directory: Path, metric: str = "cosine") -> Model:
    place = installation(directory)
    wishes = Wishes(preset="siglip", metric=metric)
    add(examine(save(directory / "m.onnx", image_graph()), wishes, place.cache_dir), place.catalogue, replace=False)
    return place.prepare(place.catalogue.load("m"))


def photo(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), colour).save(path)
    return path


def test_a_model_is_measured_without_a_photo(tmp_path: Path) -> None:
    measured = measure(model(tmp_path), [], threads=2, max_pixels=10**8)

    assert (measured.dim, measured.metric, measured.provider) == (FEATURES, "cosine", "CPUExecutionProvider")
    assert measured.norm == pytest.approx(1, abs=1e-6)
    assert set(measured.encoded_per_second) == set(measured.photos_per_second) == {1, 2}
    assert min(measured.encoded_per_second.values()) > 0
    assert measured.memory_after >= measured.memory_before > 1_000_000
    assert (measured.photos, measured.neighbours, measured.text_seconds) == (0, {}, None)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_nearest_of_the_given_photos_come_first(tmp_path: Path, metric: str) -> None:
    red = photo(tmp_path / "photos" / "red.png", (250, 0, 0))
    blue = photo(tmp_path / "photos" / "deep" / "blue.png", (0, 0, 250))
    orange = photo(tmp_path / "photos" / "orange.png", (250, 40, 0))
    (tmp_path / "photos" / "notes.txt").write_bytes(b"no photo")

    measured = measure(model(tmp_path, metric), [tmp_path / "photos"], threads=1, max_pixels=10**8)

    assert measured.photos == 3
    assert [one.path for one in measured.neighbours[str(red)]] == [str(orange), str(blue)]
    scores = [one.score for one in measured.neighbours[str(red)]]
    assert scores == sorted(scores, reverse=metric == "cosine")
    assert measured.neighbours[str(orange)][0].score == pytest.approx(scores[0])


def test_of_many_photos_some_are_taken_and_the_first_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_PHOTOS", 8)
    for n in range(12):
        photo(tmp_path / "photos" / f"{n:02}.png", (20 * n, 255 - 20 * n, 99))

    measured = measure(model(tmp_path), [tmp_path / "photos"], threads=1, max_pixels=10**8)

    assert (measured.photos, len(measured.neighbours)) == (8, 5)


def test_a_photo_that_cannot_be_read_is_said_and_costs_no_other(tmp_path: Path) -> None:
    good = photo(tmp_path / "good.png", (1, 2, 3))
    (tmp_path / "bad.jpg").write_bytes(b"nothing")

    measured = measure(
        model(tmp_path), [tmp_path / "bad.jpg", tmp_path / "missing.jpg", good], threads=1, max_pixels=10**8
    )

    assert measured.photos == 1
    assert [sentence.partition(": ")[0] for sentence in sorted(measured.unreadable)] == [
        str(tmp_path / "bad.jpg"),
        str(tmp_path / "missing.jpg"),
    ]


def test_a_folder_without_photos_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(PhotoError, match="there is no photo that can be read"):
        measure(model(tmp_path), [tmp_path / "empty"], threads=1, max_pixels=10**8)


def test_a_path_that_leads_nowhere_or_to_a_pipe_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    tried = model(tmp_path)

    for name, reason in (("nope", "there is no such file or folder"), ("pipe.jpg", "it is not a regular file")):
        with pytest.raises(PhotoError, match=rf"^{tmp_path / name}: {reason}"):
            measure(tried, [tmp_path / name], threads=1, max_pixels=10**8)


def test_each_step_is_said_before_it_is_done(tmp_path: Path) -> None:
    said: list[str] = []

    measure(model(tmp_path), [], threads=2, max_pixels=10**8, say=said.append)

    assert said[0] == "m: loading it"
    assert "m: encoding photo 8 of 8" in said
    assert said[-1] == "m: measuring decoding and encoding on 2 threads"


def test_memory_is_that_of_this_process() -> None:
    size = 64_000_000
    before = module._resident_bytes()
    # Straight from the kernel: a heap may have room that was resident before.
    with mmap.mmap(-1, size) as held:
        held.write(b"1" * size)
        assert module._resident_bytes() - before > 0.9 * size
