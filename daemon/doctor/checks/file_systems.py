"""What the folders and our own directories lie on, and what that file system cannot do."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from daemon.doctor.finding import Finding, note, ok, problem, warning
from daemon.watch.mounts import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.config import Folder
    from daemon.doctor.context import Context

FAT = frozenset({"vfat", "msdos", "exfat"})
"""They have no owners, no sockets, and number files anew with each mount."""
ONE_CASE = FAT | {"ntfs", "ntfs3", "fuseblk", "hfsplus", "cifs", "smb3"}
"""Where A.jpg and a.jpg are one file."""
VOLATILE = frozenset({"tmpfs", "ramfs"})
LAYERED = frozenset({"overlay", "aufs"})
"""What a container writes there goes with it."""
FROM_ELSEWHERE = frozenset({"9p", "drvfs", "vboxsf", "virtiofs", "fuse.vmhgfs-fuse", "fuse.grpcfuse"})
"""How a virtual machine, WSL or Docker Desktop shows a directory of its host."""


def check(context: Context) -> Iterator[Finding]:
    yield from (finding for folder in context.folders for finding in _folder(folder, context))
    yield from _data_dir(context)
    yield from _runtime_dir(context)


def _folder(folder: Folder, context: Context) -> Iterator[Finding]:
    kind = context.machine.kind_of(folder.path)
    place = shlex.quote(str(folder.path))
    if folder.watch == "events" and is_remote(kind):
        yield warning(
            f"{folder.path} lies on {kind}, which raises no events for changes made elsewhere, and watch: events keeps it from "
            "being polled; what other machines change is found only every watch.rescan_seconds",
            f"lookalike sync {place}  # finds it now; write watch: auto for the folder to have it polled",
        )
    elif is_remote(kind):
        poll_seconds = context.settings.watch.poll_seconds
        where = (
            "lookaliked on the host itself"
            if kind in FROM_ELSEWHERE
            else "lookaliked on the machine that has the disk, or lower watch.poll_seconds,"
        )
        yield note(
            f"{folder.path} lies on {kind}, which raises no events for changes made elsewhere, so it is polled every "
            f"{poll_seconds:g} s; run {where} to be faster",
            f"lookalike sync {place}  # finds what has changed now",
        )
    else:
        yield ok(f"{folder.path} lies on {kind}, which raises events")
    if kind in FAT:
        yield note(
            f"{kind} numbers files anew with each mount, so after each all photos of {folder.path} are read again "
            "(and not encoded)"
        )
    if kind in ONE_CASE and (written := _other_case(folder.path)):
        yield warning(
            f"{folder.path} is written {written} on the disk, and events come under that name; name the folder so",
            f"ls {shlex.quote(str(folder.path.parent))}",
        )


def _other_case(path: Path) -> str:
    """Return how the last name of a path is written on a disk that takes it in another case too."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return ""
    if path.name in names:
        return ""
    return next((str(path.parent / name) for name in names if name.casefold() == path.name.casefold()), "")


def _data_dir(context: Context) -> Iterator[Finding]:
    directory, kind = context.data_dir, context.machine.kind_of(context.data_dir)
    embedded = context.embedded_redis or context.embedded_milvus
    elsewhere = "LOOKALIKE_DATA_DIR=/var/lib/lookalike lookaliked run  # or data_dir in the configuration"
    if embedded and (is_remote(kind) or kind in FAT):
        yield problem(
            f"data_dir ({directory}) lies on {kind}, on which the embedded stores are not safe: it may not lock files, and not "
            "keep what is written in order; choose a directory on a local disk",
            elsewhere,
        )
    elif kind in VOLATILE:
        yield warning(
            f"data_dir ({directory}) lies on {kind}, which is empty after a restart of the machine; all photos are encoded again then",
            elsewhere,
        )
    elif kind in LAYERED:
        yield note(
            f"data_dir ({directory}) lies on {kind}, the layer of a container, and goes with it; mount a volume there",
            f"docker run --volume lookalike:{shlex.quote(str(directory))} …",
        )
    else:
        yield ok(f"data_dir ({directory}) lies on {kind}")


def _runtime_dir(context: Context) -> Iterator[Finding]:
    directory = context.settings.runtime_dir
    kind = context.machine.kind_of(directory)
    if is_remote(kind) or kind in FAT:
        yield problem(
            f"runtime_dir ({directory}) lies on {kind}, where there can be no sockets of this machine; choose a local directory",
            "export XDG_RUNTIME_DIR=/run/user/$(id -u)  # or runtime_dir in the configuration",
        )
