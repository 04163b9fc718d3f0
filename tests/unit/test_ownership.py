"""Whose a file or a directory is, before it is used: what another user can put into its place is refused, and left as it was."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from daemon import holder, ownership
from daemon.api.listening import bind
from daemon.directories import make_directory
from daemon.encode.prepared import check as check_cache
from daemon.errors import ConfigError
from daemon.in_hand import InHand, Photo
from daemon.index.embedded import ChildLog, DataLock, EmbeddedValkey, ProcessIdentity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOBODY = 65534
ANOTHER_GROUP = 65533
PRECIOUS = b"a file of the user that another one wants to be destroyed"
KINDS = ("link", "dangling link", "pipe", "directory", "socket", "hard link")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_bytes(PRECIOUS)
    return path


def plant(path: Path, kind: str, precious: Path) -> None:
    """Put into the place of a file what another user might."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "link":
            path.symlink_to(precious)
        case "dangling link":
            path.symlink_to(precious.with_name("new"))
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(os.path.relpath(path))
        case "hard link":
            path.hardlink_to(precious)


def lock(data: Path) -> None:
    DataLock(data).acquire()


def note_process(data: Path) -> None:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    identity.write(data / "valkey.pid")


def log(data: Path) -> None:
    os.close(ChildLog(data / "logs" / "valkey.log").open())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("file", "use"),
    [
        pytest.param("lock", lock, id="lock"),
        pytest.param("valkey.pid", note_process, id="process identity"),
        pytest.param("logs/valkey.log", log, id="log"),
    ],
)
def test_what_was_put_into_the_place_of_a_file_of_ours_is_neither_followed_nor_waited_for(
    tmp_path: Path, precious: Path, monkeypatch: pytest.MonkeyPatch, kind: str, file: str, use: Callable[[Path], None]
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    plant(data / file, kind, precious)
    with pytest.raises(
        (ConfigError, OSError), match=r"it is a symbolic link|it is no regular file|other names|directory"
    ):
        use(data)
    assert precious.read_bytes() == PRECIOUS
    assert not precious.with_name("new").exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_notes_of_photos_in_hand_are_not_written_through_what_was_put_into_their_place(
    tmp_path: Path, precious: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("suspects.json.new", "suspects.json", "0", "1"):
        plant(tmp_path / "data" / "in_hand" / name, kind, precious)
    one = InHand(tmp_path / "data")
    one.begin()
    with one.noted("work", [Photo("/a", "1")]):
        pass
    one.end()
    assert precious.read_bytes() == PRECIOUS
    assert not precious.with_name("new").exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_the_process_that_a_lock_or_pid_file_names_is_read_from_a_file_alone(
    tmp_path: Path, precious: Path, kind: str
) -> None:
    precious.write_text("1 1 1")
    plant(tmp_path / "data" / "lock", kind, precious)
    assert holder.written_pid(tmp_path / "data" / "lock") is None
    assert holder.locked_by(tmp_path / "data") is None
    assert ProcessIdentity.read(tmp_path / "data" / "lock") is None


@pytest.mark.needs_root("only root can give files away")
def test_a_lock_file_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    os.chown(tmp_path / "lock", NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="lock cannot be opened: it belongs to the user"):
        DataLock(tmp_path).acquire()


@pytest.mark.needs_root("only root can give files away")
def test_no_process_is_ended_because_another_user_has_written_its_number(tmp_path: Path) -> None:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    identity.write(tmp_path / "valkey.pid")
    assert ProcessIdentity.read(tmp_path / "valkey.pid", ownership.ours()) == identity
    os.chown(tmp_path / "valkey.pid", NOBODY, NOBODY)
    assert ProcessIdentity.read(tmp_path / "valkey.pid", ownership.ours()) is None


def test_a_file_of_ours_that_others_can_write_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock").chmod(0o666)
    DataLock(tmp_path).acquire()
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o644


# Directories


def directories_of_strangers(place: Path) -> dict[str, Path]:
    """Return directories that another user can have filled, each in its own place."""
    found = {
        name: place / name / "d" for name in ("open to all", "sticky", "open to a group", "another user's", "link")
    }
    for path in found.values():
        path.parent.mkdir()
    for name, mode in (
        ("open to all", 0o777),
        ("sticky", 0o1777),
        ("open to a group", 0o770),
        ("another user's", 0o700),
    ):
        found[name].mkdir()
        found[name].chmod(mode)
    # A link of another user's, to a directory of ours.
    (place / "ours").mkdir(mode=0o700)
    found["link"].symlink_to(place / "ours")
    found["link"].parent.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(found["open to a group"], 0, ANOTHER_GROUP)
        os.chown(found["another user's"], NOBODY, NOBODY)
        os.chown(found["link"], NOBODY, NOBODY, follow_symlinks=False)
    return found


STRANGE = ("open to all", "open to a group", "another user's", "link")
OF_ROOT = frozenset({"open to a group", "another user's"})
"""What nobody but root can make of a directory of a test."""


def lock_in(directory: Path) -> None:
    DataLock(directory).acquire()


def stores_in(directory: Path) -> None:
    EmbeddedValkey(directory.parent / "data", directory).start()


def socket_in(directory: Path) -> None:
    bind(directory / "s").close()


@pytest.mark.parametrize("use", [lock_in, stores_in, socket_in, check_cache], ids=lambda one: one.__name__)
@pytest.mark.parametrize("kind", STRANGE)
def test_a_directory_that_another_user_can_fill_is_refused(
    tmp_path: Path, kind: str, use: Callable[[Path], None]
) -> None:
    if kind in OF_ROOT and os.geteuid() != 0:
        pytest.skip("needs root: only root can give directories away")
    directory = directories_of_strangers(tmp_path)[kind]
    with pytest.raises((ConfigError, OSError), match=r"another user|the user|every user|its group|symbolic link"):
        use(directory)
    assert list(directory.iterdir()) == []


def test_a_socket_may_lie_where_the_sticky_bit_protects_it(tmp_path: Path) -> None:
    socket_in(directories_of_strangers(tmp_path)["sticky"])


@pytest.mark.parametrize("key", ["data_dir", "cache_dir"])
def test_a_user_may_have_moved_a_directory_to_another_disk(tmp_path: Path, key: str) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "usual").symlink_to("disk")
    make_directory(tmp_path / "usual", key)
    check_cache(tmp_path / "usual")


def test_a_runtime_directory_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "usual").symlink_to("disk")
    with pytest.raises(ConfigError, match="is a symbolic link; name the directory itself as runtime_dir"):
        make_directory(tmp_path / "usual", "runtime_dir", private=True)


@pytest.mark.needs_root("only root can give directories away")
def test_a_group_without_anybody_else_may_write(tmp_path: Path) -> None:
    """A user with a private group commonly lets it write, and nobody is the worse for it."""
    os.chown(tmp_path, 0, 0)
    tmp_path.chmod(0o770)
    make_directory(tmp_path, "data_dir")
    os.chown(tmp_path, 0, ANOTHER_GROUP)
    with pytest.raises(ConfigError, match=r"can be written by its group; close it \(chmod g-w\)"):
        make_directory(tmp_path, "data_dir")


# The way to a directory


def test_the_way_to_a_directory_follows_links_of_ours_alone(tmp_path: Path) -> None:
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "to disk").symlink_to(tmp_path / "disk")
    (tmp_path / "relative").symlink_to("disk/../disk")
    for name in ("disk", "to disk", "relative"):
        descriptor = ownership.open_surely(tmp_path / name / "data")
        assert os.path.samestat(os.fstat(descriptor), os.stat(tmp_path / "disk" / "data"))
        os.close(descriptor)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic link"):
        ownership.open_surely(tmp_path / "loop" / "data")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    (tmp_path / "open" / "link").symlink_to(tmp_path / "disk")
    with pytest.raises(OSError, match="symbolic link"):
        ownership.open_surely(tmp_path / "open" / "link" / "data")
