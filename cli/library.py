"""Where a path that a person names lies in the library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cli.errors import CliError

if TYPE_CHECKING:
    from cli.client import Client


def library_path(client: Client, name: str) -> str:
    """Return `name` absolute, and as the daemon spells it if it lies below a watched folder, whatever links lead there.

    It need not exist: what has gone can be asked about.
    """
    if not name:
        raise CliError("no path is named: the argument is empty")
    real = os.path.realpath(name)
    for folder in client.status().answer["folders"]:
        # The daemon takes a folder as it was written, links included.
        root = os.path.realpath(folder["path"])
        if os.path.commonpath([root, real]) == root:
            return os.path.normpath(os.path.join(folder["path"], os.path.relpath(real, root)))
    return os.path.abspath(name)
