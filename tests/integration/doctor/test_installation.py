"""What is installed: other distributions are put on the path of this process, and modules that cannot be imported on its child's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.doctor.checks import installation

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.integration.doctor.conftest import Clinic


def distribution(directory: Path, name: str, *requirements: str, files: tuple[str, ...] = ()) -> None:
    """Install a distribution that consists of what is said of it."""
    described = directory / f"{name}-1.0.dist-info"
    described.mkdir()
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        "Version: 1.0",
        *(f"Requires-Dist: {one}" for one in requirements),
    ]
    (described / "METADATA").write_text("\n".join(lines) + "\n")
    (described / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def sentences(clinic: Clinic, level: str) -> list[str]:
    return [finding.sentence for finding in clinic.look("installation") if finding.level == level]


def test_this_installation_is_whole(clinic: Clinic) -> None:
    assert sentences(clinic, "problem") == []
    assert "with all packages that it needs" in sentences(clinic, "ok")[0]


def test_another_distribution_of_our_names_is_a_problem(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "python-daemon", files=("daemon/daemon.py",))
    monkeypatch.syspath_prepend(str(tmp_path))

    (found,) = sentences(clinic, "problem")

    assert found.startswith("python-daemon installs files under the name daemon too")


def test_packages_that_are_missing_or_of_another_version_are_problems(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = ("numpy>=99", "no-such-package>=1", "not-for-us>=1; sys_platform == 'win32'", "redis>=1")
    distribution(tmp_path, "lookalike", *requirements)
    monkeypatch.syspath_prepend(str(tmp_path))

    version, missing = (finding for finding in clinic.look("installation") if finding.level == "problem")

    assert "is installed, and lookalike needs numpy>=99" in version.sentence
    assert version.mend[0].endswith("pip install 'numpy>=99'")
    assert missing.sentence == "the package no-such-package>=1 is not installed"


def test_a_package_that_ends_the_process_is_named_with_the_reason(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modern.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    (tmp_path / "broken.py").write_text("raise ImportError('libm.so.6: version GLIBC_2.99 not found')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    monkeypatch.setattr(installation, "COMPILED", ("json", "modern"))
    assert sentences(clinic, "problem") == [
        "modern uses instructions that this processor does not have; install a build of it for this processor"
    ]
    monkeypatch.setattr(installation, "COMPILED", ("json", "broken"))
    (found,) = sentences(clinic, "problem")
    assert found == "broken cannot be imported (ImportError: libm.so.6: version GLIBC_2.99 not found)"


def test_importing_what_is_checked_writes_nothing(
    clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    assert sentences(clinic, "problem") == []
    assert list(tmp_path.iterdir()) == []
