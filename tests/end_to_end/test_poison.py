"""Photos that would end the daemon: those at which a library raises, and those at which the process itself crashes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PHOTOS, POISONS = 500, 20
FEW, HUNDREDS = 30, 200
LIVES = 6

# Python imports a module of this name before anything else; this one changes what a graph does when it meets one flat colour.
SITECUSTOMIZE = """
import importlib.abc, importlib.util, os, signal, sys, threading, time

import numpy as np

ERRORS = (MemoryError, RecursionError, SystemExit, KeyError, BaseException, DeprecationWarning, FileNotFoundError, ValueError)


def poisoned(run):
    def run_or_not(self, inputs, outputs):
        for array in inputs.values():
            shades = np.ptp(array[0], axis=(1, 2) if array.shape[1] == 3 else (0, 1))
            if not shades.any() and np.ptp(array) > 0.5:
                with open(os.path.join(os.path.dirname(__file__), "how")) as file:
                    how = file.read()
                if how != "raise":
                    signal.pthread_kill(threading.get_ident(), int(how))
                    time.sleep(60)
                raise ERRORS[int(np.ptp(array) * 1000) % len(ERRORS)]("poison")
        return run(self, inputs, outputs)
    return run_or_not


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "daemon.encode.session":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.Session.run = poisoned(module.Session.run)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
"""


def poison(path: Path, shade: int) -> Path:
    Image.new("RGB", (64, 64), (255, shade, 0)).save(path, "PNG")
    return path


def good(folder: Path, count: int) -> list[Path]:
    """Write small photos, each with a content of its own."""
    written = []
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path = folder / f"{seed}.jpg"
        Image.fromarray(pixels).resize((32, 32)).save(path, quality=90)
        written.append(path)
    return written


@pytest.fixture
def poisoned(lookalike: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "how").write_text("raise")
    return lookalike


@pytest.mark.timeout(300)
def test_twenty_poison_photos_among_five_hundred_leave_five_hundred_and_one_daemon(
    poisoned: Any, tmp_path: Path
) -> None:
    good(poisoned.folder, PHOTOS)
    bad = [poison(poisoned.folder / f"poison{n}.jpg", 5 * n) for n in range(POISONS)]
    done = poisoned.once()
    assert done.returncode == 0, done.stderr
    assert f"up to date: {PHOTOS} photos in {PHOTOS} files; {POISONS} could not be read".encode() in done.stderr
    poisoned.start()
    status = poisoned.up_to_date()
    assert (status["photos"], status["failures"]) == (PHOTOS, POISONS)

    code, told, _ = poisoned.asked("failures", "--json")
    assert code == 0
    assert all(path.name in told for path in bad)
    assert told.count('"internal"') == POISONS

    query = poison(tmp_path / "query.png", 7)
    code, _, complaint = poisoned.asked("search", query)
    assert code != 0
    assert "an internal error stopped lookaliked while it encoded the picture" in complaint
    assert "log" not in complaint
    assert len(complaint.strip().splitlines()) == 1
    assert poisoned.stop() == 0


def test_a_picture_of_more_pixels_than_pillow_lets_in_by_itself_is_indexed_and_found(
    lookalike: Any, tmp_path: Path
) -> None:
    side = 9500
    assert side**2 > (Image.MAX_IMAGE_PIXELS or 89_478_485)
    pixels = np.zeros((side, side), dtype=np.uint8)
    pixels[: side // 2] = 255
    for place, flipped in ((lookalike.folder / "large.png", pixels), (tmp_path / "query.png", pixels.T)):
        Image.fromarray(np.ascontiguousarray(flipped)).convert("1").save(place)
    lookalike.start()
    status = lookalike.up_to_date()
    assert (status["photos"], status["failures"]) == (1, 0)
    assert lookalike.holders(lookalike.folder / "large.png") == [str(lookalike.folder / "large.png")]
    assert len(lookalike.search(tmp_path / "query.png")["results"]) == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL], ids=lambda one: one.name)
def test_a_photo_that_crashes_the_process_does_so_twice_and_the_others_are_indexed(
    poisoned: Any, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "how").write_text(str(int(number)))
    good(poisoned.folder, FEW)
    bad = poison(poisoned.folder / "20poison.jpg", 0)
    ends: list[int] = []
    while 0 not in ends and len(ends) < LIVES:
        done = poisoned.once()
        ends.append(done.returncode)
    assert ends == [-number, -number, 0]
    assert f"up to date: {FEW} photos in {FEW} files; 1 could not be read".encode() in done.stderr
    reason = "lookaliked crashed twice while it worked on this photo"
    assert f"{bad} is not indexed: {reason}".encode() in done.stderr
    # It is not tried at every start.
    assert poisoned.once().returncode == 0


@pytest.mark.timeout(300)
def test_a_daemon_that_is_killed_again_and_again_blames_no_photo(lookalike: Any, wait_for: Callable[..., Any]) -> None:
    good(lookalike.folder, HUNDREDS)
    for _ in range(3):
        lookalike.start()
        wait_for(lambda: lookalike.status()["encoded"] > 5 or lookalike.status()["state"] == "up to date")
        assert lookalike.stop(signal.SIGKILL) == -signal.SIGKILL
    lookalike.start()
    status = lookalike.up_to_date()
    assert (status["photos"], status["failures"]) == (HUNDREDS, 0)
    assert os.listdir(lookalike.data_dir / "in_hand")
