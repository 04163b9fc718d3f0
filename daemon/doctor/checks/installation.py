"""Python and the packages that lookalike runs on: there, new enough, and able to run on this processor."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

import daemon
from daemon.config import TEXT_PACKAGES
from daemon.doctor.finding import Finding, note, ok, problem
from daemon.installing import EXTRA_TEXT, IN_A_CLONE, installing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context

DISTRIBUTION = "lookalike"
OWN_NAMES = ("daemon", "cli")
COMPILED = ("numpy", "onnxruntime", "PIL", "blake3", "pyarrow", "faiss", "milvus_lite", "redis")
"""What brings machine code: a wheel for another processor or C library is found out by its import alone."""
IMPORT_SECONDS = 60.0
_IMPORTS = (
    "import importlib, sys\nfor name in sys.argv[1:]:\n    print(name, flush=True)\n    importlib.import_module(name)"
)


def check(context: Context) -> Iterator[Finding]:  # noqa: ARG001 - a check's signature
    found = [*_strangers(), *_requirements(), *_imports()]
    yield from found
    if not found:
        version = ".".join(map(str, sys.version_info[:3]))
        yield ok(f"lookalike {daemon.__version__} on Python {version}, with all packages that it needs")
    if missing := _text_packages():
        yield note(
            f"the extra text is not installed ({', '.join(missing)}), so photos are found by image alone",
            f"{_plain(installing(EXTRA_TEXT))}  # {IN_A_CLONE}",
        )


def _strangers() -> Iterator[Finding]:
    """Two distributions that install the same import name overwrite each other's files."""
    shipped = importlib.metadata.packages_distributions()
    for name in OWN_NAMES:
        others = sorted({other for other in shipped.get(name, ()) if other.lower() != DISTRIBUTION})
        if others:
            yield problem(
                f"{' and '.join(others)} installs files under the name {name} too, so that one overwrites the other; "
                "give lookalike an environment of its own",
                f"python3 -m venv ~/.lookalike && ~/.lookalike/bin/pip install {EXTRA_TEXT}  # {IN_A_CLONE}",
            )


def _requirements() -> Iterator[Finding]:
    """What the installed packages lack of what this version asks for, as after an upgrade of one of them."""
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in required:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield problem(f"the package {wanted} is not installed", _plain(installing(f"'{wanted}'")))
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield problem(
                f"{requirement.name} {version} is installed, and lookalike needs {wanted}",
                _plain(installing(f"'{wanted}'")),
            )


def _imports() -> Iterator[Finding]:
    """Import what is machine code in a process of its own: an instruction that the processor lacks ends it."""
    command = [sys.executable, "-P", "-c", _IMPORTS, *COMPILED]
    try:
        done = subprocess.run(
            command,
            # Else onnxruntime writes into the cache of whoever imports it.
            env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=IMPORT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        yield problem(
            f"the packages could not be imported within {IMPORT_SECONDS:g} s; is the disk or the memory busy?"
        )
        return
    if done.returncode == 0:
        return
    package = (done.stdout.decode(errors="replace").split() or ["python"])[-1]
    if done.returncode == -signal.SIGILL:
        yield problem(
            f"{package} uses instructions that this processor does not have; install a build of it for this processor"
        )
        return
    said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
    yield problem(
        f"{package} cannot be imported ({said})", _plain(installing(f"--force-reinstall --no-deps {package}"))
    )


def _text_packages() -> list[str]:
    missing = []
    for package in TEXT_PACKAGES:
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return missing


def _plain(command: str) -> str:
    return command.strip("`")
