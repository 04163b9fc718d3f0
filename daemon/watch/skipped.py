"""Files that look like pictures and are not read: raw files of cameras, formats that nobody here decodes, backups, names without an end."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from daemon import beneath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from daemon.watch.filters import Filters

_NAMES = (
    # Camera raw files: https://en.wikipedia.org/wiki/Raw_image_format
    ".3fr .arw .bay .cap .cr2 .cr3 .crw .dcr .dcs .dng .eip .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw "
    ".nef .nrw .orf .ori .pef .ptx .raf .raw .rw2 .rwl .rwz .sr2 .srf .srw .x3f "
    # Pictures of phones and 360° cameras, and the formats that programs draw and publish in.
    ".avci .avcs .avif .avifs .bmp .dib .gif .heic .heics .heif .heifs .hif .insp .j2c .j2k .jfi .jfif .jif .jp2 .jpc .jpe .jpeg "
    ".jpf .jpg .jpm .jps .jpx .jxl .jxr .hdp .wdp .mpo .pns .png .apng .qoi .tif .tiff .webp "
    ".psd .psb .xcf .kra .ora .clip .afphoto .pdn .svg .svgz .exr .hdr .tga .dds .pcx .ppm .pgm .pbm .pnm .pam .pict "
    ".fits .fts .dcm .djvu .jng .mng .flif .bpg"
)
PICTURES = frozenset(_NAMES.split())
"""Names that pictures have, whether they can be read or not."""
_BACKUP = re.compile(
    # The endings that exiftool, editors, downloads and copies put behind the name of a picture.
    r"(\.[a-z0-9]{2,7}?)((?:[_~\-. ]?(?:original|orig|bak|backup|old|save|tmp|part|partial|download|crdownload|copy|\d{1,3}))|~)"
)
_LONGEST = 8
"""Characters of an extension with its dot: what is longer is part of a name, as in "holiday.with the family"."""
HEAD_BYTES = 32
KNOWN = 100_000
"""Files without an extension whose first bytes are remembered."""
NO_EXTENSION = ""


def kind_of(name: str) -> str | None:
    """Return by which extension a file is counted that is not read; NO_EXTENSION where its first bytes must tell, None for no picture."""
    lower = name.lower()
    dot = lower.rfind(".")
    if dot <= 0 or dot == len(lower) - 1:
        return NO_EXTENSION
    extension = lower[dot:]
    if extension in PICTURES:
        return extension
    for found in _BACKUP.finditer(lower):
        if found.end() == len(lower) and found[1] in PICTURES:
            return lower[found.start() :]
    is_none = extension[1:].isdigit() or len(extension) > _LONGEST or " " in extension
    return NO_EXTENSION if is_none else None


def is_picture(head: bytes) -> bool:
    """Whether a file begins as a picture does; `head` are its first HEAD_BYTES."""
    if head.startswith(_MAGIC):
        return True
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    is_riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    # BITMAPINFOHEADER and its successors; two letters alone would be text, too.
    is_bitmap = head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[15:18] == b"\0\0\0"
    return brand in _BRANDS or is_riff or is_bitmap


_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cJXL \r\n\x87\n",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
    b"8BPS\0\x01",
    b"8BPS\0\x02",
    b"FUJIFILMCCD-RAW",
    b"IIRO",
    b"IIRS",
    b"MMOR",
    b"IIU\0",
    b"FOVb",
    b"\0MRM",
    b"gimp xcf ",
    b"qoif",
)
"""JPEG, PNG, GIF, TIFF (and the raw files that are TIFF), JPEG XL, JPEG 2000, Photoshop, and what cameras write: Fujifilm, Olympus,
Panasonic, Sigma, Minolta."""
_BRANDS = frozenset(
    (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"crx ", b"jxl ")
)


class SkippedFile(NamedTuple):
    """A file that looks like a picture and is not read."""

    path: str
    extension: str
    """With its dot, in lower case; empty where the name has none."""


class Skipped:
    """Counts such files by directory. The thread that walks changes it; any may read: counts are as of the last walk of their place.

    Files whose name does not tell are opened once, for their first bytes, and again when their size, mtime or inode changes.
    """

    def __init__(self, filters: Filters, folder_of: Callable[[str], str | None] = str) -> None:
        """`folder_of` returns the watched folder that a directory lies in."""
        self._filters = filters
        self._folder_of = folder_of
        self._counts: dict[str, Mapping[str, int]] = {}
        self.by_extension: Mapping[str, int] = {}
        """How many files of each extension there are, the most frequent first."""
        self._under_way: dict[str, Mapping[str, int]] = {}
        self._heads: dict[tuple[int, int, int, int], bool] = {}

    def begin_walk(self) -> None:
        self._under_way = {}

    def concerns(self, name: str) -> bool:
        """Return whether a file of this name, which is no photo's, may be one: the file itself is not asked."""
        return kind_of(name) is not None and not self._filters.ignores(name)

    def met(self, directory: str, names: Iterable[str], descriptor: int) -> None:
        """Take the files that a walk met in a directory, which is open, and that concern this; none of them is a link."""
        if found := Counter(one.extension for one in self._among(directory, names, descriptor)):
            self._under_way[directory] = found

    def end_walk(self, top: str) -> None:
        """Have what was met count, in place of what was known at or below `top`."""
        prefix = top.rstrip(os.sep) + os.sep
        elsewhere = {one: counts for one, counts in self._counts.items() if one != top and not one.startswith(prefix)}
        self._counts = elsewhere | self._under_way
        self._under_way = {}
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        self.by_extension = dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))

    def listed(self, admits: Callable[[str], bool]) -> Iterator[SkippedFile]:
        """Yield the files as they are now, of the directories in which a walk met some and that `admits` says are wanted."""
        for directory in sorted(filter(admits, self._counts), key=os.fsencode):
            yield from self._listed_in(directory)

    def _listed_in(self, directory: str) -> list[SkippedFile]:
        try:
            descriptor = beneath.listing(self._folder_of(directory) or directory, directory)
        except OSError:
            return []
        try:
            with os.scandir(descriptor) as entries:
                names = [entry.name for entry in entries if self._is_candidate(entry)]
            return list(self._among(directory, sorted(names, key=os.fsencode), descriptor))
        except OSError:
            return []
        finally:
            os.close(descriptor)

    def _is_candidate(self, entry: os.DirEntry[str]) -> bool:
        name = entry.name
        return not self._filters.is_photo(name) and self.concerns(name) and entry.is_file(follow_symlinks=False)

    def _among(self, directory: str, names: Iterable[str], descriptor: int) -> Iterator[SkippedFile]:
        for name in names:
            kind = kind_of(name)
            if kind is not None and (kind != NO_EXTENSION or self._begins_as_picture(name, descriptor)):
                yield SkippedFile(os.path.join(directory, name), kind)

    def _begins_as_picture(self, name: str, descriptor: int) -> bool:
        try:
            found = os.lstat(name, dir_fd=descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size < HEAD_BYTES:
                return False
            state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            known = self._heads.get(state)
            if known is None:
                if len(self._heads) >= KNOWN:
                    self._heads = {}
                known = self._heads[state] = is_picture(_head(name, descriptor))
        except OSError:
            return False
        return known


def _head(name: str, directory: int) -> bytes:
    """Return the first bytes of a file; a pipe that has taken its place since is not waited for."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)
