"""docs/troubleshooting.md has what the sources can say: a message that is not there leaves its reader alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.api.app import ERRORS
from daemon.doctor import NAMES
from daemon.watch.folder import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SAID = re.sub(r"\s+", " ", PAGE)
STATES = ("starting", "watching", "held", "kept", *ABSENT, "up to date", "indexing", "filling", "degraded")
LEAST = 2
"""Words of a message that the page has to quote in one piece."""


def calls(path: Path, *names: str) -> Iterator[ast.Call]:
    """Yield every call of a function or method of one of these names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            if name in names:
                yield node


def literals(node: ast.expr) -> str:
    """Return what a message says whatever it is about, with a NUL for each thing that is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sdg.\d]*[sdgf]", "\0", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(literals(part) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return ""


def is_quoted(message: str) -> bool:
    """Whether the page has, in italics, a piece of the message that is found again in what a person sees."""
    return any(quote in message.replace("\0", "…") for quote in quotes())


def quotes() -> list[str]:
    found = [quote.strip("… :") for quote in re.findall(r"\*([^*|]+)\*", SAID)]
    return [part for quote in found for part in quote.split(" … ") if len(part.split()) >= LEAST]


def messages() -> Iterator[tuple[str, str]]:
    """Yield where it stands and what is said of every warning and error of the log, and of stores and photos."""
    for path in sorted((ROOT / "daemon").rglob("*.py")):
        if path.is_relative_to(ROOT / "daemon" / "doctor"):
            continue
        for call in calls(path, "warning", "error"):
            yield f"{path.name}:{call.lineno}", literals(call.args[0]) if call.args else ""
        for call in calls(path, "StoreUnavailable", "StoreRefused"):
            yield f"{path.name}:{call.lineno}", literals(call.args[2]) if len(call.args) > LEAST else ""
        for call in calls(path, "LibraryInUse"):
            yield f"{path.name}:{call.lineno}", literals(call.args[0])
        for call in calls(path, "PhotoError"):
            yield f"{path.name}:{call.lineno}", literals(call.args[1])


def test_what_the_log_the_stores_and_failures_say_is_in_the_page() -> None:
    # What is put in whole is another message, which has its own place.
    said = [(where, message) for where, message in messages() if len(message.replace("\0", " ").split()) >= LEAST]
    assert len(said) > 30
    assert [f"{where}: {message}" for where, message in said if not is_quoted(message)] == []


def test_a_message_that_nobody_wrote_about_is_noticed() -> None:
    assert not is_quoted("\0 has a message that is nowhere")
    assert is_quoted("\0: the kernel dropped events, so it is walked")


@pytest.mark.parametrize("name", NAMES)
def test_every_check_of_doctor_has_its_section(name: str) -> None:
    assert f"\n### {name}\n" in PAGE


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_code_of_the_interface_is_in_the_page(code: str) -> None:
    assert f"`{code}`" in PAGE


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_in_the_page(state: str) -> None:
    assert f"| `{state}`" in PAGE or f", `{state}`" in PAGE


def test_every_reason_why_deletions_are_held_is_in_the_page() -> None:
    code = ast.parse((ROOT / "daemon" / "watch" / "brake.py").read_text(encoding="utf-8"))
    sentences = [literals(node) for node in ast.walk(code) if isinstance(node, ast.JoinedStr)]
    reasons = [sentence for sentence in sentences if "photo" in sentence]
    assert len(reasons) == 3
    assert [reason for reason in reasons if not is_quoted(reason)] == []


def test_links_within_the_page_lead_to_its_headings() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)}
    links = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert len(links) > 10
    assert [link for link in links if link not in headings] == []
