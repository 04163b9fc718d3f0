"""Exports of a library as files: written whole or not at all, and read with every checksum."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli.answers import ExportAnswer
    from cli.client import Client

PART = ".part"
"""How the name of an export ends that is not whole yet."""


class Totals(NamedTuple):
    """How much there is in an export, its vectors by the version of their model."""

    photos: int
    files: int
    failures: int
    vectors: dict[str, int]


class Passed(NamedTuple):
    """How much of an export has passed; `end` is what its last frame says, and None before."""

    bytes: int
    photos: int
    of: int
    end: Totals | None = None


def passing(chunks: Iterator[bytes], name: str) -> Iterator[Passed]:
    """Check an export as its bytes come; CliError where it is damaged, or not complete."""
    # Only who exports or imports waits for it.
    from daemon import bounded_json  # noqa: PLC0415
    from daemon.errors import ExportError  # noqa: PLC0415
    from daemon.transfer.frames import DONE, HEAD, MAX_VALUES, PHOTOS, STOPPED, FrameReader  # noqa: PLC0415

    def parsed(payload: bytes) -> Any:
        return bounded_json.loads(payload, most_values=MAX_VALUES)

    reader = FrameReader(chunks)
    photos = of = 0
    end: Totals | None = None
    try:
        for frame in reader:
            if frame.kind == HEAD:
                of = int(parsed(frame.payload)["photos"])
            elif frame.kind == PHOTOS:
                # Within a string of JSON, a quotation mark has a backslash before it.
                photos += frame.payload.count(b'"digest":')
            elif frame.kind == STOPPED:
                raise ExportError(f"it is not complete, for while it was made: {parsed(frame.payload)['reason']}")
            elif frame.kind == DONE:
                end = _totals(parsed(frame.payload))
            yield Passed(reader.bytes_read, photos, of, end)
    except ExportError as error:
        raise CliError(f"{name} cannot be used: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CliError(f"{name} cannot be used: it is not as lookalike writes it") from error


def exported(passed: Passed, name: str) -> ExportAnswer:
    """Return what there is in an export that has passed to its end."""
    # Without an end, nothing has passed to it.
    assert passed.end is not None  # noqa: S101 - for the type checker
    return {
        "schema": 1,
        "file": name,
        "bytes": passed.bytes,
        "photos": passed.end.photos,
        "files": passed.end.files,
        "failures": passed.end.failures,
        "vectors": passed.end.vectors,
    }


def _totals(value: Any) -> Totals:
    vectors = {str(version): int(count) for version, count in value["vectors"].items()}
    return Totals(int(value["photos"]), int(value["files"]), int(value["failures"]), vectors)


def refuse_watched(client: Client, name: str) -> None:
    """CliError where a file lies below a watched folder: nothing is ever written there."""
    real = os.path.realpath(name)
    for folder in client.status().answer["folders"]:
        root = os.path.realpath(folder["path"])
        if os.path.commonpath([root, real]) == root:
            raise CliError(
                f"{name} lies in {folder['path']}, which is watched, and nothing is written there: name another place"
            )


@contextmanager
def written_whole(name: str, *, replace: bool) -> Iterator[Callable[[bytes], None]]:
    """Give a function that writes to `name`, which is there once everything has been written to the disk; else nothing is.

    Only its owner may read it: it tells of every photo.
    """
    with _told(name):
        _refuse_existing(name, replace=replace)
        part = name + PART
        # What an interrupted export has left, and not what a link leads to.
        with suppress(FileNotFoundError):
            os.unlink(part)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Unbuffered: what a full disk refuses is refused here, and not once more by closing.
        with open(descriptor, "wb", buffering=0) as file:

            def write(data: bytes) -> None:
                rest = memoryview(data)
                with _told(name):
                    while rest:
                        rest = rest[file.write(rest) :]

            yield write
            with _told(name):
                os.fsync(file.fileno())
        with _told(name):
            _refuse_existing(name, replace=replace)
            os.replace(part, name)
            _sync_directory(os.path.dirname(os.path.abspath(name)))
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _refuse_existing(name: str, *, replace: bool) -> None:
    try:
        found = os.lstat(name)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise CliError(f"{name} is there, and is no file; name another one")
    if not replace:
        raise CliError(f"{name} is there already; --force replaces it")


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say in a sentence what the system says of the file."""
    try:
        yield
    except OSError as error:
        raise CliError(f"{name} cannot be written: {(error.strerror or str(error)).lower()}") from error
