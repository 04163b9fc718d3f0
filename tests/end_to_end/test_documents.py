"""What the README says is so: its commands, and every option that the commands have."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[2] / "README.md"


def options(help_text: str) -> set[str]:
    """Return the long and short options that a help text lists, but those for help itself."""
    listed = re.findall(r"^\s+(-.*?)(?:\s{2,}|$)", help_text, re.MULTILINE)
    return {one for line in listed for one in re.findall(r"(?<![\w-])--?\w[\w-]*", line)} - {"-h", "--help"}


@pytest.mark.parametrize(
    "command",
    [
        "lookaliked",
        "lookaliked run",
        "lookaliked check-config",
        "lookaliked install-service",
        "lookaliked uninstall-service",
        "lookalike",
        "lookalike search",
        "lookalike compare",
        "lookalike status",
        "lookalike doctor",
        "lookalike sync",
        "lookalike verify",
        "lookalike failures list",
        "lookalike failures retry",
        "lookalike deletions list",
        "lookalike deletions approve",
        "lookalike deletions reject",
        "lookalike export",
        "lookalike import",
        "lookalike relocate",
    ],
)
def test_every_option_is_in_the_readme(lookalike: Any, command: str) -> None:
    program, *rest = command.split()
    run = lookalike.daemon if program == "lookaliked" else lookalike.command
    done = run(*rest, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    readme = README.read_text(encoding="utf-8")
    missing = {
        one for one in options(done.stdout.decode()) if not re.search(rf"(?<![\w-]){re.escape(one)}(?![\w-])", readme)
    }
    assert not missing


@pytest.mark.parametrize("command", ["list", "show", "add", "pull", "test", "remove"])
def test_every_option_of_the_commands_on_models_is_in_their_page(lookalike: Any, command: str) -> None:
    done = lookalike.command("models", command, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    documented = "".join(file.read_text(encoding="utf-8") for file in (README, README.parent / "docs" / "models.md"))
    assert f"lookalike models {command}" in documented
    assert [
        one for one in options(done.stdout.decode()) if f"`{one}" not in documented and f" {one}" not in documented
    ] == []


def test_every_shipped_model_is_in_the_page_on_models() -> None:
    documented = (README.parent / "docs" / "models.md").read_text(encoding="utf-8")
    names = [spec.stem for spec in (README.parent / "configs" / "models").glob("*.yaml")]
    assert len(names) >= 10
    assert [name for name in names if f"`{name}`" not in documented] == []


def test_options_are_found_in_the_help_of_search(lookalike: Any) -> None:
    found = options(lookalike.command("search", "--help").stdout.decode())
    assert {"--limit", "-n", "--json", "--paths", "--null", "-0", "--model", "--socket", "--timeout"} <= found


def test_every_command_is_in_the_readme(lookalike: Any) -> None:
    listed = re.findall(
        r"^  (\w+)  ", lookalike.command("--help").stdout.decode().partition("Commands:")[2], re.MULTILINE
    )
    assert {"search", "compare", "status", "models", "sync", "verify", "failures", "deletions", "doctor"} <= set(listed)
    readme = README.read_text(encoding="utf-8")
    assert [command for command in listed if f"| `lookalike {command}" not in readme] == []


@pytest.mark.parametrize(("marker", "word"), [("run-command", "lookaliked"), ("test-command", "pytest")])
def test_the_readme_has_each_of_its_two_commands_on_one_line(marker: str, word: str) -> None:
    (block,) = re.findall(rf"<!-- {marker} -->\n\n((?:    .+\n)+)", README.read_text(encoding="utf-8"))
    (line,) = block.splitlines()
    assert word in line
    assert any("install" in part for part in shlex.split(line))


def test_every_exit_code_of_the_help_is_in_the_readme(lookalike: Any) -> None:
    help_text = lookalike.command("--help").stdout.decode()
    codes = re.findall(r"^\s+(\d+)\s{2,}\w", help_text.partition("Exit codes")[2], re.MULTILINE)
    assert codes == ["0", "1", "2", "69", "78"]
    (said,) = re.findall(r"^Exit codes: (.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"\d+", said) == codes


@pytest.mark.parametrize("arguments", [["--nonsense"], ["run", "--nonsense"], ["nonsense"]])
def test_an_unknown_option_of_the_daemon_is_wrong_usage(lookalike: Any, arguments: list[str]) -> None:
    done = lookalike.daemon(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"nonsense" in done.stderr


@pytest.mark.parametrize("arguments", [["--nonsense"], ["search", "--nonsense", "a.jpg"], ["nonsense"], ["search"]])
def test_an_unknown_option_of_the_client_is_wrong_usage(lookalike: Any, arguments: list[str]) -> None:
    done = lookalike.command(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
