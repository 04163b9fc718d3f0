from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from cli.client import Client
from cli.errors import CliError
from cli.library import library_path

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import FakeDaemon


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the library that is a symbolic link to /disk/pictures of a kind."""
    pictures = tmp_path / "disk" / "pictures"
    (pictures / "2024").mkdir(parents=True)
    folder = tmp_path / "Pictures"
    folder.symlink_to(pictures)
    return folder


def spelled(daemon: FakeDaemon, status_answer: dict[str, Any], folder: Path | str, name: str) -> str:
    status_answer["folders"][0]["path"] = str(folder)
    daemon.will_answer(status_answer)
    with Client(daemon.socket, timeout_seconds=5) as client:
        return library_path(client, name)


@pytest.mark.parametrize("name", ["Pictures/2024", "disk/pictures/2024/", "disk/./pictures/../pictures/2024"])
def test_a_path_is_spelled_as_the_daemon_spells_its_folder(
    daemon: FakeDaemon,
    status_answer: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(folder.parent)

    assert spelled(daemon, status_answer, folder, name) == f"{folder}/2024"


def test_the_folder_itself_is_spelled_as_the_daemon_spells_it(
    daemon: FakeDaemon, status_answer: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    assert spelled(daemon, status_answer, folder, ".") == str(folder)


def test_what_has_gone_can_be_asked_about(daemon: FakeDaemon, status_answer: dict[str, Any], folder: Path) -> None:
    name = f"{folder}/gone/caf\udce9.jpg"

    assert spelled(daemon, status_answer, folder, name) == name


def test_a_folder_can_be_the_root(daemon: FakeDaemon, status_answer: dict[str, Any]) -> None:
    assert spelled(daemon, status_answer, "/", "/no/photo.jpg") == "/no/photo.jpg"


def test_a_path_outside_every_folder_is_made_absolute(
    daemon: FakeDaemon, status_answer: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that begins like the folder's is not below it.
    monkeypatch.chdir(folder.parent)

    assert spelled(daemon, status_answer, folder, "Pictures2/a.jpg") == f"{os.getcwd()}/Pictures2/a.jpg"


def test_an_empty_name_names_nothing(daemon: FakeDaemon) -> None:
    with (
        Client(daemon.socket, timeout_seconds=5) as client,
        pytest.raises(CliError, match=r"^no path is named: the argument is empty$"),
    ):
        library_path(client, "")
