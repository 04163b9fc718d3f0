"""Both programs in environments that nobody meant for them: standard streams that are closed or full, and no home directory."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.commands import BIN, Command, every_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COMMANDS = every_command()
STATUSES = {0, 1, 2, 69, 78, 141}
NO_HOME = b"there is no home directory: set HOME, or "
NEEDS_NO_HOME = {
    "search",
    "compare",
    "status",
    "sync",
    "verify",
    "failures",
    "forget",
    "deletions",
    "reload",
    "export",
    "import",
    "relocate",
}
"""They ask a daemon, whose socket lies elsewhere."""
STREAMS = (("<&- >&- 2>&-", ()), (">/dev/full 2>/dev/full", ()), (">/dev/full", ("--help",)))
"""How they are redirected, and with what the command is run then: help is what Typer prints by itself."""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """An environment in which every place is a directory of the test's own, and no daemon runs."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "LOOKALIKE_SOCKET": str(tmp_path / "nowhere.sock"),
    }


def run(
    command: Sequence[str], environment: dict[str, str], directory: Path, redirection: str = ""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        env=environment,
        cwd=directory,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )


def words_of(command: Command) -> list[str]:
    """Return a command line that ends by itself and changes nothing."""
    typed = command.typed()
    if "--once" in command.options:
        typed += ["x.jpg", "--once"]
    return [*typed, "--dry-run"] if "--dry-run" in command.options else typed


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_ends_with_an_exit_code_and_no_traceback_whatever_its_streams_are(
    command: Command, places: dict[str, str], tmp_path: Path
) -> None:
    for streams, options in STREAMS:
        done = run([*words_of(command), *options], places, tmp_path, streams)
        assert b"Traceback" not in done.stdout + done.stderr
        assert b"Exception ignored" not in done.stderr
        assert done.returncode in STATUSES, (streams, done.stderr)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_reader_that_has_gone_is_no_traceback(command: Command, places: dict[str, str], tmp_path: Path) -> None:
    script = '{ "$@"; echo "$?" >&2; } | true'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *words_of(command), "--help"],
        env=places,
        cwd=tmp_path,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert int(done.stderr.split()[-1]) in STATUSES


@functools.cache
def nobody() -> tuple[str, ...]:
    """Return what makes of a command that of a user whom the machine knows no home directory of."""
    ways = (
        ("unshare", "--user", "--map-user=54321", "--map-group=54321"),
        ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"),
    )
    for way in ways:
        works = (
            shutil.which(way[0])
            and not subprocess.run([*way, BIN / "lookalike", "--version"], capture_output=True, check=False).returncode
        )
        if works:
            return way
    pytest.skip("no user can be had here who has no home directory: neither user namespaces nor setpriv work")


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_without_a_home_directory_a_command_says_what_to_set_or_does_without(
    command: Command, places: dict[str, str], tmp_path: Path
) -> None:
    # Relative ones are ignored, as the specification asks.
    places |= {"HOME": "home", "XDG_CONFIG_HOME": "a", "XDG_DATA_HOME": "b", "XDG_CACHE_HOME": "c"}
    tmp_path.chmod(0o777)
    (tmp_path / "x.jpg").write_text("folders: []\n")

    done = run([*nobody(), *words_of(command)], places, tmp_path)

    said = done.stdout + done.stderr
    assert b"Traceback" not in said
    if command.program == "lookalike" and command.words[1] in NEEDS_NO_HOME:
        assert NO_HOME not in said
        assert done.returncode in {1, 2, 69}
    else:
        assert NO_HOME in said
        assert done.returncode == 78
        assert command.words[1] == "doctor" or len(said.splitlines()) == 1
    assert {one.name for one in tmp_path.iterdir()} <= {"x.jpg", "run"}


@pytest.mark.parametrize(
    "given",
    [
        {"LOOKALIKE_DATA_DIR": "data"},
        {"XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config"},
        {"--config": "data_dir: data\n"},
    ],
    ids=str,
)
def test_with_its_places_named_no_command_needs_a_home_directory(
    given: dict[str, str], places: dict[str, str], tmp_path: Path
) -> None:
    del places["HOME"]
    tmp_path.chmod(0o777)
    text = given.pop("--config", "")
    places |= {name: str(tmp_path / value) for name, value in given.items()}
    file = tmp_path / "lookalike.yaml"
    file.write_text(text.replace(": ", f": {tmp_path}/"))
    naming = ["--config", str(file)] if text else []
    (tmp_path / "photos").mkdir()

    for words in (["lookalike", "models", "list"], ["lookalike", "doctor"]):
        done = run([*nobody(), str(BIN / words[0]), *words[1:], *naming], places, tmp_path)
        assert b"home directory" not in done.stdout + done.stderr
        assert done.returncode == 0 or (words[1] == "doctor" and done.returncode == 1), done.stdout + done.stderr


@pytest.mark.parametrize("home", ["/proc", "/dev/null"])
@pytest.mark.parametrize("command", [one for one in COMMANDS if "--once" in one.options], ids=str)
def test_a_home_directory_that_cannot_be_used_is_one_message(
    command: Command, home: str, places: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    done = run([*nobody(), *command.typed(), str(tmp_path / "photos"), "--once"], places | {"HOME": home}, tmp_path)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 78
    assert home.encode() in done.stderr
