"""Mount namespaces for tests that mount, as root or as an ordinary user.

A test marked `mounts` runs in a child pytest behind `unshare`, together with the marked tests of its module. There it is root of a
namespace, may mount whatever a user namespace allows (tmpfs, bind, overlay), and leaves no mount behind. Its outcome is reported here
as if it had run here. Where the kernel forbids such a namespace, the test is skipped with the reason.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = "mounts"
OUTPUT_TAIL_CHARACTERS = 4000
_LIMIT_SECONDS = pytest.StashKey[float]()
_KNOWN = pytest.StashKey[dict[str, list[pytest.TestReport]]]()


def entering(*kinds: str) -> list[str]:
    """Return what to put before a command so that it runs as root of namespaces of its own: `--mount`, `--net` and so on."""
    return ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), *kinds]


def refusal(*command: str) -> str:
    """Return why a command cannot be run behind `entering`, or an empty string."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"the kernel gives this user no namespaces: {done.stderr.strip()}" if done.returncode else ""


@functools.cache
def obstacle() -> str:
    """Return why this user may mount nothing in a namespace of its own, or an empty string."""
    with tempfile.TemporaryDirectory() as place:
        return refusal(*entering("--mount"), "mount", "-t", "tmpfs", "tmpfs", place)


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    """Have an empty file system at a directory, which the test may unmount meanwhile; for tests marked `mounts`."""
    place.mkdir(exist_ok=True)
    settings = ["-o", ",".join(options)] if options else []
    subprocess.run(["mount", "-t", "tmpfs", *settings, "lookalike-test", place], check=True)
    try:
        yield
    finally:
        if os.path.ismount(place):
            unmount(place)


def unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", place], check=True)


def bind(what: Path, place: Path) -> None:
    """Show a directory or a file at another place as well."""
    subprocess.run(["mount", "--bind", what, place], check=True)


@contextmanager
def bound(what: Path, place: Path) -> Iterator[None]:
    """Have a directory or a file at another place as well, which the test may unmount meanwhile; for tests marked `mounts`."""
    bind(what, place)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)


# The plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reports-to",
        metavar="FILE",
        help="run tests marked 'mounts' in this process, which `unshare` has put into a mount namespace, and write reports to FILE",
    )


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--reports-to"):
        config.pluginmanager.register(_Reporting(config, path))


class _Reporting:
    """Writes each report of the child to a file, one a line."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        self._config, self._path = config, path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(data, default=str) + "\n")


def _runs_apart(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker(MARKER)) and not item.config.getoption("--reports-to") and not obstacle()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in filter(_runs_apart, items):
        own = item.get_closest_marker("timeout")
        item.stash[_LIMIT_SECONDS] = float(own.args[0] if own else item.config.getini("timeout"))
        # The child limits the time of each test; here the first one waits for all.
        item.add_marker(pytest.mark.timeout(0), append=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker(MARKER) and obstacle():
        pytest.skip(obstacle())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not _runs_apart(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    # The test before this one left standing what this one would have needed: fixtures of its directory, say.
    item.session._setupstate.teardown_exact(nextitem)
    return True


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    """Return the reports of one test, after a run of all marked tests of its module where that has not been."""
    known: dict[str, list[pytest.TestReport]] = item.session.stash.setdefault(_KNOWN, {})
    if item.nodeid not in known:
        together = [one for one in item.session.items if one.path == item.path and _runs_apart(one)]
        known |= {one.nodeid: [] for one in together}
        seconds = sum(one.stash[_LIMIT_SECONDS] for one in together)
        output = _run(item.config, [one.nodeid for one in together], seconds, known)
        for one in together:
            if not any(report.when == "teardown" for report in known[one.nodeid]):
                known[one.nodeid].append(_ended(one, output))
    return known.pop(item.nodeid)


def _run(config: pytest.Config, tests: list[str], seconds: float, known: dict[str, list[pytest.TestReport]]) -> str:
    """Run tests in a namespace for so long at most, add their reports to those known, and return the end of the output."""
    options = ["-n0", "-p", "no:cacheprovider"]
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_XDIST", "PYTEST_CURRENT"))
    }
    with tempfile.TemporaryDirectory(prefix="mounts-") as place:
        reports, log = Path(place, "reports"), Path(place, "log")
        reports.touch()
        options += [f"--reports-to={reports}", f"--basetemp={Path(place, 'tests')}"]
        command = [*entering("--mount"), sys.executable, "-m", "pytest", *options, *tests]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=config.rootpath, env=kept, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for line in reports.read_text(encoding="utf-8").splitlines():
            report = _loaded(config, json.loads(line))
            known[report.nodeid].append(report)
        return log.read_text(errors="replace")[-OUTPUT_TAIL_CHARACTERS:]


def _loaded(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport:
    # JSON knows no tuple, and the summary of skips takes nothing else.
    data |= {key: tuple(data[key]) for key in ("location", "longrepr") if isinstance(data[key], list)}
    data["sections"] = [tuple(section) for section in data["sections"]]
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    return report


def _ended(item: pytest.Item, output: str) -> pytest.TestReport:
    said = f"The pytest in the mount namespace ended before this test did:\n{output}"
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", said, "call")
