"""Directories of prepared models: whole or not there, whatever happens to them or to those who make them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.encode import prepared
from daemon.encode.manifest import MANIFEST, Manifest
from daemon.encode.models import ModelSpec
from daemon.encode.prepared import Making, directory_of, discarded, made, manifests, opened, sweep
from daemon.encode.presets import PRESETS
from daemon.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "tiny-0123456789ab"
SPEC = ModelSpec.model_validate(
    {
        "name": "tiny",
        "licence": "MIT",
        "source": {"kind": "file", "path": "/models/tiny.onnx"},
        "input": PRESETS["clip"],
        "output": {"pooling": "cls", "dim": 4},
        "metric": "cosine",
    }
)


def filled(content: bytes = b"weights") -> Callable[[Making], Manifest]:
    def fill(making: Making) -> Manifest:
        making.write("image/model.onnx", content)
        making.write("projection.npz", b"arrays")
        external = {"0" * 64: ("data/weights.bin",)}
        return Manifest(
            spec=SPEC,
            fingerprint=VERSION[-12:],
            digest="1" * 64,
            preprocessing=1,
            files=making.files,
            external=external,
        )

    return fill


def never(_: Making) -> Manifest:
    raise AssertionError("it was made already")


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir() if path.name != ".lock")


def test_a_directory_is_made_once_and_opened_afterwards(tmp_path: Path) -> None:
    manifest = made(tmp_path / "not" / "there", VERSION, filled())
    assert made(tmp_path / "not" / "there", VERSION, never) == manifest
    assert opened(directory_of(tmp_path / "not" / "there", VERSION)) == manifest
    assert manifest.files["projection.npz"] == hashlib.sha256(b"arrays").hexdigest()
    assert names(tmp_path / "not" / "there") == [VERSION]


def test_what_is_not_there_is_not_opened(tmp_path: Path) -> None:
    assert opened(directory_of(tmp_path, VERSION)) is None


@pytest.mark.parametrize("file", ["image/model.onnx", "projection.npz", MANIFEST])
@pytest.mark.parametrize("damage", [b"", b"other", None])
def test_a_directory_with_a_damaged_file_is_not_opened_and_is_made_again(
    tmp_path: Path, file: str, damage: bytes | None
) -> None:
    made(tmp_path, VERSION, filled())
    damaged = directory_of(tmp_path, VERSION) / file
    damaged.unlink()
    if damage is not None:
        damaged.write_bytes(damage)
    assert opened(directory_of(tmp_path, VERSION)) is None
    made(tmp_path, VERSION, filled(b"again"))
    assert (directory_of(tmp_path, VERSION) / "image" / "model.onnx").read_bytes() == b"again"
    assert names(tmp_path) == [VERSION]


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    made(tmp_path, VERSION, filled())
    path = directory_of(tmp_path, VERSION) / MANIFEST
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        # A space between two values may become another.
        assert opened(directory_of(tmp_path, VERSION)) is None or json.loads(path.read_bytes()) == json.loads(whole)


@pytest.mark.parametrize("document", ["[]", "null", "{}", '{"manifest": {}}', "[" * 100_000])
def test_a_manifest_of_another_kind_is_not_opened(tmp_path: Path, document: str) -> None:
    made(tmp_path, VERSION, filled())
    (directory_of(tmp_path, VERSION) / MANIFEST).write_text(document)
    assert opened(directory_of(tmp_path, VERSION)) is None


def test_a_manifest_of_a_release_that_knew_other_specs_is_not_opened(tmp_path: Path) -> None:
    from daemon.encode.manifest import _checksum

    made(tmp_path, VERSION, filled())
    path = directory_of(tmp_path, VERSION) / MANIFEST
    described = json.loads(path.read_bytes())["manifest"]
    described["spec"]["unheard"] = "of"
    path.write_text(json.dumps({"manifest": described, "sha256": _checksum(described)}))
    assert opened(directory_of(tmp_path, VERSION)) is None


@pytest.mark.parametrize("place", ["file", "folder"])
def test_something_else_in_its_place_is_replaced(tmp_path: Path, place: str) -> None:
    directory = directory_of(tmp_path, VERSION)
    if place == "file":
        directory.parent.mkdir()
        directory.write_text("not a directory")
    else:
        (directory / "image" / "model.onnx").mkdir(parents=True)
    made(tmp_path, VERSION, filled())
    assert opened(directory) is not None
    assert names(tmp_path) == [VERSION]


def test_a_making_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(making: Making) -> Manifest:
        making.write("image/model.onnx", b"half")
        raise ModelError("tiny", "its text tower is missing.")

    with pytest.raises(ModelError, match="text tower"):
        made(tmp_path, VERSION, fail)
    assert names(tmp_path) == []


def test_a_making_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    made(tmp_path, VERSION, filled())
    (directory_of(tmp_path, VERSION) / "projection.npz").unlink()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        made(tmp_path, VERSION, filled())
    assert names(tmp_path) == [VERSION]


def test_a_source_that_changes_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "tiny.onnx"
    source.write_bytes(b"before")
    sha256 = hashlib.sha256(b"before").hexdigest()
    making = Making(tmp_path / "making")
    making.copy("tiny", source, "whole.onnx", sha256)
    source.write_bytes(b"after")
    with pytest.raises(ModelError, match="changed while it was read"):
        making.copy("tiny", source, "changed.onnx", sha256)


def test_a_copy_is_a_file_of_its_own(tmp_path: Path) -> None:
    source, blob = tmp_path / "tiny.onnx", tmp_path / "blob"
    blob.write_bytes(b"before")
    source.symlink_to(blob)
    Making(tmp_path / "making").copy("tiny", source, "image/model.onnx", hashlib.sha256(b"before").hexdigest())
    blob.write_bytes(b"after")
    copy = tmp_path / "making" / "image" / "model.onnx"
    assert (copy.is_symlink(), copy.read_bytes()) == (False, b"before")


def test_two_who_make_the_same_at_once_make_it_once(tmp_path: Path) -> None:
    calls: list[int] = []
    results: list[Manifest] = []
    begun, may_end = threading.Event(), threading.Event()

    def slow(making: Making) -> Manifest:
        calls.append(1)
        begun.set()
        assert may_end.wait(30)
        return filled()(making)

    threads = [
        threading.Thread(target=lambda: results.append(made(tmp_path, VERSION, slow)), name=f"make-{number}")
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    may_end.set()
    for thread in threads:
        thread.join(30)
    assert len(calls) == 1
    assert results == [results[0]] * 4


def test_what_a_killed_process_left_half_made_is_removed(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from daemon.encode.prepared import made

        def fill(making):
            making.write("image/model.onnx", b"half")
            os.kill(os.getpid(), signal.SIGKILL)

        made(Path(sys.argv[1]), sys.argv[2], fill)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), VERSION]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run(command, check=False, env=environment)
    assert len(names(tmp_path)) == 1
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_what_is_being_made_now_is_not_swept_away(tmp_path: Path) -> None:
    def fill(making: Making) -> Manifest:
        sweep(tmp_path)
        assert making.directory.exists()
        return filled()(making)

    made(tmp_path, VERSION, fill)
    assert opened(directory_of(tmp_path, VERSION)) is not None


def test_a_sweep_of_nothing_writes_nothing(tmp_path: Path) -> None:
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_discarded_and_so_is_none(tmp_path: Path) -> None:
    made(tmp_path, VERSION, filled())
    discarded(tmp_path, VERSION)
    discarded(tmp_path, VERSION)
    assert names(tmp_path) == []


@pytest.mark.parametrize("version", ["", ".", "..", "tiny", "../tiny-0123456789ab", "tiny-0123456789AB", ".lock"])
def test_what_is_no_version_has_no_directory(tmp_path: Path, version: str) -> None:
    with pytest.raises(ValueError, match="is no version"):
        directory_of(tmp_path, version)


def test_manifests_are_those_of_one_model(tmp_path: Path) -> None:
    manifest = made(tmp_path, VERSION, filled())
    made(tmp_path, "tiny-0123456789ac", filled())
    (directory_of(tmp_path, "tiny-0123456789ac") / MANIFEST).write_text("damaged")
    assert list(manifests(tmp_path, "tiny")) == [manifest]
    assert list(manifests(tmp_path, "tin")) == []


def test_files_of_any_size_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "CHUNK_BYTES", 3)
    manifest = made(tmp_path, VERSION, filled())
    assert opened(directory_of(tmp_path, VERSION)) == manifest


@pytest.mark.needs_root("only root can give directories away")
def test_what_another_user_has_put_into_its_place_is_not_used(tmp_path: Path) -> None:
    made(tmp_path, VERSION, filled())
    os.chown(directory_of(tmp_path, VERSION), 65534, 65534)
    assert opened(directory_of(tmp_path, VERSION)) is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [MANIFEST, "image/model.onnx"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    made(tmp_path, VERSION, filled())
    (directory_of(tmp_path, VERSION) / name).unlink()
    os.mkfifo(directory_of(tmp_path, VERSION) / name)
    with contextlib.suppress(OSError):
        assert opened(directory_of(tmp_path, VERSION)) is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_no_file_is_made_through_what_was_put_into_the_place_of_the_lock(tmp_path: Path, kind: str) -> None:
    (tmp_path / "cache" / "models").mkdir(parents=True)
    lock = tmp_path / "cache" / "models" / ".lock"
    if kind == "link":
        lock.symlink_to(tmp_path / "new")
    else:
        os.mkfifo(lock)
    with pytest.raises(OSError, match=r"it is a symbolic link|it is no regular file"):
        made(tmp_path / "cache", VERSION, filled())
    assert not (tmp_path / "new").exists()
