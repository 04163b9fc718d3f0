"""From the bytes of a file to a photo as it is shown, or to the reason why there is none."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pillow_heif
from PIL import AvifImagePlugin, ExifTags, Image, UnidentifiedImageError

from daemon.encode import containers, fits, psd, tiff
from daemon.encode.colours import to_rgb
from daemon.encode.unread import Unread
from daemon.errors import PhotoError

if TYPE_CHECKING:
    from PIL import ImageFile

    from daemon.errors import FailureKind

# Where a header that begins like this has its two sides: how they are packed (struct), and at which byte. PNG: RFC 2083,
# IHDR; GIF: GIF89a, logical screen; BMP: BITMAPINFOHEADER; QOI: its specification.
_SIDES = {
    b"\x89PNG\r\n\x1a\n": (">II", 16),
    b"GIF8": ("<HH", 6),
    b"BM": ("<ii", 18),
    b"qoif": (">II", 4),
}

# TIFF 6.0 and EXIF 2.32, tag 0x0112: how stored pixels are turned to be shown.
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
OUT_OF_MEMORY = "decoding the image takes more memory than limits.decode_memory_mebibytes allows, or than is free."

_NO_PIXELS = "the image has no pixels; export it again."

_SIDES_SWAPPED = frozenset({5, 6, 7, 8})

# Embedded previews may show what an editor has since changed; one thread a photo, because photos are loaded in parallel.
pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
# Neither may dav1d start threads: a decoder may not.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# All plugins are known before the first thread decodes: Pillow would import them at the first unknown photo.
Image.init()
# decode() sets the only limit of pixels. Pillow's own limit would also refuse a crop of a photo that decode() has accepted.
Image.MAX_IMAGE_PIXELS = None
# Pillow only warns up to twice its pixel limit, and says on stderr what it thinks of sloppy metadata.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


# What Pillow reads by default, but EPS, which is a program that it hands to Ghostscript; BUFR, GRIB, HDF5 and WMF, which have
# no decoder; MPEG, which is no picture; and IPTC, which is metadata.
_REFUSED = frozenset({"EPS", "BUFR", "GRIB", "HDF5", "WMF", "MPEG", "IPTC"})
# Most photos are one of the first two.
_BY_CONTENT = tuple(
    sorted(
        (name for name in Image.OPEN if Image.OPEN[name][1] and name not in _REFUSED),
        key=("JPEG", "PNG").__contains__,
        reverse=True,
    )
)
# These begin with nothing that tells them from noise: a damaged photo must not pass for one of them.
_BY_NAME = frozenset(name for name in Image.OPEN if not Image.OPEN[name][1] and name not in _REFUSED)
_FORMAT_OF = {
    extension: name for extension, name in Image.registered_extensions().items() if name in (*_BY_CONTENT, *_BY_NAME)
} | {".mpo": "JPEG"}
EXTENSIONS: frozenset[str] = frozenset(_FORMAT_OF)
"""The file names that are photos: lower case, with the dot."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photo as it is shown: upright RGB, a JPEG perhaps reduced; `width` and `height` are those before reduction."""

    image: Image.Image
    width: int
    height: int
    format: str
    taken_at: str
    """EXIF DateTimeOriginal, ISO 8601 without a zone; empty when the file does not say."""


Bytes = bytes | bytearray | memoryview


class Decode(Protocol):
    """What `decode` does, wherever it is done, within limits that are known there."""

    def __call__(self, data: Bytes, path: str, *, min_side: int) -> Decoded: ...


def decode(data: Bytes, path: str, *, min_side: int, max_pixels: int) -> Decoded:
    """Return the photo in `data`, the bytes of the file at `path`; of an animation, the first frame.

    A JPEG is decoded at the smallest DCT scale (1/8, 1/4, 1/2, 1) whose shorter side still has `min_side` pixels.
    PhotoError when the bytes are no whole photo of an accepted format, or it has more than `max_pixels` pixels by its
    header. May be called from several threads; they share one `max_pixels`, since Pillow keeps its limit per process.
    """
    if not data:
        raise PhotoError(path, "the file is empty; it is tried again when something is written into it.")
    Image.MAX_IMAGE_PIXELS = max_pixels
    data = bytes(data)
    try:
        return _decode(data, path, min_side, max_pixels)
    except PhotoError:
        raise
    except Unread as error:
        raise PhotoError(path, f"the file is {error}, which is not read; export it again.", "not_an_image") from error
    # Pillow's plugins raise whatever damaged bytes lead them to, and its own documentation names no base of it.
    except Exception as error:
        raise PhotoError(path, *_reason(error, data)) from error


def reduced(image: Image.Image, most_pixels: int) -> Image.Image:
    """Return an image of at most so many pixels, each the mean of a block of the original: all that is needed to compare it."""
    across, along = 1, 1
    wide = image.width >= image.height
    while (
        _blocks(image.width, along if wide else across) * _blocks(image.height, across if wide else along) > most_pixels
    ):
        along += 1
        across = min(along, image.width, image.height)
    return image if along == 1 else image.reduce((along, across) if wide else (across, along))


def _blocks(length: int, block: int) -> int:
    return -(-length // block)


def needs_a_thread(data: Bytes) -> bool:
    """Whether the bytes of a file look like HEIC, whose library, libde265, decodes in a thread besides the caller's and in no other way."""
    return data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis")


def _decode(data: bytes, path: str, min_side: int, max_pixels: int) -> Decoded:
    if psd.is_psd(data):
        _check_pixels(path, psd.sides(data), max_pixels)
        return _shown(psd.read(data), "PSD")
    if fits.is_fits(data):
        _check_pixels(path, fits.sides(data), max_pixels)
        return _shown(fits.read(data), "FITS")
    page = tiff.picture_page(data) if tiff.is_tiff(data) else None
    if page:
        if tiff.is_odd(page):
            _check_pixels(path, tiff.size(page), max_pixels)
            return _shown(tiff.read(page), "TIFF", tiff.orientation(page), _taken_at(data))
        data = tiff.plain(page)
    try:
        return _decode_with_pillow(data, path, min_side, max_pixels)
    except (PhotoError, MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    # Pillow raises as much for damaged metadata as for damaged pixels.
    except Exception as error:
        for bare in containers.with_less_metadata(data):
            # The first error speaks of the whole file, so a later one is dropped.
            with contextlib.suppress(OSError, ValueError, SyntaxError, KeyError, IndexError, struct.error):
                return _decode_with_pillow(bare, path, min_side, max_pixels)
        name = containers.described(data)
        if not name and page and isinstance(error, UnidentifiedImageError):
            name = tiff.described(page)
        if name:
            raise Unread(name) from error
        raise


def _decode_with_pillow(data: bytes, path: str, min_side: int, max_pixels: int) -> Decoded:
    image = Image.open(io.BytesIO(data), formats=_formats(path))
    _check_pixels(path, image.size, max_pixels)
    size = _load(image, min_side)
    if image.format in ("AVIF", "WEBP"):
        # The container says how its picture is turned, or EXIF does. Pillow would believe XMP where neither speaks.
        image.info.pop("xmp", None)
    orientation, taken_at = _read_exif(image)
    stored: Image.Image = image
    crop = containers.avif_crop(data, size) if image.format == "AVIF" else None
    if crop:
        stored = image.crop(crop)
        size = stored.size
    if _has_no_alpha(image, data):
        stored = stored.convert("RGB")
    return _shown(stored, _format(image), orientation, taken_at, size)


def _shown(
    stored: Image.Image, name: str, orientation: int = 1, taken_at: str = "", size: tuple[int, int] | None = None
) -> Decoded:
    """Return stored pixels as they are shown; `size` is what they have without reduction."""
    shown = to_rgb(stored)
    if orientation in _TRANSPOSE:
        shown = shown.transpose(_TRANSPOSE[orientation])
    size = size or stored.size
    width, height = reversed(size) if orientation in _SIDES_SWAPPED else size
    return Decoded(shown, width, height, name, taken_at)


def _has_no_alpha(image: Image.Image, data: bytes) -> bool:
    """Whether the fourth channel of a TGA or BMP is no alpha: the TGA declares no bits of it, or it is zero everywhere."""
    if image.format not in ("TGA", "BMP", "DIB") or image.mode not in ("RGBA", "LA"):
        return False
    # Truevision TGA 2.0, field 5.6: the low four bits.
    is_undeclared = image.format == "TGA" and not data[17] & 15
    return is_undeclared or image.getchannel("A").getextrema()[1] == 0


def _taken_at(data: bytes) -> str:
    with contextlib.suppress(Exception):
        return _read_exif(Image.open(io.BytesIO(data), formats=("TIFF",)))[1]
    return ""


def _check_pixels(path: str, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse a photo by its header, before anything is decoded."""
    if 0 in size:
        raise PhotoError(path, _NO_PIXELS, "damaged")
    if size[0] * size[1] > max_pixels:
        raise PhotoError(path, *_too_large(size[0] * size[1]))


def _formats(path: str) -> tuple[str, ...]:
    """Return the formats that the file at `path` may have, whatever its name, and the one that only its name can tell."""
    named = _FORMAT_OF.get(path[path.rfind(".") :].lower())
    return (*_BY_CONTENT, named) if named in _BY_NAME else _BY_CONTENT


def _load(image: ImageFile.ImageFile, min_side: int) -> tuple[int, int]:
    """Decode the pixels, and return the width and height they have, or would have without reduction."""
    if _format(image) == "JPEG":
        size = image.size
        image.draft(None, (min_side, min_side))
        image.load()
        return size
    image.load()
    # Some plugins turn the image, or correct what the header said, while they decode.
    return image.size


def _format(image: ImageFile.ImageFile) -> str:
    # MPO is a JPEG with further frames behind it, such as a gain map; cameras name it .jpg.
    return "JPEG" if image.format == "MPO" else str(image.format)


def _read_exif(image: Image.Image) -> tuple[int, str]:
    """Return orientation (1 to 8) and taken_at; what cannot be read of it is no reason to refuse the photo."""
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        taken_at = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal, "")
    # As for pixels, damaged metadata raises whatever it leads to.
    except Exception:  # noqa: BLE001
        return 1, ""
    return (orientation if isinstance(orientation, int) else 1), _iso_time(taken_at)


def _iso_time(value: object) -> str:
    try:
        # EXIF has no zone in this tag; the time is the camera's own.
        return dt.datetime.strptime(str(value).strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()  # noqa: DTZ007
    except ValueError:
        return ""


def _reason(error: Exception, data: bytes) -> tuple[str, FailureKind]:
    text = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        pixels = re.search(r"\((\d+) pixels\)", text)
        return _too_large(int(pixels[1]) if pixels else None)
    if isinstance(error, UnidentifiedImageError):
        if _is_empty(data):
            return _NO_PIXELS, "damaged"
        kind = "text" if b"\0" not in data[:512] and data[:512].isascii() else "damaged, or of a kind that is not read"
        return f"the file is not an image: it is {kind}.", "not_an_image"
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY, "too_large"
    if "truncated" in text.lower() or isinstance(error, EOFError | struct.error):
        return "the image is cut short; it is tried again when the file changes.", "damaged"
    return f"the image is damaged, or uses what its decoder does not know ({text or type(error).__name__}).", "damaged"


def _is_empty(data: bytes) -> bool:
    """Whether the header gives a width or height of 0, which Pillow takes for another format."""
    for magic, (sides, offset) in _SIDES.items():
        if data.startswith(magic) and len(data) >= offset + struct.calcsize(sides):
            return 0 in struct.unpack_from(sides, data, offset)
    return False


def _too_large(pixels: int | None) -> tuple[str, FailureKind]:
    size = f"{pixels / 1e6:.0f} megapixels" if pixels else "more pixels"
    return (
        f"the image has {size}, more than limits.max_pixels allows; raise that limit if it is to be indexed.",
        "too_large",
    )
