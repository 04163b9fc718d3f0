"""What is deleted as root lies in directories that another user fills: whatever that user puts there, nothing else is reached or waited for."""

from __future__ import annotations

import os
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from daemon.removing import remove, remove_empty
from daemon.service.carrying_out import carry_out
from daemon.service.places import Places
from daemon.service.plan import Plan
from daemon.service.uninstalling import plan_removal

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 65534
pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A directory of root's that must survive."""
    path = tmp_path / "precious"
    (path / "models").mkdir(parents=True)
    (path / "models" / "file").write_text("precious")
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    home = tmp_path / "home"
    found = Places(
        "user",
        units=home / "units",
        config=home / "lookalike" / "lookalike.yaml",
        credentials=home / "credentials",
        data_dir=home / "data",
        cache_dir=home / "cache",
        runtime_dir=home / "run",
    )
    for directory in (found.units, found.data_dir, found.cache_dir, found.config.parent):
        directory.mkdir(parents=True)
    found.config.write_text(f"data_dir: {found.data_dir}\ncache_dir: {found.cache_dir}\n")
    monkeypatch.setenv("HOME", str(home))
    return found


def purge(places: Places) -> None:
    carry_out(plan_removal(places, purge=True, running=False), lambda _: None)


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe", "link to a directory", "dangling link"])
@pytest.mark.parametrize("name", ["lock", "valkey.pid", "milvus", "models", "logs/valkey.log", "in_hand/0"])
def test_a_purge_waits_for_nothing_and_follows_nothing(
    places: Places, precious: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    place = places.data_dir / name
    place.parent.mkdir(exist_ok=True)
    monkeypatch.chdir(place.parent)
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(place.name)
        case "link to a pipe":
            os.mkfifo(precious / "pipe")
            place.symlink_to(precious / "pipe")
        case "link to a directory":
            place.symlink_to(precious)
        case _:
            place.symlink_to(precious / "new")
    purge(places)
    assert not places.data_dir.exists()
    assert (precious / "models" / "file").read_text() == "precious"
    assert not (precious / "new").exists()


@pytest.mark.parametrize("name", ["lookalike.yaml", "lookaliked.service"])
def test_neither_is_a_pipe_in_the_place_of_a_configuration_or_unit_waited_for(places: Places, name: str) -> None:
    (places.data_dir / "lock").touch()
    directory = places.units if name.endswith(".service") else places.config.parent
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    (places.units / "lookaliked.socket").touch()
    plan_removal(places, purge=True, running=False)


def test_a_tree_of_any_depth_is_deleted(places: Places) -> None:
    """Deeper than Python recurses, longer than a path may be, and with more levels than a process may open directories."""
    here = os.open(places.data_dir, os.O_RDONLY)
    for name in ["models", *["deep" * 50] * 3000]:
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=below))
        os.close(here)
        here = below
    os.close(here)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        purge(places)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not places.data_dir.exists()


def test_a_directory_is_deleted_with_all_that_is_in_it_or_is_gone_already(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "top" / f"a{number}" / "b" / "c").mkdir(parents=True)
        (tmp_path / "top" / f"a{number}" / "b" / "file").touch()
    for _ in range(2):
        remove(tmp_path / "top")
        assert not (tmp_path / "top").exists()


@pytest.mark.needs_root("only root can give a link away")
def test_a_link_of_another_user_on_the_way_is_not_followed(tmp_path: Path, precious: Path) -> None:
    """Whoever owns the directory above can put a link in the place of the data directory once the plan is made."""
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "index").symlink_to(precious)
    os.chown(tmp_path / "ann" / "index", NOBODY, NOBODY, follow_symlinks=False)
    os.chown(tmp_path / "ann", NOBODY, NOBODY)
    for path in (tmp_path / "ann" / "index" / "models", tmp_path / "ann" / "index" / "models" / "file"):
        with pytest.raises(OSError, match="symbolic link"):
            remove(path)
    (precious / "empty").mkdir()
    carry_out(Plan(emptied=(tmp_path / "ann" / "index" / "empty",)), lambda _: None)
    with pytest.raises(OSError, match="symbolic link"):
        remove_empty(tmp_path / "ann" / "index" / "empty")
    assert (precious / "empty").is_dir()
    assert (precious / "models" / "file").read_text() == "precious"
