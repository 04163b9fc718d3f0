from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cli.report.models import measurement_lines

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import FakeDaemon, Lookalike

HINT = b"lookalike models pull NAME fetches what is not pulled, and what is not installed\n"
SPEC = """
name: mine
summary: for trying
licence: MIT
source: {kind: url, url: "https://example.org/mine.onnx", sha256: "%s"}
input: {preset: clip}
output: {pooling: none, dim: 512}
metric: cosine
""" % ("a" * 64)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory in which lookalike finds its configuration and a spec of the user's."""
    for kind in ("CONFIG", "DATA", "CACHE", "RUNTIME"):
        variable = f"XDG_{kind}_DIR" if kind == "RUNTIME" else f"XDG_{kind}_HOME"
        monkeypatch.setenv(variable, str(tmp_path / kind.lower()))
    specs = tmp_path / "config" / "lookalike" / "models"
    specs.mkdir(parents=True)
    (specs / "mine.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_models_are_listed_with_what_can_be_done_with_them(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], home: Path, arguments: list[str]
) -> None:
    daemon.will_answer(status_answer)

    done = lookalike("models", *arguments)

    assert (done.returncode, done.stderr) == (0, HINT)
    lines = [" ".join(line.split()) for line in done.stdout.decode().splitlines()]
    assert "efficientnet-lite0 ready live, 630 photos" in lines
    assert lines[lines.index("mine not pulled") + 1 :][:2] == [
        "for trying",
        "512 dimensions, MIT, https://example.org/mine.onnx, yours",
    ]
    assert all(len(line) <= 100 for line in done.stdout.decode().splitlines())


def test_models_are_listed_without_a_daemon(lookalike: Lookalike, home: Path) -> None:
    done = lookalike("models")

    assert done.returncode == 0
    assert b"live" not in done.stdout.replace(b"alive", b"")
    default = next(line for line in done.stdout.split(b"\n") if line.startswith(b"efficientnet-lite0 "))
    assert default.endswith(b"configured")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"photos": 100, "of": 630, "state": "filling"}, b"live, 100 of 630 photos so far"),
        ({"photos": 630, "of": 630, "built": 7, "state": "rebuilding"}, b"live, rebuilt for 7 of 630 photos so far"),
    ],
)
def test_a_model_that_is_being_built_is_listed_with_how_far_it_is(
    lookalike: Lookalike,
    daemon: FakeDaemon,
    status_answer: dict[str, Any],
    home: Path,
    changes: dict[str, Any],
    shown: bytes,
) -> None:
    status_answer["models"][0] |= changes
    daemon.will_answer(status_answer)

    assert shown in lookalike("models").stdout


def test_a_model_that_is_used_no_more_is_listed_with_the_vectors_it_left(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], home: Path
) -> None:
    status_answer["retired_models"] = [{"name": "mine", "collection": "default_mine_0", "photos": 9}]
    daemon.will_answer(status_answer)

    assert b"not pulled     no longer used, vectors of 9 photos are left" in lookalike("models").stdout


def test_the_list_as_json_has_every_fact(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], home: Path
) -> None:
    daemon.will_answer(status_answer)

    answer = json.loads(lookalike("models", "--json").stdout)

    assert answer["schema"] == 1
    models = {model["name"]: model for model in answer["models"]}
    assert models["efficientnet-lite0"]["live"] == {"photos": 630, "of": 630, "built": 630, "state": "complete"}
    expected = {
        "state": "not pulled", "own": True, "configured": False, "pinned": True, "dim": 512, "metric": "cosine",
        "licence": "MIT", "from": "https://example.org/mine.onnx", "text": False, "live": None,
        "path": str(home / "config" / "lookalike" / "models" / "mine.yaml"),
    }  # fmt: skip
    assert models["mine"].items() >= expected.items()


def test_a_broken_spec_is_listed_with_what_is_wrong(lookalike: Lookalike, home: Path) -> None:
    (home / "config" / "lookalike" / "models" / "worse.yaml").write_text("name: worse\nmetric: far\n", encoding="utf-8")

    done = lookalike("models")

    assert done.returncode == 0
    assert b"broken\n" in done.stdout
    assert b"At 'metric' (line 2)" in done.stdout


def test_a_spec_is_shown_as_it_is_understood(lookalike: Lookalike, home: Path) -> None:
    done = lookalike("models", "show", "mine")

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"  mean: [0.48145466, 0.4578275, 0.40821073]\n" in done.stdout
    assert b"# weights: https://example.org/mine.onnx, not on this machine, SHA-256 aaaa" in done.stdout
    assert b"# state: not pulled" in done.stdout


@pytest.mark.parametrize("command", ["show", "pull", "test"])
def test_an_unknown_model_is_one_sentence(lookalike: Lookalike, home: Path, command: str) -> None:
    done = lookalike("models", command, "none")

    assert done.returncode == 1
    assert done.stderr.startswith(b"models: there is no model none; there are ")
    assert done.stderr.count(b"\n") == 1


def test_a_bad_configuration_is_said_and_one_without_folders_is_not_bad(lookalike: Lookalike, home: Path) -> None:
    (home / "good.yaml").write_text("models: [efficientnet-lite0]\n", encoding="utf-8")
    (home / "bad.yaml").write_text("modles: [a]\nfolder: /a\n", encoding="utf-8")

    assert lookalike("models", "--config", str(home / "good.yaml")).returncode == 0
    done = lookalike("models", "--config", str(home / "bad.yaml"))
    assert done.returncode == 1
    assert [line.split(b": ")[1] for line in done.stderr.splitlines()] == [
        b"At 'modles' (line 1)",
        b"At 'folder' (line 2)",
    ]


def test_specs_lie_beside_the_configuration_that_is_named(lookalike: Lookalike, home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "lookalike.yaml").write_text("models: [efficientnet-lite0]\n", encoding="utf-8")

    assert b"mine" not in lookalike("models", "--config", str(tmp_path / "other" / "lookalike.yaml")).stdout


def test_a_removed_model_loses_its_vectors_and_its_spec(lookalike: Lookalike, daemon: FakeDaemon, home: Path) -> None:
    daemon.will_answer({"schema": 1, "model": "mine", "collections": 1, "vectors": 1234})

    done = lookalike("models", "remove", "mine", "--yes")

    assert (done.returncode, done.stdout) == (0, b"mine: removed 1,234 vectors and 250 bytes of files\n")
    (request,) = daemon.requests
    assert (request.method, request.target, json.loads(request.body)) == (
        "POST",
        "/v1/models/remove",
        {"model": "mine"},
    )
    assert list((home / "config" / "lookalike" / "models").iterdir()) == []


def test_a_model_without_vectors_is_removed_all_the_same(lookalike: Lookalike, daemon: FakeDaemon, home: Path) -> None:
    daemon.will_refuse("unknown_model", "There is no such model.")

    assert lookalike("models", "remove", "mine", "--yes").stdout == b"mine: removed 250 bytes of files\n"


@pytest.mark.parametrize("options", [[], ["--yes"], ["--files-only"]])
def test_a_model_that_nobody_knows_is_not_asked_about(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], home: Path, options: list[str]
) -> None:
    daemon.will_answer(status_answer)

    done = lookalike("models", "remove", "none", *options)

    assert (done.returncode, done.stderr) == (1, b"there is no model none; lookalike models lists those there are\n")


def test_a_model_in_use_is_not_removed(lookalike: Lookalike, daemon: FakeDaemon, home: Path) -> None:
    daemon.will_refuse("model_in_use", "the model mine is live; take it out of 'models'", 409)

    by_daemon = lookalike("models", "remove", "mine", "--yes")
    by_configuration = lookalike("models", "remove", "efficientnet-lite0", "--files-only", "--yes")

    assert (by_daemon.returncode, by_daemon.stderr) == (1, b"the model mine is live; take it out of 'models'\n")
    assert (by_configuration.returncode, by_configuration.stderr) == (
        1,
        b"efficientnet-lite0 is in use: take it out of 'models' in the configuration, run lookalike reload, and remove it then\n",
    )
    assert (home / "config" / "lookalike" / "models" / "mine.yaml").exists()


def test_what_the_daemon_no_longer_uses_is_removed_though_the_configuration_names_it(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], home: Path
) -> None:
    status_answer["retired_models"] = [{"name": "efficientnet-lite0", "collection": "default_0", "photos": 9}]
    status_answer["models"] = []
    daemon.will_answer(status_answer)
    daemon.will_answer({"schema": 1, "model": "efficientnet-lite0", "collections": 1, "vectors": 9})

    done = lookalike("models", "remove", "efficientnet-lite0", "--yes")

    assert (done.returncode, done.stdout) == (0, b"efficientnet-lite0: removed 9 vectors\n")


def test_without_a_daemon_only_the_files_can_be_removed(lookalike: Lookalike, home: Path) -> None:
    refused = lookalike("models", "remove", "mine", "--yes")

    assert refused.returncode == 69
    assert b"leave them with --files-only" in refused.stderr
    assert (home / "config" / "lookalike" / "models" / "mine.yaml").exists()

    assert lookalike("models", "remove", "mine", "--files-only", "--yes").returncode == 0
    assert not (home / "config" / "lookalike" / "models" / "mine.yaml").exists()


def test_a_person_at_a_terminal_is_asked_first(lookalike: Lookalike, daemon: FakeDaemon, home: Path) -> None:
    terminal, standard_input = os.openpty()
    try:
        os.write(terminal, b"n\n")
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "models", "remove", "mine"],
            stdin=standard_input, capture_output=True, env=lookalike.environment(), check=False, timeout=60,
        )  # fmt: skip
    finally:
        os.close(terminal)
        os.close(standard_input)

    assert done.returncode == 1
    assert b"Remove mine, its vectors and 250 bytes of files?" in done.stderr
    assert daemon.requests == []


@pytest.mark.parametrize("options", [[], ["--files-only"]])
def test_where_nobody_can_be_asked_nothing_is_deleted(
    lookalike: Lookalike, daemon: FakeDaemon, home: Path, options: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "models", "remove", "mine", *options],
        input=b"n\n", capture_output=True, env=lookalike.environment(), check=False, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (1, b"")
    assert b"there is no terminal; give --yes\n" in done.stderr
    assert (home / "config" / "lookalike" / "models" / "mine.yaml").exists()
    assert daemon.requests == []


@pytest.mark.parametrize("command", ["show", "pull", "test", "remove"])
def test_an_empty_name_is_one_sentence(lookalike: Lookalike, home: Path, command: str) -> None:
    done = lookalike("models", command, "")

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"models: no model is named: the name is empty; lookalike models lists those there are\n"


def test_the_path_of_a_spec_stands_for_its_model(lookalike: Lookalike, daemon: FakeDaemon, home: Path) -> None:
    daemon.will_answer({"schema": 1, "model": "mine", "collections": 1, "vectors": 1})
    spec = home / "config" / "lookalike" / "models" / "mine.yaml"

    done = lookalike("models", "remove", str(spec), "--yes")

    assert (done.returncode, done.stdout) == (0, b"mine: removed 1 vector and 250 bytes of files\n")
    assert json.loads(daemon.requests[0].body) == {"model": "mine"}
    assert not spec.exists()


def test_a_shipped_model_of_which_nothing_is_here_has_nothing_to_remove(lookalike: Lookalike, home: Path) -> None:
    done = lookalike("models", "remove", "vgg16", "--files-only", "--yes")

    assert (done.returncode, done.stdout) == (0, b"vgg16: nothing to remove\n")


def test_a_spec_that_stands_before_the_default_model_can_be_removed(
    lookalike: Lookalike, daemon: FakeDaemon, home: Path
) -> None:
    spec = home / "config" / "lookalike" / "models" / "efficientnet-lite0.yaml"
    spec.write_text(SPEC.replace("name: mine", "name: efficientnet-lite0"), encoding="utf-8")

    done = lookalike("models", "remove", "efficientnet-lite0", "--yes")

    assert (done.returncode, done.stdout) == (0, b"efficientnet-lite0: removed 264 bytes of files\n")
    assert done.stderr == (
        b"efficientnet-lite0 is the shipped model again; lookaliked encodes for that one after lookalike reload\n"
    )
    assert (spec.exists(), daemon.requests) == (False, [])


def test_a_model_whose_spec_is_gone_is_listed_and_removed_as_long_as_it_has_vectors(
    lookalike: Lookalike, daemon: FakeDaemon, status_answer: dict[str, Any], home: Path
) -> None:
    status_answer["retired_models"] = [{"name": "gone", "collection": "default_gone_0", "photos": 9}]
    daemon.will_answer(status_answer)
    daemon.will_answer(status_answer)
    daemon.will_answer({"schema": 1, "model": "gone", "collections": 1, "vectors": 9})

    listed = lookalike("models").stdout.decode()
    removed = lookalike("models", "remove", "gone", "--yes")

    assert "no spec        no longer used, vectors of 9 photos are left\n  its spec is gone; " in listed
    assert (removed.returncode, removed.stdout) == (0, b"gone: removed 9 vectors\n")


def test_a_model_whose_file_its_user_makes_is_listed_with_how_it_is_added(lookalike: Lookalike, home: Path) -> None:
    done = lookalike("models")

    assert b"then `lookalike models add resnet50.onnx`\n" in done.stdout
    assert b"site-packages" not in done.stdout


def test_a_shipped_name_is_refused_before_anything_is_tried(lookalike: Lookalike, home: Path) -> None:
    done = lookalike("models", "add", "nothing.onnx", "--name", "efficientnet-lite0")

    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"a shipped model is called so" in done.stderr


def test_photos_without_neighbours_have_no_heading() -> None:
    answer = {
        "model": "m", "dim": 8, "metric": "cosine", "provider": "CPUExecutionProvider", "norm": 1.0,
        "encoded_per_second": {1: 2.0}, "photos_per_second": {1: 1.0}, "memory_before": 0, "memory_after": 1_000_000,
        "text_seconds": None, "neighbours": {"/one.jpg": []},
    }  # fmt: skip

    assert "/one.jpg" not in measurement_lines(answer)
    assert measurement_lines(answer)[-1].startswith("memory")


def test_a_text_tower_needs_its_tokenizer(lookalike: Lookalike, home: Path) -> None:
    done = lookalike("models", "add", "a.onnx", "--text", "b.onnx")

    assert done.returncode == 2
    assert b"--text and --tokenizer go together" in done.stderr


def test_a_file_that_is_not_there_is_one_sentence(lookalike: Lookalike, home: Path) -> None:
    done = lookalike("models", "add", "a.onnx")

    assert done.returncode == 1
    assert done.stderr == b"Model a: there is no a.onnx; name a file that is there.\n"


@pytest.mark.parametrize("command", ["", "list", "show", "add", "pull", "test", "remove"])
def test_help_imports_nothing_of_the_daemons(lookalike: Lookalike, command: str) -> None:
    script = (
        "import sys\nfrom cli.main import main\ntry:\n    main()\nfinally:\n"
        "    print(*(name for name in sys.modules if name.startswith(('daemon.', 'numpy', 'pydantic', 'rich'))), file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, "models", *filter(None, [command]), "--help"],
        capture_output=True, text=True, env=lookalike.environment(), check=True,
    )  # fmt: skip

    assert done.stdout.startswith("Usage: lookalike models")
    # They put the process in order, say where the socket is, or make names printable, and import the standard library alone.
    assert set(done.stderr.split()) == {
        "daemon.environment",
        "daemon.names",
        "daemon.paths",
        "daemon.standard_streams",
    }
