"""The pictures in TIFF files that Pillow decodes to other pixels, or not at all.

Pillow garbles planes of 16 bits, refuses some of 8 with alpha, takes no notice of min-is-white above 8 bits or of palettes whose entries fill 8 bits of 16, and
decodes the first page even if it is a reduced copy. Here, a page becomes one or more plain gray pages that Pillow decodes rightly: a new
directory behind the file says where their strips or tiles are. TIFF 6.0; BigTIFF as libtiff documents it.
"""

# ruff: noqa: PLR2004 - the numbers are those of the specifications

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from daemon.encode.unread import Unread

_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 16: "Q", 18: "Q"}
_SUBFILE, _OLD_SUBFILE = 254, 255
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _PALETTE, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 317, 320, 322, 323, 324, 325
_MOST, _EXTRA, _SAMPLE_FORMAT = 281, 338, 339
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INDEXED, _CMYK = 0, 1, 2, 3, 5
# A directory that is rewritten keeps these tags: they say how pixels are stored.
_KEPT = (
    *(
        _WIDTH,
        _HEIGHT,
        _BITS,
        _COMPRESSION,
        _PHOTOMETRIC,
        _FILL_ORDER,
        _STRIPS,
        _ORIENTATION,
        _SAMPLES,
        _ROWS,
        _STRIP_BYTES,
    ),
    *(_PLANAR, 292, 293, _PREDICTOR, _PALETTE, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, 332, _EXTRA),
    *(_SAMPLE_FORMAT, 347, 530, 532),
)
_MOST_PAGES = 100
_MOST_VALUES = 2**22

Tags = dict[int, tuple[int, ...] | bytes]


@dataclass(frozen=True, slots=True)
class Page:
    """One directory of a file, and all that is needed to rewrite it."""

    data: bytes
    order: str
    big: bool
    at: int
    tags: Tags

    def values(self, tag: int, *default: int) -> tuple[int, ...]:
        """Return the whole numbers of a tag."""
        found = self.tags.get(tag, default)
        return tuple(found) or default

    def value(self, tag: int, default: int = 0) -> int:
        """Return the first number of a tag."""
        return (*self.values(tag, default), default)[0]


def is_tiff(data: bytes) -> bool:
    """Whether the bytes begin as a TIFF or BigTIFF does."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def picture_page(data: bytes) -> Page | None:
    """Return the first page that is no reduced copy and no mask; None where the directories are damaged, which Pillow may forgive."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    first: Page | None = None
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        seen = set[int]()
        while at and at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            tags, following = _directory(data, at, order, big=big)
            page = Page(data, order, big, at, tags)
            first = first or page
            if not page.value(_SUBFILE) & 5 and page.value(_OLD_SUBFILE) != 2:
                return page
            at = following
    except (struct.error, ValueError, OverflowError):
        return first
    return first


def _directory(data: bytes, at: int, order: str, *, big: bool) -> tuple[Tags, int]:
    count_format, entry_format = ("Q", "HHQ") if big else ("H", "HHI")
    (count,) = struct.unpack_from(order + count_format, data, at)
    at += struct.calcsize(order + count_format)
    room = 8 if big else 4
    entry_bytes = struct.calcsize(order + entry_format) + room
    if at + count * entry_bytes > len(data):
        message = "the directory is cut short"
        raise ValueError(message)
    tags: Tags = {}
    for begin in range(at, at + count * entry_bytes, entry_bytes):
        tag, kind, length = struct.unpack_from(order + entry_format, data, begin)
        if kind not in _FORMATS or tag not in (*_KEPT, _SUBFILE, _OLD_SUBFILE, _MOST) or length > _MOST_VALUES:
            continue
        form = f"{order}{length}{_FORMATS[kind]}"
        where = begin + entry_bytes - room
        if struct.calcsize(form) > room:
            (where,) = struct.unpack_from(order + ("Q" if big else "I"), data, where)
        found = struct.unpack_from(form, data, where)
        tags[tag] = found[0] if kind in (2, 7) else found
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, at + count * entry_bytes)
    return tags, following


def plain(page: Page) -> bytes:
    """Return the page as the first one of a classic TIFF, which Pillow reads."""
    if not page.big and page.data[4:8] == struct.pack(page.order + "I", page.at):
        return page.data
    if not page.big:
        return page.data[:4] + struct.pack(page.order + "I", page.at) + page.data[8:]
    return _rewritten(page, {})


def _rewritten(page: Page, changes: Tags) -> bytes:
    """Return the file as a classic TIFF whose directory, behind everything else, is that of the page with some changes."""
    tags = {tag: value for tag, value in (page.tags | changes).items() if tag in _KEPT and value}
    at = len(page.data) + len(page.data) % 2
    if at > 2**32 - 2**24:
        message = "a BigTIFF of 4 GB or more"
        raise Unread(message)
    behind = at + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            kind, length, packed = 7, len(value), value
        else:
            short = max(value) < 2**16
            kind, length = (3 if short else 4), len(value)
            packed = struct.pack(f"{page.order}{length}{'H' if short else 'I'}", *value)
        entries += struct.pack(page.order + "HHI", tag, kind, length)
        if len(packed) > 4:
            entries += struct.pack(page.order + "I", behind + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        else:
            entries += packed.ljust(4, b"\0")
    magic = b"II*\0" if page.order == "<" else b"MM\0*"
    directory = struct.pack(page.order + "H", len(tags)) + entries + b"\0\0\0\0" + values
    # A BigTIFF has a header of 16 bytes, of which a classic one takes 8: nothing that is stored moves.
    return magic + struct.pack(page.order + "I", at) + page.data[8:] + b"\0" * (at - len(page.data)) + directory


def is_odd(page: Page) -> bool:
    """Whether Pillow would decode the page to other pixels, or not at all."""
    bits, photometric = page.value(_BITS, 1), page.value(_PHOTOMETRIC, _BLACK_IS_ZERO)
    samples = page.value(_SAMPLES, 1)
    if page.value(_SAMPLE_FORMAT, 1) not in (1, 3) or page.value(_COMPRESSION, 1) in (6, 7):
        return False
    if samples > 1:
        return (
            bits >= 8 and page.value(_PLANAR, 1) == 2 and photometric in (_BLACK_IS_ZERO, _WHITE_IS_ZERO, _RGB, _CMYK)
        )
    if photometric == _INDEXED:
        return bits in (1, 2, 4, 8) and _has_short_palette(page)
    if photometric in (_BLACK_IS_ZERO, _WHITE_IS_ZERO) and page.value(_SAMPLE_FORMAT, 1) == 1 and 8 < bits <= 16:
        return photometric == _WHITE_IS_ZERO or _most(page) != 2**16 - 1
    return False


def _has_short_palette(page: Page) -> bool:
    """Whether no entry of the palette goes beyond 8 bits, as old writers and a few new ones have it."""
    return 0 < max(page.values(_PALETTE, 0)) < 256


def _most(page: Page) -> int:
    """Return the value of white: what the file says if it says 9 bits or more of its bits, and else what fills the bits."""
    bits = page.value(_BITS, 1)
    said = page.value(_MOST)
    return said if bits == 16 and said in {2**used - 1 for used in range(9, 16)} else 2**bits - 1


def read(page: Page) -> Image.Image:
    """Return the picture of an odd page, not turned yet: its orientation is Pillow's to tell."""
    bits, photometric = page.value(_BITS, 1), page.value(_PHOTOMETRIC, _BLACK_IS_ZERO)
    samples = page.value(_SAMPLES, 1)
    if photometric == _INDEXED:
        # Pillow spreads gray values of fewer bits over 0..255.
        indices = np.asarray(_gray(page, {}).convert("L")) // (255 // (2**bits - 1))
        entries = np.array(page.values(_PALETTE), np.uint8).reshape(3, -1).T
        return Image.fromarray(entries[indices])
    planes = [_eight_bits(page, _gray(page, _plane(page, number, samples))) for number in range(samples)]
    if photometric == _WHITE_IS_ZERO:
        planes[0] = 255 - planes[0]
    return _picture(page, planes, {_RGB: 3, _CMYK: 4}.get(photometric, 1))


def _picture(page: Page, planes: list[np.ndarray], colours: int) -> Image.Image:
    if len(planes) < colours:
        message = "a TIFF with fewer channels than its colours need"
        raise Unread(message)
    bands = [Image.fromarray(plane) for plane in planes[:colours]]
    image = bands[0] if colours == 1 else Image.merge("RGB" if colours == 3 else "CMYK", bands)
    extra = page.value(_EXTRA)
    if len(planes) == colours or extra not in (1, 2):
        return image
    image = image.convert("RGB")
    alpha = Image.fromarray(planes[colours])
    if extra == 1:
        # The colours have been multiplied by alpha: what is missing to white is added.
        rest = 255 - planes[colours].astype(np.uint16)
        return Image.fromarray(np.minimum(np.asarray(image) + rest[..., None], 255).astype(np.uint8))
    image.putalpha(alpha)
    return image


def _gray(page: Page, changes: Tags) -> Image.Image:
    """Return one channel as Pillow decodes it: with one sample a pixel, 0 for black, and not turned."""
    wanted: Tags = {
        _PHOTOMETRIC: (_BLACK_IS_ZERO,),
        _SAMPLES: (1,),
        _PLANAR: (1,),
        _EXTRA: (),
        _PALETTE: (),
        _ORIENTATION: (1,),
    }
    wanted |= changes
    wanted |= {_BITS: (page.value(_BITS, 1),), _SAMPLE_FORMAT: (page.value(_SAMPLE_FORMAT, 1),)}
    try:
        image = Image.open(io.BytesIO(_rewritten(page, wanted)), formats=("TIFF",))
    except OSError as error:
        raise Unread(described(page)) from error
    image.load()
    return image


def _plane(page: Page, number: int, samples: int) -> Tags:
    """Return where the strips or tiles of a plane are."""
    changes: Tags = {}
    for tag in (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES):
        values = page.values(tag)
        if values:
            each = len(values) // samples
            changes[tag] = values[number * each : (number + 1) * each]
    return changes


def _eight_bits(page: Page, image: Image.Image) -> np.ndarray:
    stored = np.asarray(image)
    # Pillow takes 32 bits for a number with a sign.
    values = (stored.view(np.uint32) if stored.dtype == np.int32 else stored).astype(np.float32)
    if page.value(_SAMPLE_FORMAT, 1) == 3:
        values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0) * 255.0
    else:
        values *= 255.0 / _most(page)
    pixels: np.ndarray = np.rint(values.clip(0, 255)).astype(np.uint8)
    return pixels


def described(page: Page) -> str:
    """Return what a page is that nobody could read, as in "a TIFF of 32 bits a channel, 3 channels, compressed in scheme 5"."""
    planar = ", one plane after the other" if page.value(_PLANAR, 1) == 2 else ""
    bits, samples = page.value(_BITS, 1), page.value(_SAMPLES, 1)
    return f"a TIFF of {bits} bits a channel, {samples} channels{planar}, compressed in scheme {page.value(_COMPRESSION, 1)}"


def size(page: Page) -> tuple[int, int]:
    """Return the width and height of a page as it is stored."""
    return page.value(_WIDTH), page.value(_HEIGHT)


def orientation(page: Page) -> int:
    """Return how the stored pixels are turned to be shown, 1 to 8."""
    return page.value(_ORIENTATION, 1)
