"""Folders are put into a configuration file, and nothing else in it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon import paths
from daemon.documents import Document
from daemon.errors import ConfigError
from daemon.service import settings
from daemon.service.places import of_the_system, of_this_user

FILE = Path("/etc/lookalike/lookalike.yaml")
NEW = Path("/srv/Fotos: 2024 #1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "library: default\n",
        "library: default",
        "folders:\n",
        "folders: []\nlibrary: default\n",
        "folders: null  # none yet\nlibrary: default\n",
        "folders: [/a, /b]\n",
        "folders:\n- /a\n- /b\nlibrary: default\n",
        "# mine\nfolders:\n    # the first\n    - /a   # here\n    - path: /b\n      watch: poll\n\n# more\nlibrary: default\n",
    ],
)
def test_a_folder_is_added_and_the_rest_stays_as_it_was_written(text: str) -> None:
    changed = settings.with_folders(FILE, text, [NEW])
    before, after = (Document("x", one).data for one in (text, changed))
    assert after == {**before, "folders": [str(NEW), *(before.get("folders") or [])]}
    for line in text.splitlines():
        if "folders" not in line:
            assert line in changed.splitlines()


def test_a_folder_that_is_there_is_not_added_again() -> None:
    text = "folders:\n- /a\n- {path: /b, watch: poll}\n"
    assert settings.with_folders(FILE, text, [Path("/a"), Path("/b")]) == text


def test_the_shipped_file_takes_folders() -> None:
    shipped = paths.shipped("lookalike.yaml").read_text()
    changed = settings.with_folders(FILE, shipped, [Path("/a"), Path("/b")])
    assert Document("x", changed).data == {**Document("x", shipped).data, "folders": ["/a", "/b"]}
    assert len(changed.splitlines()) == len(shipped.splitlines()) + 2


@pytest.mark.parametrize("text", ["folders: /a\n", "folders: {path: /a}\n"])
def test_what_a_program_cannot_change_is_left_to_a_person(text: str) -> None:
    with pytest.raises(ConfigError, match="add /srv/new to them"):
        settings.with_folders(FILE, text, [Path("/srv/new")])


@pytest.mark.parametrize("places", [of_the_system(), of_this_user()], ids=lambda places: places.manager)
def test_a_new_file_says_what_was_asked_for(places: object) -> None:
    text = settings.new(places, [NEW, Path("/srv/ü\x07\udcff")])  # type: ignore[arg-type]
    assert Document("x", text).data["folders"] == [str(NEW), "/srv/ü\x07\udcff"]
    # Bytes that are no UTF-8 can be written into a file, and no terminal is steered by one.
    assert "\x07" not in text.encode().decode()
