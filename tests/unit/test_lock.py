"""The lock file holds everything that an installation takes, and what it holds is what was meant."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked() -> dict[str, str]:
    """Return the version of each distribution that is locked, by its name; every line of the file is understood."""
    versions: dict[str, str] = {}
    # A line that ends in a backslash goes on.
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in filter(None, text.splitlines()):
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        parsed = Requirement(requirement)
        (one,) = parsed.specifier
        assert one.operator == "=="
        assert hashes, f"{parsed.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes)
        versions[canonicalize_name(parsed.name)] = one.version
    return versions


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(one) for one in [*project["dependencies"], *project["optional-dependencies"]["text"]]]


def applying(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement counts on this machine, with the extras of what requires it."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


def test_what_the_project_asks_for_is_locked_at_a_version_that_it_allows() -> None:
    versions = locked()
    for requirement in wanted():
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}; run make lock"


def test_what_that_needs_in_turn_is_locked_too() -> None:
    versions = locked()
    waiting = [(one, frozenset(one.extras)) for one in wanted()]
    seen = set()
    while waiting:
        requirement, extras = waiting.pop()
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{requirement} is not locked; run make lock"
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        needs = map(Requirement, importlib.metadata.requires(name) or ())
        waiting += [(one, frozenset(one.extras)) for one in needs if applying(one, {"", *extras})]
    assert len(seen) > len(wanted())
