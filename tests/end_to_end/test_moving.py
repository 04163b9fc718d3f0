"""A library goes to another machine, or to another place on this one, and no photo is encoded for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.transfer.frames import MAGIC, PHOTOS, VECTORS, FrameReader, FrameWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wait = Callable[..., Any]

BIN = Path(sys.executable).parent
CONFIGURATION = """
folders: [{folder}]
models: [efficientnet-lite0]
watch: {{rescan_seconds: 3600, poll_seconds: 1}}
"""


def start(one: Any, folder: Path | None = None) -> None:
    file = one.root / "lookalike.yaml"
    file.write_text(CONFIGURATION.format(folder=folder or one.folder))
    one.start("--config", file)


def answer(one: Any, *arguments: Any) -> dict[str, Any]:
    status, out, err = one.asked(*arguments, "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def library(lookalike: Any, photos: Any) -> Any:
    """A library of nine photos in eleven files, one of which cannot be indexed."""
    photos.fill(lookalike.folder / "trip", 8)
    photos.write(lookalike.folder / os.fsdecode(b"caf\xe9.jpg"), 8)
    photos.write(lookalike.folder / "copy.jpg", 3)
    (lookalike.folder / "bad.png").write_bytes(b"no photo")
    start(lookalike)
    assert lookalike.asked("sync")[0] == 0
    return lookalike


@pytest.fixture
def other(lookalike: Any) -> Iterator[Any]:
    """Another machine, on which nothing is yet: its folder does not exist."""
    root = Path(tempfile.mkdtemp(prefix="lb-"))
    one = type(lookalike)(root, lookalike.cache)
    one.folder.rmdir()
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(root, ignore_errors=True)


def nearest(one: Any, query: Path) -> list[tuple[float, str]]:
    """Return score and id of every answer to a query."""
    results = one.search(query, "--limit", "20")["results"]
    return [(round(result["score"], 4), result["id"]) for result in results]


def test_a_library_moves_to_another_machine_and_no_photo_is_encoded_there(
    library: Any, other: Any, wait_for: Wait
) -> None:
    file = library.root / "backup"
    status, out, err = library.asked("export", file)
    assert (status, err) == (0, "")
    assert "9 photos in 10 files, 9 vectors" in out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    query = library.folder / "trip" / "5.jpg"
    before = nearest(library, query)

    start(other)
    imported = answer(other, "import", file, "--moved", f"{library.folder}={other.folder}")
    assert (imported["photos"], imported["kept"], imported["left"], imported["notes"]) == (9, 10, 0, [])
    # As cp -a does: other inodes, and the times that they had.
    shutil.copytree(library.folder, other.root / "coming")
    (other.root / "coming").rename(other.folder)
    wait_for(lambda: other.status()["failures"] == 1 and not other.status()["held_deletions"])

    assert other.up_to_date()["encoded"] == 0
    assert nearest(other, query) == before
    other.assert_equals_disk()
    found = answer(other, "verify", "--deep")
    assert (found["differences"], found["sampled"]) == ([], 9)
    assert other.status()["encoded"] == 0


def test_photos_that_lie_elsewhere_are_found_by_their_content(library: Any, other: Any, photos: Any) -> None:
    file = library.root / "backup"
    assert library.asked("export", file)[0] == 0
    shutil.copytree(library.folder / "trip", other.folder / "renamed")
    for one in (other.folder / "renamed").iterdir():
        os.utime(one)
    own = photos.write(other.folder / "own.jpg", 50)
    start(other)
    assert other.asked("sync")[0] == 0
    encoded = other.status()["encoded"]
    assert encoded == 9
    # What is there stands, and what was exported of other files is collected.
    imported = answer(other, "import", file)
    assert (imported["bound"], imported["known"], imported["left"], imported["vectors"]) == (
        0,
        0,
        10,
        {"efficientnet-lite0": 1},
    )
    assert answer(other, "verify", "--deep")["differences"] == []
    assert other.up_to_date()["encoded"] == encoded
    assert other.holders(own) == [str(own)]
    other.assert_equals_disk()


def test_a_library_relocates_without_a_photo_being_encoded(library: Any, wait_for: Wait) -> None:
    library.stop()
    old, new = library.folder, library.root / "elsewhere"
    # Another disk: other inodes, the same times.
    shutil.copytree(old, new)
    shutil.rmtree(old)
    library.folder = new
    start(library, new)
    counted = answer(library, "relocate", old, new, "--dry-run")
    assert (counted["files"], counted["moved"], counted["failures"], counted["dry_run"]) == (10, 10, 1, True)
    status, out, err = library.asked("relocate", old, new)
    assert (status, err) == (0, "")
    assert f"10 of 10 files known below {new}" in out
    assert library.up_to_date()["encoded"] == 0
    library.assert_equals_disk()
    assert [one["path"] for one in answer(library, "failures")["failures"]] == [f"{new}/bad.png"]
    assert answer(library, "verify", "--deep")["differences"] == []
    status, _, err = library.asked("relocate", old, new)
    assert (status, err) == (1, f"no file below {old} is known; lookalike status lists the folders\n")
    assert library.status()["encoded"] == 0


def one_photo_a_frame(data: bytes) -> list[bytes]:
    """Return the export in pieces, each with a photo and its vector."""
    frames = list(FrameReader(iter([data])))
    writer, pieces = FrameWriter(), [MAGIC]
    head = json.loads(frames[0].payload)
    (dim,) = (model["dim"] for model in head["models"])
    vectors: dict[int, bytes] = {}
    for frame in frames:
        if frame.kind == VECTORS:
            _, count = struct.unpack_from("<II", frame.payload)
            rows = frame.payload[8 + 8 * count :]
            ids = struct.unpack_from(f"<{count}q", frame.payload, 8)
            vectors |= {one: rows[4 * dim * n : 4 * dim * (n + 1)] for n, one in enumerate(ids)}
        elif frame.kind == PHOTOS:
            for photo in json.loads(frame.payload):
                identity = int(photo["digest"][:16], 16) >> 1
                vector = writer.frame(VECTORS, struct.pack("<IIq", 0, 1, identity) + vectors[identity])
                pieces.append(vector + writer.frame(PHOTOS, json.dumps([photo]).encode("ascii")))
        else:
            pieces.append(writer.frame(frame.kind, frame.payload))
    return pieces


@contextlib.contextmanager
def importing(one: Any, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run an import that reads from a pipe."""
    process = subprocess.Popen(
        [BIN / "lookalike", "import", "-", *arguments],
        env=one.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_an_import_that_ends_with_the_daemon_is_completed_by_another(
    library: Any, other: Any, wait_for: Wait, number: signal.Signals
) -> None:
    file = library.root / "backup"
    assert library.asked("export", file)[0] == 0
    pieces = one_photo_a_frame(file.read_bytes())
    moved = ("--moved", f"{library.folder}={other.folder}")
    start(other)
    with importing(other, *moved) as process:
        assert process.stdin is not None
        for piece in pieces[:6]:
            process.stdin.write(piece)
        process.stdin.flush()
        wait_for(lambda: other.status()["photos"] == 3, "half of it is taken")
        assert other.asked("verify") == (1, "", "an import is running; try again when it is done\n")
        other.stop(number)
        process.stdin.close()
        assert process.wait(30) in (1, 69)
        assert process.stderr is not None
        assert process.stderr.read().count(b"\n") == 1
    start(other)
    assert answer(other, "import", file, *moved)["known"] >= 3
    shutil.copytree(library.folder, other.root / "coming")
    (other.root / "coming").rename(other.folder)
    wait_for(lambda: not other.status()["held_deletions"])
    assert other.asked("sync")[0] == 0
    assert other.status()["encoded"] == 0
    other.assert_equals_disk()
    assert answer(other, "verify")["differences"] == []


def test_an_import_of_which_a_part_is_damaged_says_what_was_taken(library: Any, other: Any) -> None:
    file = library.root / "backup"
    assert library.asked("export", file)[0] == 0
    pieces = one_photo_a_frame(file.read_bytes())
    start(other)
    done = subprocess.run(
        [BIN / "lookalike", "import", "-"],
        input=b"".join(pieces[:7]),
        env=other.environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"; 4 of its photos were taken before that" in done.stderr
    status, _, err = library.asked("export", library.folder / "backup")
    assert (status, err.count("\n")) == (1, 1)
    assert not (library.folder / "backup").exists()
