"""Execution providers over the real runtime: verified, compared with the CPU, and replaced by it only where that is allowed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from PIL import Image

from daemon.encode.encoder import Encoder, load_encoders
from daemon.encode.providers import PROVIDERS, Provider
from daemon.encode.session import Session
from daemon.encode.trial import refuse_disagreement, trial_images
from daemon.errors import ModelError
from tests.integration.encode.small_models import graph_of, small_model

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.encode.models import Model

AVAILABLE = onnxruntime.get_available_providers()
REMOTE = "AzureExecutionProvider"


def has(name: str) -> bool:
    return PROVIDERS[name].execution_provider in AVAILABLE


absent = pytest.mark.parametrize("name", [name for name in PROVIDERS if not has(name)])


@absent
def test_a_provider_that_this_onnxruntime_lacks_is_refused_with_what_to_install(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError) as refused:
        load_encoders([small_model(tmp_path)], threads=1, provider=Provider(name))
    assert f"has no provider {name}, only " in refused.value.reason
    assert f"install {PROVIDERS[name].package}" in refused.value.reason
    assert "cpu" in refused.value.reason


@absent
def test_the_cpu_stands_in_for_a_provider_where_that_is_allowed_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.WARNING):
        encoder = Encoder([small_model(tmp_path)], threads=1, provider=Provider(name, allow_fallback=True))
    assert encoder.provider == "CPUExecutionProvider"
    assert f"small runs with cpu in the place of {name}: this onnxruntime has no provider {name}" in caplog.text
    assert len(encoder.encode([encoder.preprocess(Image.new("RGB", (20, 20), (9, 0, 0)))])) == 1


def test_a_graph_that_no_provider_can_load_is_no_fallback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    name = next(name for name in PROVIDERS if not has(name))
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be loaded"):
        Session("broken", tmp_path / "broken.onnx", threads=1, provider=Provider(name, allow_fallback=True))
    assert caplog.text == ""


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_a_provider_that_leaves_the_graph_to_another_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A CUDA build on a machine without a driver lists the provider, and makes sessions that the CPU runs; so does this."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", *AVAILABLE])
    model = small_model(tmp_path)
    with pytest.raises(ModelError, match="CPUExecutionProvider runs it where cuda is configured"):
        Session("small", model.graph, threads=1, provider=Provider("cuda"))
    session = Session("small", model.graph, threads=1, provider=Provider("cuda", allow_fallback=True))
    assert session.provider == "CPUExecutionProvider"
    assert "small runs with cpu in the place of cuda: CPUExecutionProvider runs it" in caplog.text


@pytest.mark.skipif(REMOTE not in AVAILABLE, reason=f"this onnxruntime has no {REMOTE}")
def test_a_provider_that_runs_no_part_of_a_graph_is_noticed_although_the_session_names_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It stands for one that supports none of the graph's operators: it runs its own, and nothing else.
    monkeypatch.setitem(PROVIDERS, "cuda", PROVIDERS["cuda"]._replace(execution_provider=REMOTE))
    model = small_model(tmp_path)
    plain = onnxruntime.InferenceSession(model.graph, providers=[REMOTE])
    assert plain.get_providers()[0] == REMOTE
    with pytest.raises(ModelError, match="CPUExecutionProvider runs it where cuda is configured"):
        Session("small", model.graph, threads=1, provider=Provider("cuda"))
    allowed = Provider("cuda", allow_fallback=True)
    assert Session("small", model.graph, threads=1, provider=allowed).provider == "CPUExecutionProvider"


def test_a_provider_must_have_a_name_of_the_table() -> None:
    with pytest.raises(ValueError, match="'gpu' is none of cpu, cuda"):
        Provider("gpu")


def test_the_threads_of_a_session_are_also_those_of_openvino_unless_its_options_say_otherwise() -> None:
    assert Provider("openvino").session_options(2) == {"num_of_threads": "2"}
    chosen = {"num_of_threads": "4", "device_type": "GPU"}
    assert Provider("openvino", chosen).session_options(2) == chosen
    assert Provider("cuda").session_options(2) == {}


def vectors(encoder: Encoder) -> np.ndarray:
    (rows,) = encoder.encode([encoder.preprocess(image) for image in trial_images(encoder.min_side)]).values()
    return rows


def test_the_comparison_with_the_cpu_tells_two_graphs_apart(tmp_path: Path) -> None:
    swapped = graph_of(
        [helper.make_node("Gather", ["x", "order"], ["y"], axis=1)], weights={"order": np.array([2, 1, 0])}
    )
    one, other = (
        vectors(Encoder([small_model(tmp_path, graph, name=name)], threads=1))
        for name, graph in (("one", graph_of()), ("other", swapped))
    )
    refuse_disagreement("small", "SomeExecutionProvider", one, one)
    with pytest.raises(ModelError, match="SomeExecutionProvider computes other vectors than the CPU"):
        refuse_disagreement("small", "SomeExecutionProvider", other, one)


def test_the_comparison_with_the_cpu_lets_half_precision_pass_and_refuses_one_bad_photo(encoder: Encoder) -> None:
    expected = vectors(encoder)
    refuse_disagreement("small", "SomeExecutionProvider", expected.astype(np.float16).astype(np.float32), expected)
    worse = expected.copy()
    worse[2] = np.roll(worse[2], 1)
    with pytest.raises(ModelError, match="cosine 0"):
        refuse_disagreement("small", "SomeExecutionProvider", worse, expected)
    with pytest.raises(ModelError, match="cosine nan"):
        refuse_disagreement("small", "SomeExecutionProvider", np.full_like(expected, np.nan), expected)


def test_every_encoder_on_another_provider_is_compared_with_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that says it runs elsewhere, over another graph than the CPU's, stands for a provider that is wrong."""
    model = small_model(tmp_path)
    other = small_model(tmp_path, graph_of([helper.make_node("Neg", ["x"], ["y"])]), name="other")
    opened = Session.__init__

    def elsewhere(session: Session, name: str, graph: Path, *, threads: int, provider: Provider | None = None) -> None:
        opened(session, name, other.graph if provider else graph, threads=threads)
        session.provider = "SomeExecutionProvider" if provider else session.provider

    monkeypatch.setattr(Session, "__init__", elsewhere)
    with pytest.raises(ModelError, match=r"Model small: SomeExecutionProvider computes other vectors .*cosine -1"):
        Encoder([model], threads=1, provider=Provider("openvino"))


@pytest.mark.skipif(not has("openvino"), reason="onnxruntime-openvino is not installed")
def test_openvino_runs_the_shipped_model_and_agrees_with_the_cpu(model: Model, encoder: Encoder) -> None:
    other = Encoder([model], threads=1, provider=Provider("openvino", {"device_type": "CPU"}))
    assert other.provider == "OpenVINOExecutionProvider"
    assert np.einsum("nd,nd->n", vectors(other), vectors(encoder)).min() > 0.999


@pytest.mark.skipif(not has("openvino"), reason="onnxruntime-openvino is not installed")
def test_openvino_with_a_device_that_is_not_there_is_refused_or_replaced_as_configured(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = {"device_type": "NPU"}
    with pytest.raises(ModelError, match="openvino"):
        Encoder([model], threads=1, provider=Provider("openvino", nowhere))
    encoder = Encoder([model], threads=1, provider=Provider("openvino", nowhere, allow_fallback=True))
    assert encoder.provider == "CPUExecutionProvider"
    assert "runs with cpu in the place of openvino" in caplog.text


@pytest.mark.skipif(not has("openvino"), reason="onnxruntime-openvino is not installed")
def test_a_graph_of_which_openvino_runs_nothing_is_no_graph_that_it_runs(tmp_path: Path) -> None:
    determinant = graph_of([helper.make_node("Det", ["x"], ["y"])], {"y": ["batch", 3]})
    model = small_model(tmp_path, determinant, output={"pooling": "none", "dim": 3})
    with pytest.raises(ModelError, match="CPUExecutionProvider runs it where openvino is configured"):
        Session("small", model.graph, threads=1, provider=Provider("openvino"))
    allowed = Provider("openvino", allow_fallback=True)
    assert Session("small", model.graph, threads=1, provider=allowed).provider == "CPUExecutionProvider"
