"""Room on the disks: for what the stores will hold, for the models, and for temporary files."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.doctor.amounts import count, dimensions, shown, size_of_tree
from daemon.doctor.finding import Finding, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.doctor.context import Context

FLOAT_BYTES = 4
VECTOR_COPIES = 2
"""What the embedded Milvus keeps of a vector: 100,000 of 1,280 floats take 978 MB with their index."""
MAPPING_BYTES = 2048
"""What the embedded Valkey's file has of a photo while it is rewritten: some 500 bytes, old and new and what came meanwhile."""
LEAST_BYTES = 256 << 20
"""What the stores want to move: segments are merged into new ones before the old ones go."""
CACHE_BYTES = 256 << 20
TEMPORARY_BYTES = 64 << 20
LEAST_INODES = 1000


def check(context: Context) -> Iterator[Finding]:
    yield from _data_dir(context)
    yield from _room("cache_dir", context.settings.cache_dir, CACHE_BYTES, "the models that are prepared there")
    temporary = Path(tempfile.gettempdir())
    yield from _room("the temporary directory", temporary, TEMPORARY_BYTES, "what is worked on")


def _data_dir(context: Context) -> Iterator[Finding]:
    wanted = _expected(context)
    there = size_of_tree(context.data_dir / "valkey") + size_of_tree(context.data_dir / "milvus")
    growth = max(wanted - there, 0)
    free = _free(context.data_dir)
    if free is None:
        return
    place = f"data_dir ({context.data_dir})"
    told = f"{place} has {shown(free)} free; the stores of {count(context.photos, 'photo')} take about {shown(wanted)}, {shown(there)} are there"
    if free < growth + LEAST_BYTES:
        yield problem(
            f"{told}: make room, or choose a data_dir on another disk", f"df -h {shlex.quote(str(context.data_dir))}"
        )
    elif free < 2 * growth + LEAST_BYTES:
        yield warning(f"{told}: little is left then", f"df -h {shlex.quote(str(context.data_dir))}")
    else:
        yield ok(told)
    yield from _inodes(place, context.data_dir)


def _expected(context: Context) -> int:
    """Return about how many bytes the embedded stores will have of the photos that there are."""
    vectors = VECTOR_COPIES * FLOAT_BYTES * dimensions(context) if context.embedded_milvus else 0
    return context.photos * (vectors + (MAPPING_BYTES if context.embedded_redis else 0))


def _room(name: str, directory: Path, least: int, purpose: str) -> Iterator[Finding]:
    free = _free(directory)
    if free is not None and free < least:
        yield problem(
            f"{name} ({directory}) has {shown(free)} free, and {purpose} take {shown(least)}",
            f"df -h {shlex.quote(str(directory))}",
        )
    yield from _inodes(f"{name} ({directory})", directory)


def _inodes(name: str, directory: Path) -> Iterator[Finding]:
    found = _statvfs(directory)
    # Where inodes are made as they are needed (btrfs), there are 0 of them.
    if found is not None and found.f_files and found.f_favail < LEAST_INODES:
        yield problem(
            f"{name} has room for {found.f_favail:,} more files (its file system's inodes are used up)",
            f"df -i {shlex.quote(str(directory))}",
        )


def _free(directory: Path) -> int | None:
    found = _statvfs(directory)
    return None if found is None else found.f_bavail * found.f_frsize


def _statvfs(directory: Path) -> os.statvfs_result | None:
    """Return what is known of the file system that a directory lies on, or will lie on."""
    for place in (directory, *directory.parents):
        try:
            return os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
