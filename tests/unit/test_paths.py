"""Where things are kept."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from daemon import paths

OF_SYSTEMD = ("CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in (
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        "LOOKALIKE_SOCKET",
        *OF_SYSTEMD,
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(paths, "SYSTEM_SOCKET", tmp_path / "system" / "lookalike.sock")
    return tmp_path


def test_without_variables_places_lie_in_the_home_directory(home: Path) -> None:
    assert paths.config_file() == home / ".config/lookalike/lookalike.yaml"
    assert paths.data_dir() == home / ".local/share/lookalike"
    assert paths.cache_dir() == home / ".cache/lookalike"


def test_absolute_variables_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, f"/{variable}")
    assert paths.config_file() == Path("/XDG_CONFIG_HOME/lookalike/lookalike.yaml")
    assert paths.data_dir() == Path("/XDG_DATA_HOME/lookalike")
    assert paths.cache_dir() == Path("/XDG_CACHE_HOME/lookalike")
    assert paths.runtime_dir() == Path("/XDG_RUNTIME_DIR/lookalike")
    assert paths.socket_path() == Path("/XDG_RUNTIME_DIR/lookalike/lookalike.sock")


@pytest.mark.parametrize("value", ["", "relative/place", "~/place"])
def test_relative_and_empty_variables_are_ignored(home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    default = paths.runtime_dir()
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, value)
    assert paths.config_file() == home / ".config/lookalike/lookalike.yaml"
    assert paths.data_dir() == home / ".local/share/lookalike"
    assert paths.cache_dir() == home / ".cache/lookalike"
    assert paths.runtime_dir() == default


def test_without_a_variable_the_session_s_directory_is_taken_where_it_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    asked: list[object] = []

    def access(path: object, mode: int) -> bool:
        asked.append((str(path), mode))
        return len(asked) == 1

    monkeypatch.setattr(os, "access", access)
    assert paths.runtime_dir() == Path("/run/user/4711/lookalike")
    assert paths.runtime_dir() == Path(tempfile.gettempdir()) / "lookalike-4711"
    assert asked == [("/run/user/4711", os.W_OK)] * 2


def test_the_socket_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.socket_path() == paths.runtime_dir() / "lookalike.sock"
    monkeypatch.setenv("LOOKALIKE_SOCKET", "/run/other.sock")
    assert paths.socket_path() == Path("/run/other.sock")


def test_in_a_service_places_are_those_of_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, f"/{variable}")
    # A unit may name several directories; the first is the one that is its own.
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", "/etc/lookalike")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/lookalike:/var/lib/other")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/lookalike")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/lookalike:/run/other")
    assert paths.config_file() == Path("/etc/lookalike/lookalike.yaml")
    assert paths.data_dir() == Path("/var/lib/lookalike")
    assert paths.cache_dir() == Path("/var/cache/lookalike")
    assert paths.runtime_dir() == Path("/run/lookalike")
    assert paths.socket_path() == Path("/run/lookalike/lookalike.sock")


@pytest.mark.parametrize(
    ("own", "system", "expected"),
    [("", "", "own"), ("is there", "", "own"), ("", "is there", "system"), ("is there", "is there", "own")],
)
def test_the_machine_s_daemon_is_asked_where_the_user_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, system: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    sockets = {"own": tmp_path / "run" / "lookalike" / "lookalike.sock", "system": paths.SYSTEM_SOCKET}
    for name, is_there in (("own", own), ("system", system)):
        sockets[name].parent.mkdir(parents=True)
        if is_there:
            sockets[name].touch()
    assert paths.socket_path() == sockets[expected]


def test_parts_are_shipped_with_the_package_or_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.shipped("models").is_dir()
    assert paths.shipped("lookalike.yaml").is_file()
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "daemon" / "paths.py"))
    assert paths.shipped("models") == tmp_path / "configs" / "models"
    (tmp_path / "daemon" / "configs" / "models").mkdir(parents=True)
    assert paths.shipped("models") == tmp_path / "daemon" / "configs" / "models"


def test_only_the_standard_library_is_imported() -> None:
    code = "import sys; from daemon import paths; print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    before = "import sys; print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    run = [
        subprocess.run([sys.executable, "-c", each], capture_output=True, check=True, text=True).stdout.split()
        for each in (code, before)
    ]
    assert set(run[0]) - set(run[1]) == {"daemon"}


NAMELESS = 54321
"""A user whom no machine knows."""


@pytest.mark.parametrize("value", ["", "relative/place", None])
def test_without_a_home_directory_each_place_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NAMELESS)
    monkeypatch.delenv("HOME") if value is None else monkeypatch.setenv("HOME", value)
    for place, said in (
        (paths.config_file, "XDG_CONFIG_HOME, or name a file with --config"),
        (paths.data_dir, "XDG_DATA_HOME, or LOOKALIKE_DATA_DIR"),
        (paths.cache_dir, "XDG_DATA_HOME, or LOOKALIKE_DATA_DIR"),
    ):
        with pytest.raises(paths.NoHomeDirectory) as caught:
            place()
        assert str(caught.value) == f"there is no home directory: set HOME, or {said}"
    assert paths.config_file_in_place() is None
    assert paths.runtime_dir().is_absolute()


@pytest.mark.parametrize("value", ["", "relative/place"])
def test_a_home_that_is_no_absolute_path_is_that_of_the_list_of_users(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HOME", value)
    assert str(paths.home()) == pwd.getpwuid(os.getuid()).pw_dir


def test_without_a_home_directory_the_cache_lies_with_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: NAMELESS)
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert paths.cache_dir() == Path("/data/lookalike/cache")


def test_a_tilde_is_the_home_directory_and_that_of_a_stranger_is_not_known(home: Path) -> None:
    assert paths.expanded(Path("~")) == home
    assert paths.expanded(Path("~/a/b")) == home / "a" / "b"
    assert paths.expanded(Path("/a/~")) == Path("/a/~")
    assert paths.expanded(Path()) == Path()
    with pytest.raises(paths.NoHomeDirectory, match="the home directory of nobody-of-that-name is not known"):
        paths.expanded(Path("~nobody-of-that-name/a"))
