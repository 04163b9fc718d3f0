"""Where the mapping contradicts itself, and how that is mended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from daemon.changes import photo_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daemon.index.mappings import Mappings

    Page = tuple[bytes, list[bytes], list[bytes]]

PAGE = 500
"""Entries a call: checking them holds Redis for some two milliseconds."""
FOREIGN = "its digest is that of another photo"


class Place(NamedTuple):
    """One entry of the mapping: a path, a photo's id in decimals, or "device:inode"."""

    kind: Literal["path", "photo", "inode"]
    name: str


class Audit:
    """Holds a mapping against itself, a page at a time. Every method raises StoreUnavailable while Redis is away."""

    def __init__(self, mappings: Mappings) -> None:
        self._mappings = mappings
        self._ask = mappings.script("audit.lua")

    def contradictions(self, stopped: Callable[[], bool]) -> Iterator[Place]:
        """Yield each place where something is wrong, perhaps twice, until `stopped` says so."""
        for page in self._files(stopped):
            yield from _places(page[1])
        for name in ("photos", "inodes", "keys"):
            for page in self._scan(name, stopped):
                yield from _places(page[1])
                yield from (Place("photo", str(photo)) for photo in _foreign(page))

    def look(self, place: Place) -> str:
        """Return in a few words what is wrong at a place now, or an empty string."""
        found = self._ask("look", place.kind, os.fsencode(place.name))
        if found:
            return os.fsdecode(found[2])
        return FOREIGN if place.kind == "photo" and self._foreign_digest(place.name) else ""

    def mend(self, place: Place) -> list[str]:
        """Drop what leads nowhere there; return the paths that are to be looked at again for it."""
        digest = self._foreign_digest(place.name) if place.kind == "photo" else ""
        return [os.fsdecode(path) for path in self._ask("mend", place.kind, os.fsencode(place.name), digest)]

    def distrust(self, paths: Sequence[str]) -> None:
        """Have these files read when they are looked at next, even if their size, mtime and inode are as recorded."""
        for start in range(0, len(paths), PAGE):
            self._ask("distrust", *map(os.fsencode, paths[start : start + PAGE]))

    def _files(self, stopped: Callable[[], bool]) -> Iterator[Page]:
        first = b"-"
        while first and not stopped():
            page = cast("Page", self._ask("files", first, PAGE))
            yield page
            first = b"(" + page[0] if page[0] else b""

    def _scan(self, name: str, stopped: Callable[[], bool]) -> Iterator[Page]:
        cursor = b"0"
        while not stopped():
            page = cast("Page", self._ask(name, cursor, PAGE))
            yield page
            cursor = page[0]
            if cursor == b"0":
                return

    def _foreign_digest(self, photo: str) -> str:
        info = self._mappings.photo(int(photo))
        return info.digest if info is not None and info.id != int(photo) else ""


def _places(found: list[bytes]) -> Iterator[Place]:
    for kind, name in zip(found[::3], found[1::3], strict=True):
        yield Place(cast("Literal['path', 'photo', 'inode']", kind.decode()), os.fsdecode(name))


def _foreign(page: Page) -> Iterator[int]:
    """Yield the photos of a page whose digest does not make their id."""
    digests = page[2] if len(page) > 2 else []  # noqa: PLR2004 - only the photos come with theirs
    for photo, digest in zip(map(int, digests[::2]), digests[1::2], strict=True):
        if digest and photo_id(digest.decode()) != photo:
            yield photo
