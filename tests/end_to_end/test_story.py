"""What a user does: index a folder, ask, change it, ask again, stop, start."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image
from watchdog.events import FileClosedNoWriteEvent, FileOpenedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from tests.namespaces import entering, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wait = Callable[..., Any]

SHARED = Path(__file__).parents[3] / "shared" / "photos"


@pytest.fixture
def running(lookalike: Any, photos: Any) -> Any:
    photos.fill(lookalike.folder, 6)
    lookalike.start()
    lookalike.up_to_date()
    return lookalike


def test_similar_photos_are_listed_best_first_with_scores_and_paths(at_rest: Any, photos: Any) -> None:
    turned = at_rest.root / "query.jpg"
    photos.image(3).rotate(2).save(turned)
    lines = at_rest.command("search", turned, "--limit", "4").stdout.decode().splitlines()
    assert len(lines) == 4
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert lines[0].endswith(str(at_rest.folder / "3.jpg"))
    answer = at_rest.search(turned, "--limit", "2")
    assert (answer["schema"], answer["query"]["by"], len(answer["results"])) == (1, "bytes", 2)


def test_a_photo_is_found_when_it_is_saved_and_gone_when_it_is_deleted(
    running: Any, photos: Any, wait_for: Wait
) -> None:
    query = photos.write(running.root / "new.jpg", 100)
    assert running.holders(query) == []
    saved = running.folder / "sub" / "new.jpg"
    saved.parent.mkdir()
    shutil.copyfile(query, saved)
    wait_for(lambda: running.holders(query) == [str(saved)])
    saved.unlink()
    wait_for(lambda: running.holders(query) == [])
    running.up_to_date()
    running.assert_equals_disk()


def test_moving_and_copying_encode_nothing(running: Any, wait_for: Wait) -> None:
    before = running.status()["encoded"]
    moved, copy = running.folder / "moved.jpg", running.folder / "sub" / "copy.jpg"
    (running.folder / "0.jpg").rename(moved)
    wait_for(lambda: running.holders(moved) == [str(moved)])
    copy.parent.mkdir()
    shutil.copyfile(moved, copy)
    wait_for(lambda: running.holders(moved) == sorted([str(moved), str(copy)]))
    (running.folder / "sub").rename(running.folder / "renamed")
    wait_for(lambda: running.holders(moved) == sorted([str(moved), str(running.folder / "renamed" / "copy.jpg")]))
    human = running.command("search", moved, "-n", "1").stdout.decode().splitlines()
    assert len(human) == 2
    assert human[1].lstrip().startswith("=")
    assert running.up_to_date()["encoded"] == before
    running.assert_equals_disk()


def test_an_overwritten_photo_is_found_by_its_new_content_alone(running: Any, photos: Any, wait_for: Wait) -> None:
    old = shutil.copyfile(running.folder / "1.jpg", running.root / "old.jpg")
    new = photos.write(running.root / "new.jpg", 200)
    shutil.copyfile(new, running.folder / "1.jpg")
    wait_for(lambda: running.holders(new) == [str(running.folder / "1.jpg")])
    assert running.holders(old) == []


def test_status_tells_a_person_and_a_program(at_rest: Any) -> None:
    human = at_rest.command("status").stdout.decode()
    assert human.startswith("up to date")
    for word in ("folders", "photos", "pending", "models", "stores", "data", str(at_rest.folder)):
        assert word in human
    status = at_rest.status()
    assert (status["photos"], status["files"], status["pending"], status["failures"]) == (6, 6, 0, 0)
    assert [store["state"] for store in status["stores"]] == ["ok", "ok"]
    assert status["folders"][0]["watch"] == "events"


def test_once_indexes_reports_and_ends_and_the_second_time_encodes_nothing(lookalike: Any, photos: Any) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    (lookalike.folder / "bad.jpg").write_bytes(b"no image")
    first = lookalike.once()
    assert first.returncode == 0
    assert "1 photo in 1 file" in first.stderr.decode()
    assert "encoded 1 photo" in first.stderr.decode()
    assert "bad.jpg" in first.stderr.decode()
    assert first.stdout == b""
    second = lookalike.once()
    assert second.returncode == 0
    assert "encoded 0 photo" in second.stderr.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_in_the_middle_leaves_a_consistent_index(
    lookalike: Any, photos: Any, wait_for: Wait, number: signal.Signals
) -> None:
    photos.fill(lookalike.folder, 250)
    lookalike.start()
    wait_for(lambda: 0 < lookalike.status()["encoded"] < 250)
    assert lookalike.stop(number) == 0
    lookalike.start()
    status = lookalike.up_to_date()
    assert 0 < status["encoded"] < 250, "what was written is not encoded again"
    assert (status["photos"], status["files"]) == (250, 250)


def test_a_killed_daemon_leaves_nothing_that_the_next_start_cannot_take_over(
    lookalike: Any, photos: Any, wait_for: Wait
) -> None:
    photos.fill(lookalike.folder, 120)
    lookalike.start()
    wait_for(lambda: lookalike.status()["encoded"] > 0)
    lookalike.stop(signal.SIGKILL)
    (lookalike.folder / "0.jpg").unlink()
    (lookalike.folder / "1.jpg").rename(lookalike.folder / "one.jpg")
    lookalike.start()
    status = lookalike.up_to_date()
    assert (status["photos"], status["files"]) == (119, 119)
    assert lookalike.holders(lookalike.folder / "one.jpg") == [str(lookalike.folder / "one.jpg")]


@pytest.mark.parametrize("name", ["valkey-server", "milvus_lite_server"])
def test_a_store_that_is_killed_is_started_again_and_nothing_is_lost(
    running: Any, photos: Any, wait_for: Wait, name: str
) -> None:
    victim = next(child for child in running.children if name in " ".join(child.cmdline()))
    victim.kill()
    new = photos.write(running.folder / "new.jpg", 300)
    wait_for(lambda: sum(store["restarts"] for store in running.status()["stores"]) == 1)
    wait_for(lambda: running.status()["state"] == "up to date" and running.holders(new) == [str(new)])
    running.assert_equals_disk()
    running.children += psutil.Process(running.process.pid).children(recursive=True)


def test_what_changed_while_the_daemon_was_down_is_found_at_its_start(running: Any, photos: Any) -> None:
    running.stop()
    photos.write(running.folder / "added.jpg", 400)
    photos.write(running.folder / "1.jpg", 401)
    (running.folder / "2.jpg").unlink()
    (running.folder / "3.jpg").rename(running.folder / "renamed.jpg")
    running.start()
    assert running.up_to_date()["encoded"] == 2
    running.assert_equals_disk()


class Writes(FileSystemEventHandler):
    """Everything done below a folder but reading: a file that was opened for writing counts, even if nothing was written."""

    def __init__(self) -> None:
        self.seen: list[FileSystemEvent] = []

    def on_any_event(self, event: FileSystemEvent) -> None:
        if not isinstance(event, FileOpenedEvent | FileClosedNoWriteEvent):
            self.seen.append(event)


@contextmanager
def writes_below(folder: Path) -> Iterator[Writes]:
    """Watch a folder from here, since not even their own user sees which files the decoders have open."""
    writes, observer = Writes(), Observer()
    observer.schedule(writes, str(folder), recursive=True)
    observer.start()
    try:
        yield writes
    finally:
        observer.stop()
        observer.join()


def test_nothing_is_ever_written_below_a_watched_folder(lookalike: Any, photos: Any, wait_for: Wait) -> None:
    for seed in range(60):
        photos.write(lookalike.folder / str(seed % 3) / f"{seed}.jpg", seed)
    (lookalike.folder / "bad.jpg").write_bytes(b"no image")
    before = snapshot(lookalike.folder)
    with writes_below(lookalike.folder) as writes:
        lookalike.start()
        lookalike.up_to_date()
        lookalike.search(lookalike.folder / "0" / "0.jpg")
        lookalike.stop()
        assert snapshot(lookalike.folder) == before
        # The kernel reports in order, so whatever came before the mark has been seen when the mark has.
        mark = lookalike.folder / "0" / "mark"
        mark.touch()
        wait_for(lambda: any(event.src_path == str(mark) for event in writes.seen))
        first = writes.seen[0]
    assert (first.event_type, first.src_path) == ("created", str(mark)), writes.seen


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode, content)
    return found


def test_no_socket_of_the_internet_is_opened(lookalike: Any, photos: Any) -> None:
    """In a network of its own every such socket is the daemon's, or that of a process it started."""
    lookalike.before = entering("--net")
    if reason := refusal(*lookalike.before, "true"):
        pytest.skip(reason)
    photos.fill(lookalike.folder, 6)
    lookalike.start()
    lookalike.up_to_date()
    lookalike.search(lookalike.folder / "0.jpg")
    tables = [
        Path(f"/proc/{lookalike.process.pid}/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
    ]
    assert tables[0].exists()
    assert [line for table in tables if table.exists() for line in table.read_text().splitlines()[1:]] == []


def test_a_second_daemon_says_so_in_one_sentence_and_leaves_the_first_alone(at_rest: Any) -> None:
    second = at_rest.daemon("run", at_rest.folder)
    assert second.returncode == 1
    (line,) = second.stderr.decode().strip().splitlines()
    assert f"{at_rest.data_dir} is locked by process {at_rest.process.pid} (lookaliked run {at_rest.folder}" in line
    assert at_rest.status()["state"] == "up to date"


def test_without_a_daemon_the_command_that_starts_it_is_said(lookalike: Any, photos: Any) -> None:
    done = lookalike.command("search", photos.write(lookalike.root / "a.jpg", 1))
    assert done.returncode == 69
    (line,) = done.stderr.decode().splitlines()
    assert "lookaliked run" in line
    assert done.stdout == b""


def test_photos_of_the_real_world_are_found_by_what_is_on_them(lookalike: Any) -> None:
    for name in ("china.jpg", "flower.jpg"):
        Image.fromarray(sklearn.datasets.load_sample_image(name)).save(lookalike.folder / name, quality=90)
    for name in ("coffee", "chelsea", "rocket", "astronaut"):
        Image.fromarray(getattr(skimage.data, name)()).save(lookalike.folder / f"{name}.png")
    lookalike.start()
    assert lookalike.up_to_date()["photos"] == 6
    smaller = lookalike.root / "smaller.webp"
    Image.fromarray(skimage.data.chelsea()).resize((200, 133)).save(smaller)
    best = lookalike.search(smaller, "--limit", "1")["results"][0]
    assert best["paths"] == [str(lookalike.folder / "chelsea.png")]
    assert best["score"] > 0.8


def test_photos_are_found_by_words_with_what_is_installed_and_no_configuration(lookalike: Any) -> None:
    for name in ("china.jpg", "flower.jpg"):
        Image.fromarray(sklearn.datasets.load_sample_image(name)).save(lookalike.folder / name, quality=90)
    for name in ("coffee", "chelsea", "rocket", "astronaut"):
        Image.fromarray(getattr(skimage.data, name)()).save(lookalike.folder / f"{name}.png")
    lookalike.start(lookalike.folder)
    status = lookalike.up_to_date()
    assert [(model["name"], model["photos"], model["text"]) for model in status["models"]] == [
        ("efficientnet-lite0", 6, False),
        ("words", 6, True),
    ]
    # One graph serves both.
    assert status["encoded"] == 6
    for text, name in (("cat", "chelsea.png"), ("a rocket", "rocket.png"), ("cup of coffee", "coffee.png")):
        best = lookalike.command("search", text, "-n", "1", "--paths").stdout.decode()
        assert best == f"{lookalike.folder / name}\n"
    mixed = lookalike.command("search", "cat", "-", "2:coffee", "--paths").stdout.decode().splitlines()
    assert mixed[-1] == str(lookalike.folder / "coffee.png")
    both = lookalike.command("search", lookalike.folder / "chelsea.png", "--fuse", "rrf", "-n", "1", "--paths").stdout
    assert both.decode() == f"{lookalike.folder / 'chelsea.png'}\n"
    compared = lookalike.command("compare", lookalike.folder / "chelsea.png", "-n", "3").stdout.decode()
    assert "efficientnet-lite0 (cosine)" in compared
    assert "words (cosine)" in compared


def test_without_a_model_that_understands_words_a_sentence_says_which_would_do(at_rest: Any) -> None:
    done = at_rest.command("search", "elephant")
    assert (done.returncode, done.stdout) == (1, b"")
    # Its packages are installed; only its line in the configuration is missing.
    assert done.stderr == b"no model here understands text; add words to 'models' in the configuration\n"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/photos beside the clone")
def test_a_library_of_cameras_and_formats_is_indexed_and_its_damaged_files_are_listed(lookalike: Any) -> None:
    for name in ("cameras", "formats", "odd"):
        shutil.copytree(SHARED / name, lookalike.folder / name)
    lookalike.start()
    status = lookalike.up_to_date()
    assert status["files"] > 40
    assert 0 < status["failures"] < 15
    heic = next((lookalike.folder / "cameras").glob("*.HEIC"))
    assert lookalike.holders(heic) == [str(heic)]


def test_ctrl_c_in_a_terminal_which_signals_the_whole_group_does_not_reach_the_stores(
    lookalike: Any, photos: Any
) -> None:
    photos.write(lookalike.folder / "a.jpg", 1)
    lookalike.start()
    lookalike.up_to_date()
    group = os.getpgid(lookalike.process.pid)
    # Two stores, and the decoders.
    children = [child for child in lookalike.children if "lookaliked" not in " ".join(child.cmdline())]
    assert len(children) > 2
    assert all(os.getpgid(child.pid) != group for child in children)
