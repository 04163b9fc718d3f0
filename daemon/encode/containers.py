"""The parts of a file around its pixels: the same file without its metadata, and what a container says of its picture."""

# ruff: noqa: PLR2004 - the numbers are those of the specifications

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
# All that PNG and APNG need for pixels; cICP, gAMA and the like say what they mean, and are not read.
_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_SOI, _SOS, _APP0, _APP1, _ADOBE, _COMMENT = 0xD8, 0xDA, 0xE0, 0xE1, 0xEE, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})


def with_less_metadata(data: bytes) -> Iterator[bytes]:
    """Return the file without all metadata but EXIF, and without all of it, as far as its format is known here.

    Metadata never costs a picture: a decoder that stumbled over a file may be given these.
    """
    for kept in ({b"eXIf", b"Exif", b"EXIF"}, set[bytes]()):
        if data.startswith(_PNG):
            yield _png(data, kept)
        elif data[:2] == b"\xff\xd8":
            yield _jpeg(data, kept)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            yield _webp(data, kept)
        elif data[4:8] == b"ftyp" and not kept:
            # An item of a kind that nobody knows is passed over.
            yield re.sub(rb"(infe.{8})(?:Exif|mime)", rb"\1free", data, flags=re.DOTALL)


def _png(data: bytes, kept: set[bytes]) -> bytes:
    pieces, at = [_PNG], len(_PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name in _PNG_PIXELS or name in kept:
            pieces.append(data[at : at + length + 12])
        at += length + 12
    return b"".join(pieces)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Return the marker, begin and end of each segment of a JPEG before its pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == _SOS:
            return
        # A segment that claims fewer bytes than its own length takes is as empty as one can be.
        end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        yield marker, at, end
        at = end


def _jpeg(data: bytes, kept: set[bytes]) -> bytes:
    pieces, end = [data[:2]], 2
    for marker, begin, following in _segments(data):
        end = following
        body = data[begin + 4 : following]
        is_metadata = _APP0 <= marker <= 0xEF or marker == _COMMENT
        is_needed = (marker == _ADOBE and body[:5] == b"Adobe" and len(body) >= 12) or (
            marker == _APP1 and body[:4] in kept
        )
        if is_needed or not is_metadata:
            pieces.append(data[begin:following])
    return b"".join([*pieces, data[end:]])


def _webp(data: bytes, kept: set[bytes]) -> bytes:
    pieces, at = list[bytes](), 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if name not in (b"ICCP", b"EXIF", b"XMP ") or name in kept:
            pieces.append(data[at:end])
        at = end
    body = b"WEBP" + b"".join(pieces)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def described(data: bytes) -> str:
    """Return what a file is whose format is read, and which is a variant that is not; "" for all else."""
    if data[:2] == b"\xff\xd8":
        for marker, begin, _ in _segments(data):
            if marker in _FRAMES and begin + 4 < len(data):
                bits = data[begin + 4]
                if marker in _LOSSLESS:
                    return "a lossless JPEG"
                return f"a JPEG of {bits} bits a channel" if bits != 8 else ""
    if data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis"):
        names = [name for name, _, _ in _boxes(data, 0, len(data))]
        brands = data[8 : int.from_bytes(data[:4], "big")]
        if b"meta" not in names and b"moov" in names and any(one in brands for one in (b"hevc", b"hevx", b"msf1")):
            return "a HEIC sequence without a still picture"
    return ""


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Return the name, begin and end of what is in each box; ISO/IEC 14496-12, section 4.2."""
    while at + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        following = end if length == 0 else at + length
        if following < begin or following > end:
            return
        yield name, begin, following
        at = following


def _inner(data: bytes, path: tuple[bytes, ...]) -> tuple[int, int] | None:
    begin, end = 0, len(data)
    for name in path:
        for found, first, last in _boxes(data, begin, end):
            if found == name:
                # `meta` has a version and flags before its boxes.
                begin, end = (first + 4 if name == b"meta" else first), last
                break
        else:
            return None
    return begin, end


def avif_crop(data: bytes, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the clean aperture of an AVIF's primary item as left, top, right, bottom; None where it has none or a wrong one.

    ISO/IEC 14496-12, section 12.1.4, and ISO/IEC 23008-12, sections 6.5.9 and 9.3.
    """
    try:
        return _avif_crop(data, size)
    except (struct.error, IndexError, ZeroDivisionError):
        return None


def _avif_crop(data: bytes, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    primary, properties, associations = (
        _inner(data, path) for path in ((b"meta", b"pitm"), (b"meta", b"iprp", b"ipco"), (b"meta", b"iprp", b"ipma"))
    )
    if not (primary and properties and associations):
        return None
    (item,) = struct.unpack_from(">I" if data[primary[0]] else ">H", data, primary[0] + 4)
    known = list(_boxes(data, *properties))
    for index in _associated(data, associations[0], item):
        if 0 < index <= len(known) and known[index - 1][0] == b"clap":
            width_n, width_d, height_n, height_d, x_n, x_d, y_n, y_d = struct.unpack_from(
                ">IIIIiIiI", data, known[index - 1][1]
            )
            width, height = width_n / width_d, height_n / height_d
            left = round((size[0] - width) / 2 + x_n / x_d)
            top = round((size[1] - height) / 2 + y_n / y_d)
            right, bottom = left + round(width), top + round(height)
            if 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]:
                return left, top, right, bottom
    return None


def _associated(data: bytes, at: int, item: int) -> list[int]:
    """Return the properties of an item, from 1."""
    version, is_wide = data[at], data[at + 3] & 1
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(count):
        (number,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        each = 2 if is_wide else 1
        indices = [
            int.from_bytes(data[one : one + each], "big") for one in range(at + 1, at + 1 + each * data[at], each)
        ]
        if number == item:
            return [index & (0x7FFF if is_wide else 0x7F) for index in indices]
        at += 1 + each * data[at]
    return []
