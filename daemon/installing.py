"""The commands that install something into the environment that runs lookalike."""

from __future__ import annotations

import importlib.util
import shlex
import sys

IN_A_CLONE = "in a clone of lookalike"
"""Where the project itself is installed from: no package index has it, and what has its name there is somebody else's."""
EXTRA_TEXT = "'.[text]'"


def has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def installing(wanted: str) -> str:
    """Return the command that installs what is `wanted` into the environment that runs lookalike, in backticks."""
    python = shlex.quote(sys.executable)
    return f"`{python} -m pip install {wanted}`" if has_pip() else f"`uv pip install --python {python} {wanted}`"


def installing_text() -> str:
    """Return the command that installs the extra `text`, and where to run it."""
    return f"{installing(EXTRA_TEXT)} {IN_A_CLONE}"
