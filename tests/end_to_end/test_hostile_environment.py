"""Variables and .env files that other programs leave behind: all that the libraries read is set to nonsense at once."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from packaging.requirements import Requirement

from daemon import environment
from tests.unit.test_environment import OF_LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
PACKAGES = Path(pytest.__file__).parents[1]
READ = re.compile(
    r"""(?:environ(?:\.get|\.pop|\.setdefault)?\s*[(\[]|getenv\()\s*["']([A-Za-z_][A-Za-z0-9_]*)["']|["']([A-Z][A-Z0-9_]+)["'] in os\.environ"""
)
DOTENV = """
MILVUS_URI=./milvus_demo.db
LOOKALIKE_REDIS_URL=redis://127.0.0.1:1/0
LOOKALIKE_MILVUS_URI=http://127.0.0.1:1
LOOKALIKE_DATA_DIR=/nonexistent/data
LOOKALIKE_SOCKET=/nonexistent/socket
HTTP_PROXY=http://127.0.0.1:1
"""


def distributions(name: str, seen: set[str]) -> Iterator[importlib.metadata.Distribution]:
    """Yield what is installed of a distribution and of all that it needs."""
    if name in seen:
        return
    seen.add(name)
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    yield found
    for line in found.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": "text" if name == "lookalike" else ""}):
            yield from distributions(requirement.name, seen)


@functools.cache
def read_by_libraries() -> set[str]:
    """Return the variables whose names stand in the sources of the libraries, and those that their machine code reads."""
    names = set(OF_LIBRARIES)
    for one in distributions("lookalike", {"mypy"}):
        for file in one.files or ():
            if file.suffix == ".py" and one.metadata["Name"] != "lookalike" and "test" not in str(file):
                text = Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")
                names.update(name for pair in READ.findall(text) for name in pair if name)
    return names


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """An environment of nonsense, and an installation above which a .env lies."""
    # pymilvus looks for one in every directory above its own.
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "packages").symlink_to(PACKAGES)
    for directory in (tmp_path, tmp_path / "work" / "deep"):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".env").write_text(DOTENV)
    names = read_by_libraries()
    assert len(names) > 150
    assert {"MILVUS_CONN_ALIAS", "HF_ENDPOINT"} <= names
    nonsense = dict.fromkeys(names - environment.tidied(dict.fromkeys(names, "")).keys(), "nonsense")
    assert {"MILVUS_URI", "GRPC_PROXY_EXP", "OMP_NUM_THREADS", "HTTPS_PROXY"} <= nonsense.keys()
    return nonsense | {
        "PYTHONWARNINGS": "error",
        "PYTHON_DOTENV_DISABLED": "0",
        "PYTHONPATH": str(tmp_path / "installed" / "packages"),
    }


@pytest.mark.needs_root("only root may read the environment of a process that must not be dumped")
def test_a_daemon_takes_nothing_up_that_was_not_meant_for_it(
    lookalike: Any, photos: Any, hostile: dict[str, str], tmp_path: Path
) -> None:
    photos.fill(lookalike.folder, 3)
    pairs = [f"{name}={value}" for name, value in hostile.items()]
    lookalike.before = ["env", f"--chdir={tmp_path / 'work' / 'deep'}", *pairs]

    lookalike.start()

    for _ in range(2):
        status = lookalike.up_to_date()
        assert (status["photos"], status["failures"]) == (3, 0)
        assert status["data_dir"] == str(lookalike.data_dir)
        assert [(store["embedded"], store["state"]) for store in status["stores"]] == [(True, "ok")] * 2
        # The configuration is read again from the same environment.
        assert lookalike.command("reload").returncode == 0
    lookalike.assert_equals_disk()
    children = psutil.Process(lookalike.process.pid).children(recursive=True)
    assert len(children) > 3
    set_by_us = environment.IS_SET.keys() | {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONPATH"}
    for child in children:
        assert child.environ().keys() & hostile.keys() <= set_by_us, child.cmdline()
        assert "nonsense" not in child.environ().values()
    lookalike.stop()
    assert "proxy" not in lookalike.said()


@pytest.mark.parametrize(
    "words", [["doctor"], ["models", "list"], ["models", "test", "efficientnet-lite0"]], ids=" ".join
)
def test_a_command_takes_nothing_up_either(
    lookalike: Any, hostile: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    def said(extra: dict[str, str]) -> tuple[int, list[str]]:
        done = subprocess.run(
            [BIN / "lookalike", *words, *(["--json"] if words[0] == "models" else [])],
            env=lookalike.environment | extra,
            cwd=tmp_path / "work" / "deep",
            capture_output=True,
            timeout=100,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert b"nonsense" not in done.stdout + done.stderr
        # What is measured differs from one run to the next.
        return done.returncode, re.sub(r"\d+", "N", done.stdout.decode()).split("\n")[:1]

    assert said(hostile) == said({})
