"""The index against a plain dictionary: whatever is done to a folder and to the processes, both hold the same files in the end.

LOOKALIKE_MODEL_STEPS=5000 makes a longer run of it with other choices each time; `--hypothesis-seed` repeats one.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.drills.installation import DAEMON, MILVUS, VALKEY, Installation
from tests.drills.oracle import Disk, photo_id
from tests.drills.photos import photo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKED_STEPS = os.environ.get("LOOKALIKE_MODEL_STEPS")
STEPS = int(ASKED_STEPS or 300)
STEPS_AN_EXAMPLE = 30
STEPS_A_COMPARISON = 10
"""Between two comparisons, which take a second."""
SECONDS_A_STEP = 2

DIRECTORIES = ("", "a", "b", "a/c", "a/c/d", "Ümlaut [1]", os.fsdecode(b"bytes \xff"))
NAMES = ("1.jpg", "2.jpg", "3.png", "4 ß.jpg", os.fsdecode(b"5\xfe.jpg"))
NO_MEDIA = ".nomedia"
COMPARE = "  compare"

directories = st.sampled_from(DIRECTORIES)
names = st.sampled_from(NAMES)
# Few enough that some photos have copies.
contents = st.integers(0, 40).map(lambda seed: photo(Random(seed)))


class Library(RuleBasedStateMachine):
    """A directory of its own in the watched folder, and what it should hold."""

    installation: Installation
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.top = self.installation.folder / f"example-{next(self.numbers)}"
        self.outside = self.installation.root / "outside"
        self.top.mkdir()
        self.files: dict[Path, bytes] = {}
        """Path -> content, of hidden files too."""
        self.moved_out: dict[Path, bytes] = {}
        self.struck = False
        self.compared_after = 0
        self.steps: list[str] = []

    @initialize(seeds=st.lists(st.integers(0, 40), min_size=3, max_size=6))
    def begin(self, seeds: list[int]) -> None:
        for seed, (directory, name) in zip(seeds, itertools.product(DIRECTORIES[1:4], NAMES[:2]), strict=False):
            self.write(directory, name, photo(Random(seed)))

    # Files

    @rule(directory=directories, name=names, data=contents)
    def write(self, directory: str, name: str, data: bytes) -> None:
        path = self._place(directory, name)
        self._did("write", path)
        path.write_bytes(data)
        self._written(path, data)

    @rule(directory=directories, name=names, data=contents)
    def replace(self, directory: str, name: str, data: bytes) -> None:
        path = self._place(directory, name)
        self._did("replace", path)
        beside = path.with_name(f".{path.name}.part")
        beside.write_bytes(data)
        beside.replace(path)
        self.files[path] = data

    @precondition(lambda self: self.photos)
    @rule(data=st.data(), tail=st.binary(min_size=1, max_size=4))
    def append(self, data: st.DataObject, tail: bytes) -> None:
        path = self._any(data)
        self._did("append to", path)
        with path.open("ab") as file:
            file.write(tail)
        self._written(path, self.files[path] + tail)

    @precondition(lambda self: self.photos)
    @rule(data=st.data(), part=st.sampled_from([0.0, 0.1, 0.5]))
    def truncate(self, data: st.DataObject, part: float) -> None:
        """Nobody opens the file for it, and nobody closes it."""
        path = self._any(data)
        size = int(len(self.files[path]) * part)
        self._did(f"truncate to {size} bytes", path)
        os.truncate(path, size)
        self._written(path, self.files[path][:size])

    @precondition(lambda self: self.photos)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        path = self._any(data)
        self._did("touch", path)
        path.touch()

    @precondition(lambda self: self.photos)
    @rule(data=st.data(), mode=st.sampled_from([0o600, 0o644]))
    def chmod(self, data: st.DataObject, mode: int) -> None:
        path = self._any(data)
        self._did("chmod", path)
        path.chmod(mode)

    @precondition(lambda self: self.photos)
    @rule(data=st.data(), directory=directories, name=names)
    def copy(self, data: st.DataObject, directory: str, name: str) -> None:
        path, target = self._any(data), self._place(directory, name)
        if target in self.files and path.samefile(target):
            return
        self._did("copy", path, target)
        shutil.copy2(path, target)
        self._written(target, self.files[path])

    @precondition(lambda self: self.photos)
    @rule(data=st.data(), directory=directories, name=names)
    def link(self, data: st.DataObject, directory: str, name: str) -> None:
        path, target = self._any(data), self._place(directory, name)
        if target in self.files:
            return
        self._did("link", path, target)
        target.hardlink_to(path)
        self.files[target] = self.files[path]

    @precondition(lambda self: self.photos)
    @rule(data=st.data(), directory=directories, name=names)
    def move(self, data: st.DataObject, directory: str, name: str) -> None:
        path, target = self._any(data), self._place(directory, name)
        # rename(2) does nothing between two links of one file.
        if target in self.files and path.samefile(target):
            return
        self._did("move", path, target)
        path.rename(target)
        self.files[target] = self.files.pop(path)

    @precondition(lambda self: self.photos)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = self._any(data)
        self._did("delete", path)
        path.unlink()
        del self.files[path]

    # Directories

    @precondition(lambda self: self._below_top())
    @rule(data=st.data(), name=directories)
    def rename_directory(self, data: st.DataObject, name: str) -> None:
        source = self._any_directory(data)
        renamed = self.top / name
        if renamed.exists() or source in renamed.parents:
            return
        renamed.parent.mkdir(parents=True, exist_ok=True)
        self._did("rename", source, renamed)
        source.rename(renamed)
        for path in self._in(source):
            self.files[renamed / path.relative_to(source)] = self.files.pop(path)

    @precondition(lambda self: self._below_top() and not self.moved_out)
    @rule(data=st.data())
    def move_directory_out(self, data: st.DataObject) -> None:
        source = self._any_directory(data)
        shutil.rmtree(self.outside, ignore_errors=True)
        self._did("move out", source)
        source.rename(self.outside)
        self.moved_out = {path.relative_to(source): self.files.pop(path) for path in self._in(source)}

    @precondition(lambda self: self.moved_out)
    @rule(name=directories)
    def move_directory_in(self, name: str) -> None:
        directory = self.top / name
        if directory.exists():
            return
        directory.parent.mkdir(parents=True, exist_ok=True)
        self._did("move in", directory)
        self.outside.rename(directory)
        for path, data in self.moved_out.items():
            self.files[directory / path] = data
        self.moved_out = {}

    @precondition(lambda self: self._below_top())
    @rule(data=st.data())
    def delete_directory(self, data: st.DataObject) -> None:
        directory = self._any_directory(data)
        self._did("rm -r", directory)
        shutil.rmtree(directory)
        for path in self._in(directory):
            del self.files[path]

    @rule(directory=directories)
    def mark(self, directory: str) -> None:
        """Ask that a directory is left alone, or no longer."""
        path = self._place(directory, NO_MEDIA)
        self._did("mark or unmark", path)
        if path in self.files:
            path.unlink()
            del self.files[path]
        else:
            path.touch()
            self.files[path] = b""

    # Processes

    @precondition(lambda self: not self.struck)
    @rule(name=st.sampled_from([DAEMON, VALKEY, MILVUS, "in order"]))
    def end(self, name: str) -> None:
        """Once in an example, as it takes seconds: the daemon stays down until somebody starts it."""
        self.struck = True
        self._did(f"end: {name}")
        if name == "in order":
            self.installation.stop()
        else:
            self.installation.kill([name], Random(0))

    @precondition(lambda self: self.installation.process is None)
    @rule()
    def start(self) -> None:
        self._did("start")
        self.installation.launch()

    # The comparison

    @precondition(lambda self: len(self.steps) >= self.compared_after + STEPS_A_COMPARISON)
    @rule()
    def compare(self) -> None:
        self.compared_after = len(self.steps)
        self.steps.append(COMPARE)
        if self.installation.process is None:
            self.installation.launch()
        self.installation.await_in_step()
        disk = Disk.of({str(path): data for path, data in self._seen().items()} | self.anchor)
        found = self.installation.differences(disk)
        assert not found, f"{found}\nafter:\n" + "\n".join(self.steps)
        status = self.installation.status()
        assert status is not None
        counts = (status["photos"], status["files"], status["failures"])
        assert counts == (len(set(disk.photos.values())), len(disk.photos), len(disk.damaged))
        self._search(disk)

    def _search(self, disk: Disk) -> None:
        """Ask by the bytes of one photo, another one each time."""
        path = sorted(disk.photos)[len(self.steps) % len(disk.photos)]
        query = self.installation.root / "query"
        shutil.copyfile(path, query)
        done = self.installation.command("search", query, "--limit", "1", "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["query"]["id"] == answer["results"][0]["id"] == str(photo_id(query.read_bytes()))
        holders = [other for other, photo in disk.photos.items() if photo == disk.photos[path]]
        assert sorted(answer["results"][0]["paths"]) == sorted(holders)

    def teardown(self) -> None:
        try:
            # A comparison that has failed fails again, after a while.
            if self.steps and self.steps[-1] != COMPARE:
                self.compare()
        finally:
            shutil.rmtree(self.top)
            shutil.rmtree(self.outside, ignore_errors=True)

    # The dictionary

    @property
    def photos(self) -> list[Path]:
        return sorted(path for path in self.files if path.name != NO_MEDIA)

    @property
    def anchor(self) -> dict[str, bytes]:
        """The photo that keeps the folder from being empty, which would look like a missing disk."""
        path = self.installation.folder / "anchor.jpg"
        return {str(path): path.read_bytes()}

    def _seen(self) -> dict[Path, bytes]:
        """Return the files that are not hidden, nor in a directory that is marked."""
        marked = {path.parent for path in self.files if path.name == NO_MEDIA}
        return {path: self.files[path] for path in self.photos if marked.isdisjoint(path.parents)}

    def _place(self, directory: str, name: str) -> Path:
        path = self.top / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _any(self, data: st.DataObject) -> Path:
        return data.draw(st.sampled_from(self.photos))

    def _below_top(self) -> list[Path]:
        return sorted(path for path in self.top.rglob("*") if path.is_dir())

    def _any_directory(self, data: st.DataObject) -> Path:
        return data.draw(st.sampled_from(self._below_top()))

    def _in(self, directory: Path) -> list[Path]:
        return [path for path in self.files if directory in path.parents]

    def _written(self, path: Path, data: bytes) -> None:
        """The file at this path holds this: under all its names."""
        for other in self.files:
            if other.samefile(path):
                self.files[other] = data
        for outside in self.moved_out:
            if (self.outside / outside).samefile(path):
                self.moved_out[outside] = data
        self.files[path] = data

    def _did(self, what: str, *paths: Path) -> None:
        self.steps.append(f"  {what} {' -> '.join(ascii(str(path.relative_to(self.top))) for path in paths)}".rstrip())


@pytest.fixture
def installation(cache: Path) -> Iterator[Installation]:
    one = Installation(cache=cache)
    (one.folder / "anchor.jpg").write_bytes(photo(Random("anchor")))
    try:
        one.start()
        yield one
    finally:
        one.close()
    assert "Traceback" not in one.said()
    one.remove()


@pytest.mark.timeout(120 + SECONDS_A_STEP * STEPS)
def test_the_index_equals_a_dictionary_whatever_happens(installation: Installation) -> None:
    Library.installation = installation
    run_state_machine_as_test(
        Library,
        settings=settings(
            max_examples=max(1, STEPS // STEPS_AN_EXAMPLE),
            stateful_step_count=STEPS_AN_EXAMPLE,
            derandomize=not ASKED_STEPS,
            database=None,
            deadline=None,
            # Each example takes seconds, and what a race has brought about does not come again: nothing is made smaller.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
