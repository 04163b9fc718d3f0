"""Notes which photos are in hand, so that the next process knows them after a crash, and lets a thread work on one photo alone.

A note is one write of a few microseconds and is never synced: the page cache of the kernel survives a crash of this process. Notes from
before the last boot do not count, because the machine ended the process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import struct
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from daemon import ownership

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

DIRECTORY = "in_hand"
SUSPECTS = "suspects.json"
MOST_BYTES = 64 * 1024 * 1024
"""How much of a file of notes is read."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CRASHES = 2
"""A crash may have another cause. So a photo is blamed only for its second crash, and only when nothing else was in hand."""
Stage = Literal["look", "work"]
"""The pipeline looks at a photo first; reading, encoding and recording it are the work."""
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Photo:
    """A file in hand: its path, and its size, mtime_ns and inode once the pipeline knows them."""

    path: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A file that was in hand at so many crashes; `stage` and `is_blamed`, that it was alone, are about the last of them."""

    crashes: int
    state: str
    stage: Stage
    is_blamed: bool = False

    def is_still(self, state: str) -> bool:
        """Return whether a file with this state may be the one that was in hand."""
        return not self.state or self.state == state


def suspected(before: dict[str, Suspect], notes: Sequence[tuple[Stage, Sequence[Photo]]]) -> dict[str, Suspect]:
    """Return the suspects after a crash that left `notes`; `before` are the earlier suspects."""
    found = dict(before)
    in_hand = [(stage, photo) for stage, photos in notes for photo in photos]
    for stage, photo in in_hand:
        known = before.get(photo.path)
        crashes = 1 + (known.crashes if known is not None and (not photo.state or known.is_still(photo.state)) else 0)
        is_blamed = crashes >= CRASHES and len(in_hand) == 1
        found[photo.path] = Suspect(crashes, photo.state, stage, is_blamed)
    return found


class InHand:
    """Notes what is in hand below `data_dir`; without one it notes nothing.

    Several threads may have photos in hand, until one asks to be alone: then the others wait. The thread that works alone owns the
    suspects. Call `begin` before the other threads start.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        self._directory = data_dir and data_dir / DIRECTORY
        self._changed = threading.Condition()
        self._at_work = 0
        self._alone: int | None = None
        self._is_open = False
        self._free: list[_Note] = []
        self._notes: list[_Note] = []
        self._suspects: dict[str, Suspect] = {}

    def begin(self) -> None:
        """Learn which photos the previous process had in hand when it crashed, and begin to note those of this process."""
        if self._directory is None:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            ownership.check_directories(self._directory)
            self._learn(self._directory)
            self._is_open = True
        except OSError as error:
            self._cannot(error)

    def end(self) -> None:
        """Clear all notes, even of work that still runs, and let nobody wait any more: an orderly stop is no crash."""
        with self._changed:
            notes, free, self._notes, self._free = self._notes, self._free, [], []
            self._is_open, self._alone = False, None
            self._changed.notify_all()
        for note in notes:
            note.remove()
        for note in free:
            note.close()

    # Suspects

    @property
    def suspects(self) -> dict[str, Suspect]:
        """The files to work on alone, or to blame, by path."""
        return dict(self._suspects)

    def acquit(self, path: str) -> None:
        """Drop a suspect: the pipeline has worked on it alone, or has recorded its failure."""
        if self._suspects.pop(path, None) is not None and self._directory is not None:
            try:
                self._write_suspects(self._directory)
            except OSError as error:
                self._cannot(error)

    # What is in hand

    @contextlib.contextmanager
    def noted(self, stage: Stage, photos: Sequence[Photo]) -> Iterator[None]:
        """Note these photos while the block runs. The block must not wait for another thread that has photos in hand."""
        note = self._begin_work()
        try:
            if note is not None:
                note.write(stage, photos)
            yield
        finally:
            if note is not None:
                note.clear()
            self._end_work(note)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no thread has photos in hand, and keep all others from it while the block runs. For one thread."""
        with self._changed:
            self._alone = threading.get_ident() if self._is_open else None
            self._changed.wait_for(lambda: not self._at_work or self._alone is None)
        try:
            yield
        finally:
            with self._changed:
                self._alone = None
                self._changed.notify_all()

    def _begin_work(self) -> _Note | None:
        with self._changed:
            self._changed.wait_for(lambda: self._alone in (None, threading.get_ident()))
            self._at_work += 1
            if self._free:
                return self._free.pop()
            if not self._is_open or self._directory is None:
                return None
            note = _Note(self._directory / str(len(self._notes)))
            self._notes.append(note)
            return note

    def _end_work(self, note: _Note | None) -> None:
        with self._changed:
            self._at_work -= 1
            self._changed.notify_all()
            if note in self._notes:
                self._free.append(note)
                return
        if note is not None:
            # end() has cleared all notes meanwhile.
            note.close()

    # What was in hand

    def _learn(self, directory: Path) -> None:
        boot = _boot()
        files = sorted(file for file in directory.iterdir() if file.name.isdigit())
        known = _read_json(directory / SUSPECTS)
        before = {path: Suspect(**one) for path, one in known.get("suspects", {}).items()}
        notes = [note for file in files if (note := _read_note(file)) is not None]
        is_crash = bool(notes) and known.get("boot") == boot
        self._suspects = suspected(before, notes) if is_crash else before
        self._write_suspects(directory)
        for file in files:
            file.unlink()
        if is_crash:
            self._tell(sum(len(photos) for _, photos in notes))

    def _tell(self, in_hand: int) -> None:
        log.warning(
            "lookaliked crashed or was killed while it worked on photos (%d); it tries each of them again, alone",
            in_hand,
        )

    def _write_suspects(self, directory: Path) -> None:
        suspects = {path: asdict(one) for path, one in self._suspects.items()}
        written = directory / f"{SUSPECTS}.new"
        ownership.write_file(written, json.dumps({"boot": _boot(), "suspects": suspects}).encode("ascii"))
        written.replace(directory / SUSPECTS)

    def _cannot(self, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        log.warning("lookaliked cannot note in %s which photos it works on: %s", self._directory, reason)


class _Note:
    """A file that names the photos of one thread at a time. It keeps its blocks, so that a full disk seldom matters."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    def write(self, stage: Stage, photos: Sequence[Photo]) -> None:
        said = json.dumps([stage, [[photo.path, photo.state] for photo in photos]]).encode("ascii")
        self._put(_LENGTH.pack(len(said)) + said)

    def clear(self) -> None:
        self._put(_LENGTH.pack(0))

    def remove(self) -> None:
        """Delete the file, even while a thread still writes to it."""
        with contextlib.suppress(OSError):
            self._file.unlink()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _put(self, data: bytes) -> None:
        # Without a note, a crash stays unexplained; that is no reason to stop working.
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = ownership.open_file(self._file, os.O_WRONLY | os.O_CREAT)
            os.pwrite(self._descriptor, data, 0)


def _read_note(file: Path) -> tuple[Stage, list[Photo]] | None:
    """Return the stage and the photos of a note; None when nothing was in hand, or when the note is not whole."""
    data = ownership.read_file(file, MOST_BYTES, owners={os.geteuid()})
    try:
        (length,) = _LENGTH.unpack_from(data)
        said = data[_LENGTH.size : _LENGTH.size + length]
        if not length or len(said) < length:
            return None
        stage, photos = json.loads(said)
        return stage, [Photo(*photo) for photo in photos]
    except (struct.error, ValueError, TypeError):
        return None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(ownership.read_file(file, MOST_BYTES, owners={os.geteuid()}))
    except (FileNotFoundError, ValueError):
        # A power cut may leave it empty.
        return {}
    return found if isinstance(found, dict) else {}


def _boot() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
