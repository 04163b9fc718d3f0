"""A watched folder, disks that are mounted in it for real, the daemon that watches it, and the model of what that has to say."""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeVar

from tests.drills import asking
from tests.drills.disk_model import File, Inode, Model, View
from tests.drills.installation import DAEMON, DrillError, Installation, wait_for
from tests.drills.namespace import Namespace
from tests.drills.oracle import Differences, Disk, photo_id
from tests.drills.photos import SUFFIXES, photo

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")


LIBRARY = "home/photos"
"""Its parent belongs to the drill too, and is renamed."""
SETTINGS = """
folders: ['{folder}']
# A folder that is away is held whatever these say. Of a disk that is there, a drill deletes as much as it likes.
watch: {{max_delete_count: 1000000, max_delete_ratio: 1.0, poll_seconds: 1, settle_seconds: 0.3}}
search: {{max_limit: 1000}}
"""
MOUNT_POINTS = ("disk", "other", "twin")
BOUND = "orig"
"""A directory that is mounted a second time at the last of them."""
DISKS = ("red", "green")
SETTLE_SECONDS = 12.0
POLL_SECONDS = 0.1
UNMOUNT_SECONDS = 10.0


class World:
    """Everything that a drill or a test changes, and the one question whether the daemon agrees."""

    def __init__(self, cache: Path, seed: str = "0") -> None:
        self.installation = Installation(cache=cache, library=LIBRARY, settings=SETTINGS)
        self.namespace = Namespace()
        self.installation.before = self.namespace.before
        self.folder = self.installation.folder
        self.model = Model()
        self.steps: list[str] = []
        self._photos = (photo(Random(f"{seed}/{number}")) for number in itertools.count())
        self._names = (f"n{number}" for number in itertools.count())
        self.disks: set[str] = set()
        self._away: list[tuple[Path, Path]] = []
        """What was renamed: where it was, and where it is."""
        self._begin()

    def _begin(self) -> None:
        self.stash = self.installation.root / next(self._names)
        """Where each disk is mounted all the time, as on another machine."""
        for disk in DISKS:
            self._insert(disk)
        for directory in (".", BOUND):
            self.write(self.folder / directory / "1.jpg")
        for name in MOUNT_POINTS:
            (self.folder / name).mkdir()

    def _insert(self, disk: str) -> None:
        """Make a disk with a photo of a name that is on every disk, and two of its own."""
        stashed = self.stash / disk
        stashed.mkdir(parents=True)
        self.namespace.run("mount", "-t", "tmpfs", disk, stashed)
        for name in ("1.jpg", f"{disk}.jpg", f"trip/{disk}.jpg"):
            self.write(stashed / name)
        self.disks.add(disk)

    def start(self) -> None:
        """Start the daemon, and return when it answers."""
        self.did("start the daemon")
        self.installation.start()

    def stop(self) -> None:
        self.did("stop the daemon")
        self.installation.stop()

    def kill(self) -> None:
        self.did("kill the daemon")
        self.installation.kill([DAEMON], Random(0))

    def close(self) -> None:
        self.installation.close()
        self.namespace.close()

    def remove(self) -> None:
        self.close()
        self.installation.remove()

    def reset(self) -> None:
        """Begin anew with the same daemon: with other photos, no disk mounted, and nothing held. AssertionError when it does not get there.

        Nothing is removed, for no inode may come back as another directory.
        """
        if self.installation.process is None:
            self.start()
        below = f"{self.installation.root}/"
        for point in reversed([line.split(" ")[4] for line in self.namespace.mount_table.splitlines()]):
            if point.startswith(below):
                self.namespace.run("umount", "--lazy", point)
        while self._away:
            self.rename_back()
        attic = self.installation.root / next(self._names)
        attic.mkdir()
        for path in list(self.folder.iterdir()):
            path.rename(attic / path.name)
        self.disks.clear()
        self._begin()
        asking.sync(self.installation)
        if self.listed():
            asking.decide(self.installation, "approve", self.folder)
        self.steps.clear()
        self.model = Model()
        self.agree()

    # The comparison

    def agree(self) -> None:
        """Assert that the daemon comes to agree with the model, and stays so."""
        assert not (found := self.settle()), "\n".join(
            [str(found), "after:", *self.steps, self.installation.said()[-2000:]]
        )

    def settle(self) -> Differences:
        """Give the daemon the time to see what was done, and return where it then differs from the model.

        It has to notice by itself within SETTLE_SECONDS, agree in every answer after that, and stay so when everything is compared anew.
        """
        if self.installation.process is None:
            return Differences()
        self.model.observe(self.view())
        unnoticed = not self._comes_true(lambda: self.model.shows(*self.search()))
        self._comes_true(lambda: not self._compared())
        found = self._compared()
        if unnoticed and not found:
            found.ghosts.append(
                f"ghost: a search showed what was before, for {SETTLE_SECONDS:g} s, until a sync was asked for"
            )
        return found

    def _comes_true(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not (came := condition()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return came

    def _compared(self) -> Differences:
        asking.sync(self.installation)
        answers = asking.answers(self.installation, self.folder, self._known())
        found = self.model.differences(answers)
        if not found:
            self.model.agree(answers)
        return found

    def view(self) -> View:
        """Look at the disk."""
        volumes = {str(top): self._volume(top) for top in [self.folder, *self.mounts()] if self.is_there(top)}
        return View(volumes, {str(path): _file(self.seen(path)) for path in self.files()})

    @property
    def encoded(self) -> int:
        """How many photos were encoded since the daemon started."""
        return asking.encoded(self.installation)

    def listed(self) -> frozenset[str]:
        """Return the paths that are listed as held."""
        return asking.listed(self.installation, self.folder)

    def search(self) -> tuple[dict[str, int], frozenset[str]]:
        """Return path -> photo of all that a search shows, and the paths that it marks as unverified."""
        return asking.search(self.installation, self._known())

    def _known(self) -> set[int]:
        return {one.file.photo for one in self.model.known.values()}

    def stored_differences(self) -> Differences:
        """Return where the stores, read by their own clients, differ from the model."""
        known = {path: one.file.photo for path, one in self.model.known.items()}
        return self.installation.differences(Disk(known, frozenset()))

    # What there is

    def seen(self, path: Path) -> Path:
        """Return where this process finds what a path leads to."""
        return self.namespace.seen(path)

    def is_there(self, path: Path) -> bool:
        return self.seen(path).is_dir()

    def mounts(self) -> list[Path]:
        """Return the mount points in the folder, itself among them, of what is not covered by another mount."""
        table = [line.split(" ") for line in self.namespace.mount_table.splitlines()]
        points = {identity: point for identity, _, _, _, point, *_ in table}
        found = {
            Path(point) for point in points.values() if point == str(self.folder) or point.startswith(f"{self.folder}/")
        }
        return sorted(point for point in found if points.get(self._mount_of(point)) == str(point))

    def _mount_of(self, path: Path) -> str:
        """Return the id of the mount that a path leads to, as the mount table has it."""
        try:
            file = os.open(self.seen(path), os.O_PATH)
        except OSError:
            return ""
        try:
            lines = Path(f"/proc/self/fdinfo/{file}").read_text(encoding="utf-8").splitlines()
        finally:
            os.close(file)
        return next(line.split()[1] for line in lines if line.startswith("mnt_id:"))

    def is_mounted(self, path: Path) -> bool:
        return path in self.mounts()

    def _volume(self, top: Path) -> str:
        seen = self.seen(top)
        return f"{os.statvfs(seen).f_fsid:x} {seen.stat().st_ino}"

    def depth(self, point: Path) -> int:
        return sum(line.split(" ")[4] == str(point) for line in self.namespace.mount_table.splitlines())

    def unplugged(self) -> list[str]:
        """Return the disks that are not mounted below the root of the drill, but where the drill keeps them."""
        plugged = dict(self.plugged())
        return sorted(self.disks - plugged.keys())

    def plugged(self) -> list[tuple[str, list[Path]]]:
        """Return each disk that is mounted anywhere else, be it covered, with the places."""
        table = [line.split(" ") for line in self.namespace.mount_table.splitlines()]
        devices = {device: Path(point).name for _, _, device, _, point, *_ in table if Path(point).parent == self.stash}
        found: dict[str, list[Path]] = {}
        for _, _, device, _, point, *_ in table:
            if device in devices and Path(point).parent != self.stash:
                found.setdefault(devices[device], []).append(Path(point))
        return sorted(found.items())

    def files(self) -> list[Path]:
        seen = self.seen(self.folder)
        found = (Path(directory, name) for directory, _, names in os.walk(seen) for name in names)
        return sorted(
            self.folder / path.relative_to(seen)
            for path in found
            if path.suffix in SUFFIXES and not path.name.startswith(".")
        )

    def directories(self) -> list[Path]:
        seen = self.seen(self.folder)
        return sorted(self.folder / Path(directory).relative_to(seen) for directory, _, _ in os.walk(seen))

    # How it is done

    @property
    def is_renamed(self) -> bool:
        """Whether the folder or its parent was renamed, and not back yet."""
        return bool(self._away)

    def mount(self, disk: str, point: Path) -> None:
        self.did(f"mount {disk}", point)
        self.namespace.run("mount", "--bind", self.stash / disk, point)

    def bind(self, source: Path, point: Path) -> None:
        self.did("bind", source, point)
        self.namespace.run("mount", "--bind", source, point)

    def unmount(self, point: Path) -> None:
        """Unmount in order, which a daemon that keeps the disk busy would prevent."""
        self.did("unmount", point)

        def done() -> bool:
            with suppress(DrillError):
                self.namespace.run("umount", point)
                return True
            return False

        wait_for(done, f"{point} can be unmounted", UNMOUNT_SECONDS)

    def unmount_lazily(self, point: Path) -> None:
        self.did("unmount lazily", point)
        self.namespace.run("umount", "--lazy", point)

    def rename_away(self, path: Path) -> None:
        renamed = self.installation.root / next(self._names)
        self.did("rename away", path)
        self.seen(path).rename(self.seen(renamed))
        self._away.append((path, renamed))

    def make_a_new_root(self, photos: int) -> None:
        self.did(f"make a new root with {photos} photos")
        made = self.installation.root / next(self._names)
        made.mkdir()
        for _ in range(photos):
            self.write(self.new(made))
        self.seen(self.folder.parent).mkdir(exist_ok=True)
        self.seen(made).rename(self.seen(self.folder))

    def rename_back(self) -> None:
        """Rename what was renamed back, and out of its way what is there now. Nothing is removed: an inode must not come back."""
        was, now = self._away.pop()
        self.did("rename back", was)
        if self.is_there(was):
            self.seen(was).rename(self.seen(self.installation.root / next(self._names)))
        self.seen(now).rename(self.seen(was))

    def lose(self, disk: str) -> None:
        """Unmount a disk wherever it is mounted: it never comes back."""
        self.did(f"lose {disk}")
        for point in reversed(dict(self.plugged()).get(disk, [])):
            self.namespace.run("umount", "--lazy", point)
        self.namespace.run("umount", self.stash / disk)
        self.disks.remove(disk)

    def approve(self) -> None:
        self.did("approve")
        self.model.approve(asking.decide(self.installation, "approve", self.folder))

    def reject(self) -> None:
        self.did("reject")
        asking.decide(self.installation, "reject", self.folder)
        self.model.reject()

    def new(self, directory: Path) -> Path:
        return directory / f"{next(self._names)}.jpg"

    def write(self, path: Path) -> None:
        seen = self.seen(path)
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.write_bytes(next(self._photos))

    def did(self, what: str, *paths: Path) -> None:
        self.steps.append(
            f"  {what} {' -> '.join(os.path.relpath(path, self.installation.root) for path in paths)}".rstrip()
        )


def _file(seen: Path) -> File:
    found = seen.stat()
    return File(photo_id(seen.read_bytes()), Inode(found.st_dev, found.st_ino, found.st_mtime_ns))
