"""The shipped units, as systemd-analyze judges them: nothing that it does not know, and little that a taken-over daemon could do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from daemon import paths

if TYPE_CHECKING:
    from pathlib import Path

UNITS = paths.shipped("", "systemd")
SERVICES = [UNITS / manager / "lookaliked.service" for manager in ("system", "user")]
WORST_EXPOSURE = 20
"""systemd-analyze security, in tenths: 2.0 of 10."""
KNOWN_TO = {"restart-back-off.conf": 254}
"""The drop-ins that an earlier systemd than this does not know."""


def analyze(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    # For a user's units it wants to know where a session would keep its sockets, whose paths have 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="run-") as runtime:
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": runtime, "SYSTEMD_COLORS": "0"}
        return subprocess.run(
            ["systemd-analyze", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture(autouse=True)
def _systemd() -> None:
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is not installed; .ci/run installs it")
        pytest.skip("systemd-analyze is not installed")


def version(home: Path) -> int:
    found = re.match(r"systemd (\d+)", analyze("--version", home=home).stdout)
    assert found
    return int(found[1])


def placed(manager: str, target: Path) -> list[Path]:
    """Copy a manager's units, with a command that is there on this machine, and all drop-ins that its version knows."""
    target.mkdir()
    for unit in sorted((UNITS / manager).iterdir()):
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit.read_text(), flags=re.MULTILINE)
        (target / unit.name).write_text(text)
    drop_ins = target / "lookaliked.service.d"
    drop_ins.mkdir()
    for drop_in in (UNITS / "drop-ins").iterdir():
        if version(target) >= KNOWN_TO.get(drop_in.name, 0):
            shutil.copy(drop_in, drop_ins)
    return [target / unit.name for unit in (UNITS / manager).iterdir()]


@pytest.mark.parametrize("manager", ["system", "user"])
def test_systemd_finds_nothing_to_say_of_the_units_and_drop_ins(manager: str, tmp_path: Path) -> None:
    units = placed(manager, tmp_path / "units")
    assert len(units) >= 2
    done = analyze("verify", f"--{manager}", "--recursive-errors=yes", *units, home=tmp_path)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_a_misspelt_line_would_be_found(tmp_path: Path) -> None:
    service, *_ = sorted(placed("system", tmp_path / "units"))
    (tmp_path / "units" / "lookaliked.service.d" / "wrong.conf").write_text("[Service]\nProtectHomes=yes\n")
    done = analyze("verify", "--recursive-errors=yes", tmp_path / "units" / "lookaliked.service", home=tmp_path)
    assert "ProtectHomes" in done.stderr, service


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.parent.name)
def test_each_service_is_safe_by_systemd_s_own_measure(service: Path, tmp_path: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={WORST_EXPOSURE}", service, home=tmp_path)
    assert done.returncode == 0, done.stdout
    (exposure,) = re.findall(r"Overall exposure level for lookaliked\.service: ([\d.]+)", done.stdout)
    assert float(exposure) <= WORST_EXPOSURE / 10


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.parent.name)
def test_a_service_without_its_sandbox_would_not_pass(service: Path, tmp_path: Path) -> None:
    bare = tmp_path / "lookaliked.service"
    kept = [line for line in service.read_text().splitlines() if re.match(r"\[|Type=|ExecStart=", line)]
    bare.write_text("\n".join(kept) + "\n")
    assert analyze("security", "--offline=true", f"--threshold={WORST_EXPOSURE}", bare, home=tmp_path).returncode != 0


def settings(service: Path) -> list[str]:
    return [line for line in service.read_text().splitlines() if re.match(r"\w+=", line)]


def test_the_two_services_differ_in_nothing_but_whose_they_are() -> None:
    of_the_system, of_a_user = (set(settings(service)) for service in SERVICES)
    whose = re.compile(
        r"(User|Group|ConfigurationDirectory|(State|Runtime)Directory(Mode)?|LoadCredential|After|Slice|WantedBy)="
        r"|PrivateUsers=yes|(ReadWrite|Inaccessible)Paths=|(CPU|IO)Weight=|Memory(High|Max)="
    )
    assert {line for line in of_the_system ^ of_a_user if not whose.match(line)} == set()


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.parent.name)
def test_each_credential_that_the_configuration_knows_is_loaded_where_it_is_there(service: Path) -> None:
    from daemon.config import CREDENTIALS

    lines = settings(service)
    for name in CREDENTIALS:
        assert any(re.match(f"LoadCredential={name}:(/|%h/)", line) for line in lines)
        assert f"SetCredential={name}:\\n" in lines
    assert len([line for line in lines if line.startswith("LoadCredential=")]) == len(CREDENTIALS)
