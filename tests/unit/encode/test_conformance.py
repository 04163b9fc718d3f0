"""Pictures of every arrangement of bits, channels, compression, alpha and orientation come out as an independent decoder has them."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from daemon.encode.images import Decoded, decode
from daemon.errors import PhotoError

WIDTH, HEIGHT = 37, 23


def scene() -> np.ndarray:
    """Return a picture without symmetry, [height, width, 3] of 8 bits."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([columns * 255 // WIDTH, rows * 255 // HEIGHT, (rows < HEIGHT // 3) * 200], axis=-1).astype(
        np.uint8
    )


def gray() -> np.ndarray:
    return scene()[..., 0]


def opened(data: bytes, name: str) -> Decoded:
    return decode(data, name, min_side=2000, max_pixels=10**6)


def assert_shows(data: bytes, name: str, expected: np.ndarray, *, tolerance: float = 1) -> None:
    shown = np.asarray(opened(data, name).image).astype(int)
    if expected.ndim == 2:
        expected = np.dstack([expected] * 3)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected.astype(int)).max() <= tolerance


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(
        buffer, bigtiff=options.pop("bigtiff", False), byteorder=options.pop("byteorder", "<")
    ) as writer:
        writer.write(pixels, metadata=None, **options)
    return buffer.getvalue()


def as_tifffile_has_it(data: bytes) -> np.ndarray:
    """Return 8 bits a channel, [height, width] or [height, width, channels], black at 0."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        stored = page.asarray()
        if page.planarconfig == 2 and stored.ndim == 3:
            stored = np.moveaxis(stored, 0, 2)
        most = np.iinfo(stored.dtype).max if stored.dtype.kind == "u" else 1
        pixels = np.rint(stored.astype(np.float64) * 255 / most).astype(np.uint8)
        return 255 - pixels if page.photometric == 0 else pixels


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_tiff_in_colours(
    *, bits: int, planar: str, compression: str | None, byteorder: str, bigtiff: bool, tile: tuple[int, int] | None
) -> None:
    pixels = scene() if bits == 8 else scene().astype(np.uint16) * 257
    stored = np.moveaxis(pixels, 2, 0) if planar == "separate" else pixels
    data = tiff(
        np.ascontiguousarray(stored),
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        byteorder=byteorder,
        bigtiff=bigtiff,
        tile=tile,
        **({} if tile else {"rowsperstrip": 5}),
    )
    assert_shows(data, "a.tif", as_tifffile_has_it(data))
    assert_shows(data, "a.tif", scene())


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_gray_tiff(*, bits: int, photometric: str, compression: str | None, byteorder: str, bigtiff: bool) -> None:
    pixels = gray() if bits == 8 else gray().astype(np.uint16) * 257
    data = tiff(pixels, photometric=photometric, compression=compression, byteorder=byteorder, bigtiff=bigtiff)
    assert_shows(data, "a.tif", as_tifffile_has_it(data))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_gray_tiff_of_16_bits_in_each_compression(*, compression: str, inverted: bool) -> None:
    buffer = io.BytesIO()
    Image.fromarray(gray().astype(np.uint16) * 257).save(
        buffer, "TIFF", compression=compression, tiffinfo={262: 0 if inverted else 1}
    )
    data = buffer.getvalue()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        is_inverted = file.pages.first.photometric == 0
        at = file.pages.first.tags[262].valueoffset
    if is_inverted != inverted:
        data = data[:at] + struct.pack("<H", not inverted) + data[at + 2 :]
    assert_shows(data, "a.tif", 255 - gray() if inverted else gray())


@pytest.mark.parametrize("factor", [1, 257])
def test_a_tiff_with_a_palette_of_entries_that_fill_8_bits_or_16(factor: int) -> None:
    indices = gray()
    entries = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint16)
    data = tiff(indices, photometric="palette", colormap=entries * np.uint16(factor))
    assert_shows(data, "a.tif", np.moveaxis(entries[:, indices], 0, 2))


def test_12_bits_in_a_container_of_16_fill_the_range_when_the_file_says_so() -> None:
    data = tiff(gray().astype(np.uint16) * 16, photometric="minisblack", extratags=[(281, "H", 1, 4095, True)])
    assert_shows(data, "a.tif", np.rint(gray().astype(float) * 16 * 255 / 4095))


def test_12_bits_a_sample_fill_the_range() -> None:
    values = (gray()[:, :36].astype(np.uint32) * 16).reshape(-1, 2)
    packed = np.stack([values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], axis=1)
    body = packed.astype(np.uint8).tobytes()
    tags = [
        (256, 36),
        (257, HEIGHT),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, HEIGHT),
        (279, len(body)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0\0\0\0"
    assert_shows(data, "a.tif", np.rint(gray()[:, :36].astype(float) * 16 * 255 / 4095))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_planar_tiff_is_turned_as_any_other(orientation: int) -> None:
    extratags = [(274, "H", 1, orientation, True)]
    pixels = scene().astype(np.uint16) * 257
    planar = tiff(np.moveaxis(pixels, 2, 0).copy(), photometric="rgb", planarconfig="separate", extratags=extratags)
    chunky = tiff(scene(), photometric="rgb", extratags=extratags)
    assert_shows(planar, "a.tif", np.asarray(opened(chunky, "a.tif").image))


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha", "unspecified"])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("colours", ["rgb", "minisblack", "miniswhite"])
def test_planes_with_a_further_one(alpha: str, kind: str, byteorder: str, colours: str) -> None:
    shown = scene() if colours == "rgb" else gray()[..., None]
    pixels = np.concatenate(
        [255 - shown if colours == "miniswhite" else shown, np.full((HEIGHT, WIDTH, 1), 255)], axis=2
    )
    stored = np.moveaxis(pixels.astype(kind) * (np.iinfo(kind).max // 255), 2, 0).copy()
    data = tiff(stored, photometric=colours, planarconfig="separate", extrasamples=[alpha], byteorder=byteorder)
    if (kind, byteorder) == ("u4", ">"):
        with pytest.raises(PhotoError, match="a TIFF of 32 bits a channel"):
            opened(data, "a.tif")
        return
    assert_shows(data, "a.tif", scene() if colours == "rgb" else gray())


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_the_page_that_is_no_reduced_copy_is_the_picture(*, bigtiff: bool, byteorder: str) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=bigtiff, byteorder=">" if byteorder == ">" else "<") as writer:
        writer.write(scene()[::3, ::3], photometric="rgb", subfiletype=1, metadata=None)
        writer.write(scene(), photometric="rgb", metadata=None)
    assert_shows(buffer.getvalue(), "a.tif", scene())


def packed_row(row: bytes) -> bytes:
    return b"".join(bytes([len(part) - 1]) + part for part in (row[at : at + 128] for at in range(0, len(row), 128)))


def psd(planes: list[bytes], mode: int, bits: int, *, rle: bool = False, version: int = 1, **parts: bytes) -> bytes:
    """Return a Photoshop file of these channels, as its specification has it."""
    count = ">H" if version == 1 else ">I"
    if rle:
        each = len(planes[0]) // HEIGHT
        rows = [packed_row(plane[at : at + each]) for plane in planes for at in range(0, len(plane), each)]
        body = b"\0\1" + b"".join(struct.pack(count, len(row)) for row in rows) + b"".join(rows)
    else:
        body = b"\0\0" + b"".join(planes)
    palette, resources = parts.get("palette", b""), parts.get("resources", b"")
    head = struct.pack(">4sH6xHIIHH", b"8BPS", version, len(planes), HEIGHT, WIDTH, bits, mode)
    layers = struct.pack(">I" if version == 1 else ">Q", 0)
    return head + b"".join(struct.pack(">I", len(one)) + one for one in (palette, resources)) + layers + body


@pytest.mark.parametrize("length", range(4, 100, 3))
def test_a_tiff_whose_directory_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(PhotoError, match=r"cut short|not an image|damaged") as caught:
        opened(tiff(scene())[:length], "a.tif")
    assert "variable" not in caught.value.reason


PSD_CASES = list(itertools.product([8, 16], [False, True], [1, 2], [0, 1, 2]))


@pytest.mark.parametrize(("bits", "rle", "version", "extra"), PSD_CASES)
def test_a_psd_whatever_its_channels(*, bits: int, rle: bool, version: int, extra: int) -> None:
    def plane(values: np.ndarray) -> bytes:
        return values.tobytes() if bits == 8 else (values.astype(">u2") * 257).astype(">u2").tobytes()

    more = [plane(255 - gray())] * extra
    colours = [plane(scene()[..., one]) for one in range(3)]
    assert_shows(psd(colours + more, 3, bits, rle=rle, version=version), "a.psd", scene())
    assert_shows(psd([plane(gray()), *more], 1, bits, rle=rle, version=version), "a.psd", gray())
    assert_shows(psd([plane(gray()), *more], 8, bits, rle=rle, version=version), "a.psd", gray())
    inks = [plane(scene()[..., one]) for one in range(3)] + [plane(np.full_like(gray(), 255))]
    assert_shows(psd(inks + more, 4, bits, rle=rle, version=version), "a.psd", scene(), tolerance=2)


@pytest.mark.parametrize("rle", [False, True])
def test_a_psd_in_bitmap_mode_and_with_a_palette(*, rle: bool) -> None:
    black = gray() < 100
    assert_shows(psd([np.packbits(black, axis=1).tobytes()], 0, 1, rle=rle), "a.psd", np.where(black, 0, 255))
    entries = np.random.default_rng(1).integers(0, 256, (3, 256), np.uint8)
    data = psd([gray().tobytes()], 2, 8, rle=rle, palette=entries.tobytes())
    assert_shows(data, "a.psd", np.moveaxis(entries[:, gray()], 0, 2))


def test_a_psd_that_is_not_read_is_refused_by_its_name() -> None:
    plain = [gray().tobytes()] * 3
    none = b"8BIM\x04\x21\0\0" + struct.pack(">I", 6) + b"\0\0\0\1\0\0"
    for data, name in [
        (psd(plain, 3, 8, resources=none), "a PSD without a composite"),
        (psd(plain, 3, 32), "a PSD of 32 bits a channel"),
        (psd(plain, 9, 8), "a PSD in Lab colours"),
        (psd(plain, 7, 8), "a PSD in multichannel mode"),
    ]:
        with pytest.raises(PhotoError, match=name):
            opened(data, "a.psd")


@pytest.mark.parametrize("declared", [0, 8])
@pytest.mark.parametrize("alpha", [0, 255])
def test_a_tga_shows_through_only_where_it_says_so(declared: int, alpha: int) -> None:
    pixels = np.dstack([scene()[..., ::-1], np.full_like(gray(), alpha)])
    head = struct.pack("<BBB5xHHHHBB", 0, 0, 2, 0, 0, WIDTH, HEIGHT, 32, 0x20 | declared)
    assert_shows(head + pixels.tobytes(), "a.tga", scene())


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_bmp_with_a_mask_of_alpha_that_is_zero_everywhere_is_opaque(alpha: int) -> None:
    pixels = np.dstack([scene()[..., ::-1], np.full_like(gray(), alpha)])[::-1].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks + b"\0" * 52
    data = b"BM" + struct.pack("<IHHI", 14 + 108 + len(pixels), 0, 0, 14 + 108) + info + pixels
    assert_shows(data, "a.bmp", scene())


@pytest.mark.parametrize(
    ("bits", "kind", "zero", "scale"), [(16, ">i2", 32768, 1), (8, ">u1", 0, 1), (-32, ">f4", 0, 1), (16, ">i2", 0, 2)]
)
def test_fits_has_physical_values(bits: int, kind: str, zero: int, scale: int) -> None:
    physical = gray().astype(np.float64) * {16: 257, 8: 1, -32: 1 / 255}[bits]
    # In such a file the first row is the lowest.
    stored = np.round((physical - zero) / scale, 0 if bits > 0 else 9)[::-1].astype(kind)
    cards = {
        "SIMPLE": "T",
        "BITPIX": bits,
        "NAXIS": 2,
        "NAXIS1": WIDTH,
        "NAXIS2": HEIGHT,
        "BZERO": zero,
        "BSCALE": scale,
    }
    head = "".join(f"{name:8}= {value!s:>20}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    data = head.ljust(2880).encode() + stored.tobytes()
    assert_shows(data + b"\0" * (-len(data) % 2880), "a.fits", gray())


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "PNG")
    data = buffer.getvalue()
    more = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return data[:33] + more + data[33:]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"iCCP", b"profile\0\0" + zlib.compress(b"\0" * 3_000_000)),
        (b"zTXt", b"text\0\0" + zlib.compress(b"a" * 3_000_000)),
        (b"iTXt", b"text\0\1\0\0\0" + zlib.compress(b"a" * 3_000_000)),
        (b"eXIf", b"damaged"),
        (b"iCCP", b"profile\0\0damaged"),
    ],
)
def test_no_metadata_costs_a_png(chunk: tuple[bytes, bytes]) -> None:
    assert_shows(png_with(chunk), "a.png", scene())


@pytest.mark.parametrize("marker", [*range(0xE0, 0xF0), 0xFE])
@pytest.mark.parametrize(
    "body", [b"", b"J", b"JFIF\0", b"Exif\0\0", b"Adobe", b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"MPF\0"]
)
def test_no_short_segment_costs_a_jpeg(marker: int, body: bytes) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "JPEG", quality=95)
    plain = buffer.getvalue()
    segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body
    for data in (plain[:2] + segment + plain[2:], plain[:2] + segment + plain[20:]):
        assert_shows(data, "a.jpg", np.asarray(opened(plain, "a.jpg").image), tolerance=8)


def test_a_jpeg_that_is_not_read_is_refused_by_its_name() -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(PhotoError, match="a JPEG of 12 bits a channel"):
        opened(bytes(data), "a.jpg")


def test_a_heic_sequence_is_refused_by_its_name() -> None:
    def box(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", 8 + len(body)) + name + body

    data = box(b"ftyp", b"hevc\0\0\0\0msf1hevc") + box(b"moov", b"\0" * 64) + box(b"mdat", b"\0" * 64)
    with pytest.raises(PhotoError, match="a HEIC sequence without a still picture"):
        opened(data, "a.heic")


TURNED = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description tiff:Orientation=\"6\"/></x:xmpmeta>"


@pytest.mark.parametrize("format_name", ["AVIF", "WEBP"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_container_and_exif_turn_a_picture_and_xmp_does_not(format_name: str, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    plain, turned = io.BytesIO(), io.BytesIO()
    Image.fromarray(scene()).save(plain, "JPEG", quality=95, **({"exif": exif} if orientation else {}))
    Image.fromarray(scene()).save(
        turned, format_name, quality=95, xmp=TURNED, **({"exif": exif} if orientation else {})
    )
    shown = np.asarray(opened(turned.getvalue(), "a").image).astype(int)
    expected = np.asarray(opened(plain.getvalue(), "a.jpg").image).astype(int)
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 6


def grown(data: bytes, added: dict[bytes, bytes]) -> bytes:
    """Return an AVIF whose `ipco` has a further box, associated with the only item, and whose offsets fit again."""
    more = sum(map(len, added.values()))
    for name, extra in added.items():
        at = data.index(name) - 4
        end = at + int.from_bytes(data[at : at + 4], "big")
        data = data[:end] + extra + data[end:]
        for parent in (name, b"iprp", b"meta"):
            place = data.index(parent) - 4
            length = int.from_bytes(data[place : place + 4], "big") + len(extra)
            data = data[:place] + struct.pack(">I", length) + data[place + 4 :]
    place = data.index(b"ipma") + 4 + 4 + 4 + 2
    known = int(data[place])
    data = data[:place] + bytes([known + 1]) + data[place + 1 :]
    # Version 0 with offsets of 4 bytes, as libavif writes it: the item's only extent.
    start = data.index(b"mdat") + 4
    old = struct.pack(">I", start - more)
    assert data.count(old) == 1
    return data.replace(old, struct.pack(">I", start))


def test_an_avif_is_cropped_as_its_container_says() -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "AVIF", quality=100)
    data = buffer.getvalue()
    begin = data.index(b"ipco")
    count, at = 0, begin + 4
    while at < begin - 4 + int.from_bytes(data[begin - 4 : begin], "big"):
        count, at = count + 1, at + int.from_bytes(data[at : at + 4], "big")
    # 21 x 11 pixels whose centre is (-2, 1) from that of the picture.
    aperture = struct.pack(">I4sIIIIiIiI", 40, b"clap", 21, 1, 11, 1, -2, 1, 1, 1)
    cropped = opened(grown(data, {b"ipco": aperture, b"ipma": bytes([0x80 | count + 1])}), "a.avif")
    assert (cropped.width, cropped.height) == cropped.image.size == (21, 11)
    expected = np.asarray(opened(data, "a.avif").image).astype(int)[7:18, 6:27]
    assert np.abs(np.asarray(cropped.image) - expected).max() == 0
