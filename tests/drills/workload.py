"""What people and programs do to a folder of photos, at random."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING

from tests.drills.photos import SUFFIXES, photo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

FEW, MANY = 60, 200
"""Below so many files a library only grows, above so many it only shrinks."""
PAUSE_SECONDS = 0.02
DEPTH = 3


class Workload:
    """Random changes to a folder; the same numbers and the same folder give the same changes."""

    def __init__(self, folder: Path, random: Random) -> None:
        self._folder = folder
        self._random = random
        self.changes = 0
        self._growing: list[Callable[[], None]] = [self._import, self._import, self._copy, self._copy_directory]
        self._steady: list[Callable[[], None]] = [
            self._overwrite, self._replace, self._move, self._swap, self._rename_directory, self._touch, self._damage,
        ]  # fmt: skip
        self._shrinking: list[Callable[[], None]] = [self._delete, self._delete, self._delete_directory]

    def change(self) -> None:
        """Make one change."""
        files = len(self._files())
        kinds = list(self._steady)
        if files < MANY:
            kinds += self._growing
        if files > FEW:
            kinds += self._shrinking
        self._random.choice(kinds if files else self._growing[:1])()
        self.changes += 1

    def grow(self) -> None:
        """Import until there are a few."""
        while len(self._files()) <= FEW:
            self._import()

    # Growing

    def _import(self) -> None:
        directory = self._directory()
        for _ in range(self._random.randint(1, 8)):
            path = self._new(directory)
            path.write_bytes(photo(self._random, path.suffix))

    def _copy(self) -> None:
        file = self._file()
        shutil.copy2(file, self._new(self._directory(), file.suffix))

    def _copy_directory(self) -> None:
        directory = self._directory()
        target = self._new_directory(self._folder)
        if directory != self._folder and len(list(directory.rglob("*"))) < MANY // 4:
            shutil.copytree(directory, target)

    # Steady

    def _overwrite(self) -> None:
        """Write in two goes, as slow programs do."""
        file = self._file()
        data = photo(self._random, file.suffix)
        with file.open("wb") as written:
            written.write(data[: len(data) // 2])
            written.flush()
            written.write(data[len(data) // 2 :])

    def _replace(self) -> None:
        file = self._file()
        beside = file.with_name(f".{file.name}.part")
        beside.write_bytes(photo(self._random, file.suffix))
        beside.replace(file)

    def _move(self) -> None:
        file = self._file()
        file.rename(self._new(self._directory(), file.suffix))

    def _swap(self) -> None:
        one, other = self._file(), self._file()
        if one.suffix == other.suffix and one != other:
            beside = one.with_name(f".{one.name}.swap")
            one.rename(beside)
            other.rename(one)
            beside.rename(other)

    def _rename_directory(self) -> None:
        directory = self._directory()
        if directory != self._folder:
            directory.rename(self._new_directory(self._random.choice([self._folder, directory.parent])))

    def _touch(self) -> None:
        os.utime(self._file())

    def _damage(self) -> None:
        file = self._file()
        data = file.read_bytes()
        with file.open("wb") as written:
            written.write(data[: self._random.randrange(len(data) // 2 + 1)])

    # Shrinking

    def _delete(self) -> None:
        self._file().unlink()

    def _delete_directory(self) -> None:
        directory = self._directory()
        if directory != self._folder and len(list(directory.rglob("*"))) < FEW // 2:
            shutil.rmtree(directory)

    # Names

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.rglob("*") if path.suffix in SUFFIXES)

    def _file(self) -> Path:
        return self._random.choice(self._files())

    def _directory(self) -> Path:
        """Return a directory that is there, the folder itself among them; at times a new one, made with what leads to it."""
        directories = sorted(path for path in self._folder.rglob("*") if path.is_dir())
        if len(directories) < DEPTH or self._random.random() < 0.1:
            parent = self._random.choice([self._folder, *directories])
            if len(parent.relative_to(self._folder).parts) < DEPTH:
                made = self._new_directory(parent)
                made.mkdir()
                return made
        return self._random.choice([self._folder, *directories])

    def _new(self, directory: Path, suffix: str = "") -> Path:
        return directory / f"{self._name()}{suffix or self._random.choice(SUFFIXES)}"

    def _new_directory(self, parent: Path) -> Path:
        return parent / f"{self._name()}.d"

    def _name(self) -> str:
        """Return a name that no other workload uses: names come back when photos move, not by chance."""
        return f"{self._random.getrandbits(48):012x}"


class Busy:
    """A workload that goes on in a thread for as long as the block lasts."""

    def __init__(self, workload: Workload, random: Random) -> None:
        self._workload = workload
        self._random = random
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="workload")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._random.random() * 2 * PAUSE_SECONDS):
                self._workload.change()
        except BaseException as error:  # noqa: BLE001 - raised again where the block ends
            self._error = error
