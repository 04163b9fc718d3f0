"""Whoever looks at the disk when told to, and never else, knows what lies in the folder: however it came about."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.watch.filters import NO_MEDIA, Filters
from daemon.watch.observer import FolderWatch
from daemon.watch.reconcile import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.changes import Hint

FILTERS = Filters([".*", "@eaDir"], [".jpg"])


class Mirror:
    """A listener that keeps the state of each photo as it was when it was last told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, str] = {}
        self._lock = threading.Lock()

    def changed(self, path: str, _: Hint) -> None:
        with self._lock:
            self.known.pop(path, None)
            try:
                found = os.lstat(path)
            except OSError:
                return
            if stat.S_ISREG(found.st_mode) and not self._is_marked(path):
                self.known[path] = f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"

    def rescan(self, directory: str, _: str) -> None:
        with self._lock:
            self.known = {path: state for path, state in self.known.items() if not path.startswith(directory + os.sep)}
            self.known |= {path: state for path, state in on_disk(directory).items() if not self._is_marked(path)}

    def _is_marked(self, path: str) -> bool:
        above = Path(path).parents
        return any((directory / NO_MEDIA).exists() for directory in above if directory.is_relative_to(self.folder))


def on_disk(directory: str) -> dict[str, str]:
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        found.update((os.fsdecode(path), state) for path, state in Walk(directory, FILTERS))
    return found


@pytest.fixture
def folder(place: Path) -> Path:
    folder = place / "photos"
    for n in range(3):
        for name in (f"{n}.jpg", f"album/{n}.jpg", f"album/day/{n}.jpg", f"other/{n}.jpg", f"@eaDir/{n}.jpg"):
            write(folder / name)
    (place / "outside").mkdir()
    return folder


@pytest.fixture
def known(folder: Path, watch_kit: Any) -> Iterator[Callable[[], None]]:
    """Wait until the mirror shows what is on the disk."""
    mirror = Mirror(folder)
    watch = FolderWatch(str(folder), FILTERS, mirror)
    watch.arm()
    mirror.rescan(str(folder), "watch first, then walk")

    def wait() -> None:
        try:
            watch_kit.eventually(lambda: mirror.known == on_disk(str(folder)), 30)
        except AssertionError:
            known, disk = set(mirror.known.items()), set(on_disk(str(folder)).items())
            pytest.fail(f"not told of {sorted(disk - known)}, nor that these are no more: {sorted(known - disk)}")
        assert watch.armed
        assert watch.overflows == 0

    yield wait
    watch.disarm()


def write(path: Path, content: str = "photo") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def check_out(folder: Path, outside: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is missing")

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "before")
    git("checkout", "-b", "other")
    shutil.rmtree(folder / "album")
    write(folder / "new" / "deep" / "a.jpg")
    write(folder / "0.jpg", "changed")
    git("add", ".")
    git("commit", "-m", "after")
    for branch in ("main", "other", "main"):
        git("checkout", branch)


def unpack(folder: Path, outside: Path) -> None:
    with zipfile.ZipFile(outside / "a.zip", "w") as archive:
        for n in range(50):
            archive.writestr(f"zip/{n % 5}/deep/{n}.jpg", "photo" * n)
    with zipfile.ZipFile(outside / "a.zip") as archive:
        archive.extractall(folder)
    subprocess.run(["tar", "-cf", outside / "a.tar", "-C", folder, "zip", "album"], check=True)
    subprocess.run(["tar", "-xf", outside / "a.tar", "-C", folder / "other"], check=True)


def make_deep_directories_and_files_at_once(folder: Path, outside: Path) -> None:
    for n in range(30):
        subprocess.run(["sh", "-c", f"mkdir -p {n}/b/c && echo photo > {n}/b/c/a.jpg"], cwd=folder, check=True)


def copy_and_copy_back(folder: Path, outside: Path) -> None:
    subprocess.run(["cp", "-a", folder / "album", outside / "album"], check=True)
    subprocess.run(["cp", "-a", outside / "album", folder / "copy"], check=True)
    subprocess.run(["cp", "-al", folder / "copy", folder / "links"], check=True)
    os.truncate(folder / "album" / "0.jpg", 2)


def move_out_and_write_there(folder: Path, outside: Path) -> None:
    (folder / "album").rename(outside / "album")
    write(folder / "album" / "day" / "new.jpg")
    write(outside / "album" / "0.jpg", "elsewhere")
    write(outside / "album" / "day" / "deeper" / "x.jpg", "elsewhere")


def rename_in_circles(folder: Path, outside: Path) -> None:
    for n in range(20):
        (folder / "album").rename(folder / "held")
        (folder / "other").rename(folder / "album")
        (folder / "held").rename(folder / "other")
        write(folder / "album" / f"{n}-new.jpg")
        (folder / "other" / "0.jpg").rename(folder / "album" / f"{n}-moved.jpg")
        (folder / "album" / "1.jpg").rename(folder / "other" / "0.jpg")
        shutil.copy2(folder / "2.jpg", folder / "album" / "1.jpg")


def nest_and_unnest(folder: Path, outside: Path) -> None:
    (folder / "other").rename(folder / "album" / "day" / "other")
    (folder / "album").rename(outside / "album")
    write(outside / "album" / "day" / "added.jpg")
    (outside / "album").rename(folder / "back")
    (folder / "back" / "day" / "other").rename(folder / "other")
    write(folder / "back" / "day" / "late.jpg")
    write(folder / "other" / "late.jpg")


def remove_and_make_again(folder: Path, outside: Path) -> None:
    for n in range(20):
        shutil.rmtree(folder / "album")
        write(folder / "album" / "day" / f"{n}.jpg")


def mark_and_unmark(folder: Path, outside: Path) -> None:
    write(folder / "album" / ".nomedia", "")
    write(folder / "album" / "day" / "unseen.jpg")
    write(folder / "album" / "new" / "unseen.jpg")
    (folder / "album" / "day").rename(folder / "day")
    (folder / "album" / ".nomedia").unlink()
    write(folder / "album" / "new" / "seen.jpg")
    write(folder / "other" / ".nomedia", "")
    os.truncate(folder / "day" / "0.jpg", 1)


def hide_and_show(folder: Path, outside: Path) -> None:
    (folder / "album").rename(folder / ".album")
    write(folder / ".album" / "day" / "hidden.jpg")
    (folder / ".album").rename(folder / "shown")
    (folder / "other").rename(folder / "@eaDir" / "other")
    (folder / "@eaDir" / "other").rename(folder / "other")
    write(folder / "shown" / "day" / "a.jpg")
    write(folder / "other" / "a.jpg")


def put_files_where_directories_were(folder: Path, outside: Path) -> None:
    shutil.rmtree(folder / "album")
    write(folder / "album.jpg").rename(folder / "album")
    (folder / "album").unlink()
    write(folder / "album" / "0.jpg" / "0.jpg")
    shutil.rmtree(folder / "album" / "0.jpg")
    write(folder / "album" / "0.jpg")


@pytest.mark.parametrize(
    "act",
    [
        check_out,
        unpack,
        make_deep_directories_and_files_at_once,
        copy_and_copy_back,
        move_out_and_write_there,
        rename_in_circles,
        nest_and_unnest,
        remove_and_make_again,
        mark_and_unmark,
        hide_and_show,
        put_files_where_directories_were,
    ],
    ids=lambda act: act.__name__.replace("_", " "),
)
def test_the_disk_is_known_after(
    act: Callable[[Path, Path], None], folder: Path, place: Path, known: Callable[[], None]
) -> None:
    act(folder, place / "outside")
    known()
    # The watches have followed as well.
    for directory, names, _ in os.walk(folder):
        names[:] = [name for name in names if not FILTERS.ignores(name)]
        write(Path(directory, "afterwards.jpg"))
    known()


def do_something(chance: random.Random, folder: Path, outside: Path) -> None:
    """Change something, but no file of several names: the kernel tells of a write by the one name that it came through."""
    directories = [Path(directory) for directory, _, _ in os.walk(folder)]
    source, target, directory = chance.choice(directories), chance.choice(directories), chance.choice(directories[1:])
    file = chance.choice([*source.glob("*.jpg"), source / "a.jpg"])
    new = target / chance.choice(["a", "b", ".hidden", "c", "a.jpg", "b.jpg", "c.jpg"])
    size = chance.randrange(99)
    often: list[Callable[[], object]] = [
        lambda: write(target / "x" / new.name, "x" * size),
        lambda: write(file, "x" * size),
        lambda: os.truncate(file, size),
        lambda: file.rename(new),
        lambda: shutil.copy2(file, new),
        lambda: directory.rename(new),
        lambda: directory.rename(outside / str(chance.random())),
        lambda: chance.choice(list(outside.iterdir())).rename(new),
        (source / NO_MEDIA).unlink,
    ]
    seldom: list[Callable[[], object]] = [lambda: shutil.rmtree(directory), lambda: write(source / NO_MEDIA)]
    chance.choice(often * 3 + seldom)()


def live(folder: Path, outside: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(150):
        # Somebody else was quicker, or it makes no sense.
        with contextlib.suppress(OSError, IndexError, shutil.Error):
            do_something(chance, folder, outside)


@pytest.mark.parametrize("seed", range(4))
def test_the_disk_is_known_after_three_lived_in_it(
    seed: int, folder: Path, place: Path, known: Callable[[], None]
) -> None:
    threads = [threading.Thread(target=live, args=(folder, place / "outside", 10 * seed + n)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known()
    for directory, _, _ in os.walk(folder):
        write(Path(directory, "afterwards.jpg"))
    known()
