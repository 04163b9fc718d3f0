"""Counts of what is watched, and what is excluded: neither missing nor shown, whatever its number."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.end_to_end.conftest import Lookalike, Photos

PRIVATE = 12
A_DIRECTORY = 10
PUBLIC = 250


class Hiding:
    """A library with twelve directories, more than a third of it, that somebody wants to hide; and its configuration."""

    def __init__(self, one: Lookalike, photos: Photos) -> None:
        self.one, self.photos = one, photos
        self.file, self.other = one.root / "lookalike.yaml", one.root / "other"
        self.other.mkdir()
        self.private = [one.folder / f"private {n}" for n in range(PRIVATE)]
        for number in range(PUBLIC):
            photos.write(one.folder / f"public/{number}.jpg", number)
        for number in range(PRIVATE * A_DIRECTORY):
            photos.write(self.private[number % PRIVATE] / f"{number}.jpg", PUBLIC + number)
        # One of the private photos lies among the public ones, too.
        self.photos.write(one.folder / "public/copy.jpg", PUBLIC)

    def configure(self, *folders: Path, ignore: str = "") -> None:
        listed = ", ".join(f"'{folder}'" for folder in folders or (self.one.folder,))
        ignored = f'watch: {{ignore: [".*", "{ignore}"]}}' if ignore else ""
        whole = self.file.with_suffix(".new")
        whole.write_text(f"folders: [{listed}]\nmodels: [efficientnet-lite0]\n{ignored}\n", encoding="utf-8")
        whole.replace(self.file)

    def reload(self) -> None:
        self._run("reload")

    def sync(self) -> None:
        self._run("sync")

    def _run(self, *arguments: str) -> str:
        status, answer, complaint = self.one.asked(*arguments)
        assert status == 0, complaint
        return answer

    def shown(self, photo: Path) -> list[str]:
        """Return every path of an answer about a photo, which is asked for by its bytes from another place."""
        query = self.one.root / "query"
        query.write_bytes(photo.read_bytes())
        answer = self.one.search(query, "--limit", "1000")
        paths = [path for result in answer["results"] for path in result["paths"]]
        if not any("private" in path for path in paths):
            known = [result["id"] for result in answer["results"]]
            assert answer["query"]["id"] in (None, *known)
        return paths

    def counts(self) -> tuple[int, int, int, int, int]:
        """Return photos, files, held deletions, and how many photos the model knows of how many."""
        status = self.one.status()
        (model,) = status["models"]
        return status["photos"], status["files"], status["held_deletions"], model["photos"], model["of"]

    def assert_hidden(self, wait_for: Any) -> None:
        """Assert that what is private is gone from the answers now, and from the index soon, as if it had never been there."""
        photo = max(self.private[-1].glob("*.jpg"))
        assert not [path for path in self.shown(photo) if "private" in path]
        # It is no photo of the library: its bytes are asked about.
        assert self.one.search(photo)["query"] == {"by": "bytes", "id": None}
        wait_for(lambda: self.counts() == (PUBLIC + 1, PUBLIC + 1, 0, PUBLIC + 1, PUBLIC + 1), "it leaves the index")
        assert "No deletions are held." in self.one.asked("deletions", "list")[2]
        assert self.one.status()["reasons"] == []
        assert self.one.asked("verify")[0] == 0
        copy = str(self.one.folder / "public/copy.jpg")
        assert self.shown(self.private[0] / "0.jpg")[0] == copy

    def assert_back(self, encoded: int) -> None:
        """Assert that all is there again, and that nothing was encoded for it."""
        files = PUBLIC + 1 + PRIVATE * A_DIRECTORY
        assert self.counts() == (files - 1, files, 0, files - 1, files - 1)
        assert self.one.status()["encoded"] == encoded
        for directory in (self.private[0], self.private[-1]):
            photo = max(directory.glob("*.jpg"))
            assert self.shown(photo)[0] == str(photo)
        assert self.one.asked("verify")[0] == 0


@pytest.fixture(scope="module")
def hiding(shared_lookalike: Lookalike, photos: Photos) -> Iterator[Hiding]:
    """One for all tests, which leave it as it was."""
    one = Hiding(shared_lookalike, photos)
    one.configure()
    shared_lookalike.start("--config", one.file)
    one.sync()
    assert one.counts()[0] == PUBLIC + PRIVATE * A_DIRECTORY
    yield one
    assert "Traceback" not in shared_lookalike.said()


def by_name_and_reload(hiding: Hiding) -> Callable[[], None]:
    hiding.configure(ignore="private *")
    hiding.reload()

    def end() -> None:
        hiding.configure()
        hiding.reload()

    return end


def by_marker(hiding: Hiding) -> Callable[[], None]:
    for directory in hiding.private:
        (directory / ".nomedia").touch()

    def end() -> None:
        for directory in hiding.private:
            (directory / ".nomedia").unlink()

    return end


def by_marker_while_nobody_looks(hiding: Hiding) -> Callable[[], None]:
    hiding.one.stop()
    end = by_marker(hiding)
    hiding.one.start("--config", hiding.file)
    return end


@pytest.mark.timeout(300)
@pytest.mark.parametrize("hide", [by_name_and_reload, by_marker, by_marker_while_nobody_looks])
def test_what_is_excluded_is_neither_missing_nor_shown_and_comes_back_without_being_encoded(
    hiding: Hiding, hide: Callable[[Hiding], Callable[[], None]], wait_for: Any
) -> None:
    encoded = 0 if hide is by_marker_while_nobody_looks else hiding.one.status()["encoded"]
    end = hide(hiding)
    if hide is by_marker:
        wait_for(
            lambda: not any("private" in path for path in hiding.shown(hiding.private[-1] / f"{PRIVATE - 1}.jpg")),
            "the events come",
        )
    hiding.assert_hidden(wait_for)
    end()
    hiding.sync()
    hiding.assert_back(encoded)


@pytest.mark.timeout(300)
def test_files_that_look_like_pictures_and_are_not_read_are_counted_and_listed(hiding: Hiding) -> None:
    one, raw = hiding.one, hiding.one.folder / "raw"
    assert one.status()["skipped"] == {}
    raw.mkdir()
    names = ["a.CR2", "b.cr2", "c.jxl", "d.insp", "e.jpg_original", "no extension"]
    for name in names:
        (raw / name).write_bytes(hiding.photos.data(1))
    (raw / "notes.txt").write_bytes(b"a" * 100)
    (raw / "README").write_bytes(b"a" * 100)
    hiding.sync()
    assert one.status()["skipped"] == {".cr2": 2, "": 1, ".insp": 1, ".jpg_original": 1, ".jxl": 1}
    sentence = "6 files look like pictures and are not read (2 .cr2, 1 without an extension, 1 .insp"
    assert sentence in one.asked("status")[1]
    status, listed, notice = one.asked("failures", "--skipped")
    assert (status, listed.splitlines()) == (0, [str(raw / name) for name in names])
    assert sentence in notice
    found = json.loads(one.command("failures", "--skipped", raw / "c.jxl", "--json").stdout)
    assert found == {"schema": 1, "skipped": [{"path": str(raw / "c.jxl"), "extension": ".jxl"}], "more": False}
    shutil.rmtree(raw)
    hiding.sync()
    assert one.status()["skipped"] == {}
    assert one.asked("failures", "--skipped")[1] == ""


@pytest.mark.timeout(300)
def test_what_is_not_watched_any_more_counts_nowhere_and_can_be_forgotten(hiding: Hiding, wait_for: Any) -> None:
    one = hiding.one
    # What was kept of it is encoded anew at most here, at the end.
    for number in range(6):
        hiding.photos.write(hiding.other / f"{number}.jpg", number + 10_000)
    (one.folder / "bad.jpg").write_bytes(b"no photo")
    hiding.sync()
    assert one.status()["failures"] == 1
    assert one.status()["unwatched"] is None

    hiding.configure(hiding.other)
    hiding.reload()
    hiding.sync()
    wait_for(lambda: hiding.counts() == (6, 6, 0, 6, 6), "only what is watched counts")
    status, photos, files = one.status(), PUBLIC + PRIVATE * A_DIRECTORY, PUBLIC + PRIVATE * A_DIRECTORY + 1
    assert (status["state"], status["failures"]) == ("up to date", 0)
    assert status["unwatched"] == {
        "photos": photos, "files": files, "failures": 1, "folders": [{"path": str(one.folder), "files": files}],
    }  # fmt: skip
    said = one.asked("status")[1]
    assert f"{photos} photos in {files} files, and 1 failure are kept of {one.folder}; lookalike forget" in said
    query = one.command("search", hiding.other / "1.jpg")
    assert query.returncode == 0
    assert b"knows" not in query.stderr, "a model is said to lack photos that are not watched"
    assert "No failures" in one.asked("failures")[2]
    assert one.asked("verify")[0] == 0

    refused = one.asked("forget", "--yes", hiding.other)
    assert refused[0] == 1
    assert "is watched" in refused[2]
    assert one.asked("forget", one.folder)[0] == 1, "nobody was asked"
    counted = json.loads(one.command("forget", one.folder, "--dry-run", "--json").stdout)
    assert counted == {
        "schema": 1, "path": str(one.folder), "files": files, "photos": photos, "failures": 1, "dry_run": True,
    }  # fmt: skip
    assert one.status()["unwatched"] is not None
    assert one.asked("forget", "--yes", one.folder)[0] == 0
    wait_for(lambda: one.status()["unwatched"] is None, "nothing is kept")
    assert hiding.counts() == (6, 6, 0, 6, 6)
    assert one.asked("verify")[0] == 0
    assert one.asked("forget", "--yes", one.folder)[0] == 1
