"""lookalike models as a user runs it: a model of one's own added, tried, used by the daemon, and removed again."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.conftest import BIN, eventually
from tests.integration.catalogue.graphs import image_graph, save, spec_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.conftest import Lookalike, Photos


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Yield a directory and the address at which its files are."""
    handler = functools.partial(_Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="served")
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files slowly, so that somebody can stop a download on its way, and in parts."""

    pause_seconds = 0.0

    def copyfile(self, source: Any, outputfile: Any) -> None:
        while chunk := source.read(100_000):
            outputfile.write(chunk)
            time.sleep(self.pause_seconds)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass


def specs(lookalike: Lookalike) -> Path:
    return lookalike.root / "config" / "lookalike" / "models"


def test_a_model_of_ones_own_from_its_file_to_its_removal(lookalike: Lookalike, photos: Photos, tmp_path: Path) -> None:
    graph = save(tmp_path / "colours.onnx", image_graph())

    shown = lookalike.command("models", "add", graph, "--preset", "siglip", "--licence", "MIT", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert b"preset: siglip" in shown.stdout
    assert not specs(lookalike).exists()

    added = lookalike.command("models", "add", graph, "--preset", "siglip", "--licence", "MIT")
    assert added.returncode == 0, added.stderr
    assert added.stdout.decode().strip() == str(specs(lookalike) / "colours.yaml")
    assert b"lookalike models test colours" in added.stderr

    photos.write(lookalike.folder / "a.jpg", 1)
    photos.write(lookalike.folder / "b.jpg", 2)
    tried = lookalike.command("models", "test", "colours", lookalike.folder, "--json")
    assert tried.returncode == 0, tried.stderr
    measured = json.loads(tried.stdout)
    assert (measured["dim"], measured["photos"]) == (8, 2)
    assert [one["path"] for one in measured["neighbours"][str(lookalike.folder / "a.jpg")]] == [
        str(lookalike.folder / "b.jpg")
    ]

    listed = {one["name"]: one for one in json.loads(lookalike.command("models", "--json").stdout)["models"]}
    assert (listed["colours"]["state"], listed["colours"]["own"], listed["colours"]["pinned"]) == ("ready", True, True)
    assert listed["efficientnet-lite0"]["configured"]
    fingerprint = json.loads(lookalike.command("models", "show", "colours", "--json").stdout)["fingerprint"]
    assert measured["version"] == f"colours-{fingerprint}"

    removed = lookalike.command("models", "remove", "colours", "--files-only", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert list(specs(lookalike).iterdir()) == []
    assert graph.exists()


def test_a_model_behind_a_url_is_pulled_and_then_ready(lookalike: Lookalike, served: tuple[Path, str]) -> None:
    directory, address = served
    graph = save(directory / "colours.onnx", image_graph())
    source = {
        "kind": "url",
        "url": f"{address}/colours.onnx",
        "sha256": hashlib.sha256(graph.read_bytes()).hexdigest(),
    }
    specs(lookalike).mkdir(parents=True)
    (specs(lookalike) / "colours.yaml").write_text(spec_text("colours", source), encoding="utf-8")
    refused = lookalike.command("models", "test", "colours")
    assert (refused.returncode, b"run `lookalike models pull colours`" in refused.stderr) == (1, True)

    pulled = lookalike.command("models", "pull", "colours")
    again = lookalike.command("models", "pull", "colours")

    assert (pulled.returncode, pulled.stdout) == (0, b"")
    assert b"colours is ready\n" in pulled.stderr
    assert again.stderr == b"colours: nothing to do, all its files are here\n"
    assert lookalike.command("models", "test", "colours").returncode == 0


def test_a_pull_that_is_interrupted_keeps_what_it_has(
    lookalike: Lookalike, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Handler, "pause_seconds", 0.05)
    directory, address = served
    (directory / "large.onnx").write_bytes(bytes(5_000_000))
    source = {"kind": "url", "url": f"{address}/large.onnx", "sha256": "0" * 64}
    specs(lookalike).mkdir(parents=True)
    (specs(lookalike) / "large.yaml").write_text(spec_text("large", source), encoding="utf-8")

    with subprocess.Popen(
        [BIN / "lookalike", "models", "pull", "large"], env=lookalike.environment, stderr=subprocess.PIPE
    ) as pull:
        found = eventually(
            lambda: next((part for part in lookalike.data_dir.rglob("*.part") if part.stat().st_size), None),
            "it has begun",
        )
        pull.send_signal(signal.SIGINT)
        _, said = pull.communicate(timeout=30)

    assert pull.returncode == 130
    assert b"the next pull goes on where this one was" in said
    assert b"Traceback" not in said
    assert 0 < found.stat().st_size < 5_000_000
    assert not found.with_name("large.onnx").exists()


def test_what_is_no_image_model_is_refused(lookalike: Lookalike, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_bytes(b"hello")

    done = lookalike.command("models", "add", tmp_path / "text.onnx")

    assert done.returncode == 1
    assert done.stderr.startswith(b"Model text: its file is not an ONNX graph")


def test_a_model_that_was_in_use_gives_its_vectors_back(lookalike: Lookalike, photos: Photos, tmp_path: Path) -> None:
    graph = save(tmp_path / "colours.onnx", image_graph())
    assert lookalike.command("models", "add", graph, "--preset", "siglip").returncode == 0
    photos.fill(lookalike.folder, 3)
    configuration = lookalike.root / "config" / "lookalike" / "lookalike.yaml"
    both = f"folders: [{lookalike.folder}]\nmodels: [efficientnet-lite0, {specs(lookalike) / 'colours.yaml'}]\n"
    configuration.write_text(both, encoding="utf-8")
    lookalike.start("--config", configuration)
    lookalike.up_to_date()

    assert b"live, 3 photos" in lookalike.command("models").stdout
    refused = lookalike.command("models", "remove", "colours", "--yes")
    assert (refused.returncode, b"take it out of 'models'" in refused.stderr) == (1, True)

    lookalike.stop()
    configuration.write_text(f"folders: [{lookalike.folder}]\nmodels: [efficientnet-lite0]\n", encoding="utf-8")
    assert lookalike.command("models", "remove", "colours", "--yes").returncode == 69
    lookalike.start("--config", configuration)
    lookalike.up_to_date()
    assert b"no longer used, vectors of 3 photos are left" in lookalike.command("models").stdout

    removed = lookalike.command("models", "remove", "colours", "--yes")

    assert (removed.returncode, removed.stderr) == (0, b"")
    assert removed.stdout.startswith(b"colours: removed 3 vectors and ")
    assert not list(specs(lookalike).iterdir())
    assert lookalike.status()["retired_models"] == []
