"""Where a path that a person names lies in the library."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from cli.errors import CliError
from daemon.paths import absolute

if TYPE_CHECKING:
    from cli.client import Client


MAX_NAME_BYTES = 255
"""NAME_MAX of linux/limits.h."""


def library_path(client: Client, name: str, *, may_be_long: bool = False) -> str:
    """Return `name` absolute, and as the daemon spells it if it lies below a watched folder, whatever links lead there.

    It need not exist: a command may ask about a file that has gone. Where `may_be_long` says so, it may be longer than the system takes.
    """
    if not name:
        raise CliError("no path is named: the argument is empty")
    refuse_too_long(name, may_be_long=may_be_long)
    real = os.path.realpath(name)
    for folder in client.status().answer["folders"]:
        # The daemon takes a folder as it was written, links included.
        root = os.path.realpath(folder["path"])
        if os.path.commonpath([root, real]) == root:
            return os.path.normpath(os.path.join(folder["path"], os.path.relpath(real, root)))
    return absolute(name)


def refuse_too_long(name: str, *, may_be_long: bool = False) -> None:
    """Refuse a path that no file of the system can have, and one that no call of the system takes unless it `may_be_long`."""
    longest = max(map(len, os.fsencode(name).split(b"/")))
    try:
        os.lstat(name)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG and (longest > MAX_NAME_BYTES or not may_be_long):
            raise CliError(f"{name} names nothing: {(error.strerror or str(error)).lower()}") from error
