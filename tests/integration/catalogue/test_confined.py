"""The real process, with graphs of a few bytes that ask for more than there is."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper

from daemon.catalogue.confined import _end, confined
from daemon.catalogue.trials import examined, measured
from daemon.catalogue.wishes import Wishes
from daemon.errors import ModelError, PhotoError
from tests.integration.catalogue.graphs import FEATURES, SIDE, image_graph, installation, model, save, spec_text

if TYPE_CHECKING:
    import onnx

HOSTILE = "forged\n2026-01-01 00:00:00 forged\x1b]0;x\x07\r\u202e"
EXAMINE = "daemon.catalogue.examining:examine"


def ignore(sentence: str) -> None:
    pass


def of_a_constant(side: int) -> onnx.ModelProto:
    """Return a graph that adds to the mean of a photo the mean of side * side ones."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["sides"], ["constant"], value=one),
        helper.make_node("ReduceMean", ["constant"], ["mean"], keepdims=0),
        helper.make_node("GlobalAveragePool", ["pixels"], ["channels"]),
        helper.make_node("Add", ["channels", "mean"], ["y"]),
    ]
    weights = {"sides": np.array([side, side], np.int64)}
    return model(nodes, [("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])], [("y", ["batch", 3, 1, 1])], weights)


def without_an_end() -> onnx.ModelProto:
    """Return a graph with a loop that goes on as long as what is true is true."""
    booleans = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "again", "old", "new")]
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    inner = [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Identity", ["old"], ["new"])]
    body = helper.make_graph(inner, "body", [number, booleans[0], booleans[2]], [booleans[1], booleans[3]])
    nodes = [
        helper.make_node("Loop", ["", "true", "true"], ["end"], body=body),
        helper.make_node("Cast", ["end"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["pixels"], ["channels"]),
        helper.make_node("Add", ["channels", "one"], ["y"]),
    ]
    weights = {"true": np.array(True)}
    return model(nodes, [("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])], [("y", ["batch", 3, 1, 1])], weights)


def test_what_was_examined_elsewhere_comes_back_whole(tmp_path: Path) -> None:
    said: list[str] = []

    addition = examined(save(tmp_path / "m.onnx", image_graph()), Wishes(), tmp_path / "cache", said.append)

    assert (addition.name, addition.files) == ("m", {"m.onnx": tmp_path / "m.onnx"})
    assert said == ["m: reading m.onnx", "m: running it on a few photos"]


def test_a_constant_that_needs_more_memory_than_it_may_have_is_one_sentence(tmp_path: Path) -> None:
    file = save(tmp_path / "m.onnx", of_a_constant(60_000))

    with pytest.raises(ModelError, match="it takes more memory than it may have; use a smaller model"):
        examined(file, Wishes(), tmp_path / "cache", ignore)

    assert examined(save(tmp_path / "m.onnx", of_a_constant(600)), Wishes(), tmp_path / "cache", ignore).name == "m"


def test_a_graph_without_an_end_is_given_up(tmp_path: Path) -> None:
    arguments = (save(tmp_path / "m.onnx", without_an_end()), Wishes(), tmp_path / "cache")
    started = time.monotonic()

    with pytest.raises(ModelError, match="trying it was given up after 3 s without an end; use a smaller model"):
        confined("m", EXAMINE, arguments, ignore, deadline_seconds=3)

    assert time.monotonic() - started < 30


def test_an_error_of_there_is_the_same_here(tmp_path: Path) -> None:
    place = installation(tmp_path)
    place.catalogue.own.mkdir(parents=True)
    graph = save(tmp_path / "m.onnx", image_graph())
    source = {"kind": "file", "path": str(graph)}
    (place.catalogue.own / "m.yaml").write_text(spec_text("m", source), encoding="utf-8")
    spec = place.catalogue.load("m")

    with pytest.raises(PhotoError, match=r"^/nope: there is no such file") as photo:
        measured(spec, place, [Path("/nope")], 1, ignore)

    assert (photo.value.path, photo.value.reason.partition(";")[0]) == ("/nope", "there is no such file or folder")


def test_a_process_that_fails_or_is_killed_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="failed with status 1, for the reason above"):
        confined("m", "json:nothing", (), ignore)
    assert "AttributeError" in capfd.readouterr().err
    assert "the process that did (SIGKILL), as for want of memory" in _end(-signal.SIGKILL, 120)


def test_a_name_in_a_graph_never_reaches_the_terminal_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        # Three numbers a pixel cannot be laid out as two rows, which onnxruntime notices when it runs.
        helper.make_node("Reshape", ["pixels", "shape"], ["odd"], name=HOSTILE),
        helper.make_node("GlobalAveragePool", ["odd"], ["y"], name=f"{HOSTILE}2"),
    ]
    weights = {"shape": np.array([7, 11, 1, 1], np.int64)}
    graph = model(nodes, [("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])], [("y", ["a", "b", 1, 1])], weights)

    with pytest.raises(ModelError) as caught:
        examined(save(tmp_path / "m.onnx", graph), Wishes(), tmp_path / "cache", ignore)

    assert str(caught.value).isprintable()
    assert "forged" in str(caught.value)
    said = capfd.readouterr()
    assert said.out == ""
    assert not set(said.err) & set("\x1b\x07\r")


def test_an_onnx_runtime_in_this_process_says_nothing_past_the_log(tmp_path: Path) -> None:
    # In a process of its own: the libraries of this one may have been told otherwise.
    script = """
import sys, numpy as np
from pathlib import Path
from daemon.encode.session import Session
from daemon.errors import ModelError
session = Session("m", Path(sys.argv[1]), threads=1)
try:
    session.run({"pixels": np.zeros((1, 3, 4, 4), np.float32)}, ["y"])
except ModelError as error:
    print(error)
"""
    nodes = [helper.make_node("Reshape", ["pixels", "shape"], ["y"], name=HOSTILE)]
    weights = {"shape": np.array([7, 11], np.int64)}
    graph = model(nodes, [("pixels", TensorProto.FLOAT, ["batch", 3, 4, 4])], [("y", ["a", "b"])], weights)
    command = [sys.executable, "-c", script, str(save(tmp_path / "m.onnx", graph))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "forged" in done.stdout
    assert done.stdout.removesuffix("\n").isprintable()
    assert done.stderr == ""


def test_a_model_is_measured_elsewhere(tmp_path: Path) -> None:
    place = installation(tmp_path)
    place.catalogue.own.mkdir(parents=True)
    source = {"kind": "file", "path": str(save(tmp_path / "m.onnx", image_graph()))}
    (place.catalogue.own / "m.yaml").write_text(spec_text("m", source), encoding="utf-8")

    found = measured(place.catalogue.load("m"), place, [], 1, ignore)

    assert (found.dim, found.photos, set(found.encoded_per_second)) == (FEATURES, 0, {1})
