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
    extras = project["optional-dependencies"]
    return [Requirement(one) for one in [*project["dependencies"], *extras["text"], *extras["build"]]]


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
        try:
            needs = map(Requirement, importlib.metadata.requires(name) or ())
        except importlib.metadata.PackageNotFoundError:
            # A build backend need not be here.
            assert name in builders()
            continue
        waiting += [(one, frozenset(one.extras)) for one in needs if applying(one, {"", *extras})]
    assert len(seen) > len(wanted())


def builders() -> set[str]:
    """Return the names of what builds the project."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return {canonicalize_name(Requirement(one).name) for one in extras["build"]}


def test_what_builds_the_project_is_locked_and_not_fetched_besides() -> None:
    """Where pip builds in isolation, it fetches a build backend that nobody has pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["optional-dependencies"]["build"] == project["build-system"]["requires"]
    versions = locked()
    # hatchling's own requirements, as its release 1.33 has them.
    assert {"hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"} <= versions.keys()
    told = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    locked_installation = told[told.index("--require-hashes") :].split("\n\n")[0].splitlines()
    assert "--only-binary :all:" in told[told.index("--require-hashes") :].splitlines()[0]
    assert "--no-build-isolation --no-deps ." in locked_installation[1]
