"""Decoding: what photos come as, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile

from daemon.encode.images import EXTENSIONS, Decoded, decode
from daemon.errors import PhotoError

RED = (200, 30, 40)


@pytest.fixture(autouse=True)
def pixel_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put Pillow's limit, which is one per process, back after each test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """Return a picture without symmetry, smooth enough for lossy formats."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 255 / width, rows * 255 / height, (rows < height / 3) * 200], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def opened(data: bytes, *, name: str = "photo.jpg", min_side: int = 32, max_pixels: int = 10**6) -> Decoded:
    return decode(data, name, min_side=min_side, max_pixels=max_pixels)


def refusal(data: bytes, *, max_pixels: int = 10**6) -> str:
    with pytest.raises(PhotoError) as caught:
        opened(data, max_pixels=max_pixels)
    assert caught.value.path == "photo.jpg"
    assert "\n" not in caught.value.reason
    return caught.value.reason


def pixel(data: bytes, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    value = opened(data).image.getpixel(at)
    assert isinstance(value, tuple)
    return tuple(int(channel) for channel in value)


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one).astype(float) - np.asarray(other).astype(float)).mean())


def png(width: int, height: int, *, data: bytes = b"") -> bytes:
    """Return a PNG whose header says any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


LOSSLESS = ["PNG", "TIFF", "BMP", "WEBP", "TGA", "PPM", "PCX", "SGI", "QOI", "JPEG2000", "DIB"]


@pytest.mark.parametrize("format_name", [*LOSSLESS, "JPEG", "AVIF", "HEIF"])
def test_every_common_format_becomes_rgb_of_its_own_size(format_name: str) -> None:
    options = {"lossless": True} if format_name == "WEBP" else {}
    name = "photo.tga" if format_name == "TGA" else "photo.jpg"
    photo = opened(saved(scene(), format_name, **options), name=name, min_side=64)
    assert (photo.image.mode, photo.image.size) == ("RGB", (96, 64))
    assert (photo.width, photo.height, photo.format) == (96, 64, format_name)
    assert difference(photo.image, scene()) < (0.01 if format_name in LOSSLESS else 6)


def test_extensions_are_lower_case_and_leave_out_what_is_dangerous() -> None:
    assert {".jpg", ".jpeg", ".png", ".heic", ".heif", ".hif", ".avif", ".webp", ".tiff", ".mpo"} <= EXTENSIONS
    assert all(extension == extension.lower() and extension.startswith(".") for extension in EXTENSIONS)
    assert not EXTENSIONS & {
        ".eps",
        ".ps",
        ".pdf",
        ".wmf",
        ".emf",
        ".h5",
        ".grib",
        ".bufr",
        ".mpg",
        ".svg",
    }


def test_every_extension_is_one_that_pillow_knows() -> None:
    assert set(Image.registered_extensions()) >= EXTENSIONS


def test_a_format_without_a_signature_is_tried_only_where_the_name_says_it() -> None:
    data = saved(scene(), "TGA")
    assert opened(data, name="photo.TGA").format == "TGA"
    assert "not an image" in refusal(data)


def test_postscript_is_never_run_whatever_it_is_called() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert refusal(postscript) == "the file is not an image: it is text."


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"Dear diary,\n", "it is text"),
        (bytes(range(256)) * 8, "damaged, or of a kind that is not read"),
        (b"GIF87a" + bytes(8), ""),
        (b"P6 0 0 255\n", ""),
        (b"\xff\xd8\xff\xe0" + bytes(100), ""),
        (b"II*\0" + bytes(100), ""),
        (b"\0\0\0\x18ftypheic" + bytes(100), ""),
        (b"\0\0\0\x18ftypavif" + bytes(100), ""),
    ],
)
def test_what_is_no_image_is_refused_with_its_own_sentence(data: bytes, reason: str) -> None:
    assert reason in refusal(data)


@pytest.mark.parametrize(
    "data",
    [
        png(0, 0),
        png(0, 5),
        b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 4, 0, 1, 24) + bytes(24),
        b"qoif" + struct.pack(">II", 0, 4) + bytes(20),
    ],
)
def test_an_image_without_pixels_is_refused_as_such(data: bytes) -> None:
    assert refusal(data) == "the image has no pixels; export it again."


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "AVIF", "HEIF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_still_being_written_is_never_a_photo(format_name: str, share: float) -> None:
    data = saved(Image.effect_noise((256, 256), 90).convert("RGB"), format_name)
    with pytest.raises(PhotoError):
        opened(data[: int(len(data) * share)])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_truncated_jpeg_says_that_it_is_cut_short() -> None:
    data = saved(scene(640, 480), "JPEG")
    assert "cut short" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("side", [1001, 1500, 20_000])
def test_too_many_pixels_are_refused_from_the_header_in_one_sentence(side: int) -> None:
    megapixels = f"{side * side / 1e6:.0f} megapixels"
    reason = refusal(png(side, side))
    assert reason.startswith(f"the image has {megapixels}, more than limits.max_pixels allows")


def test_the_pixel_limit_itself_is_allowed() -> None:
    assert opened(saved(scene(100, 100), "PNG"), max_pixels=10_000).width == 100
    assert "max_pixels" in refusal(saved(scene(101, 100), "PNG"), max_pixels=10_000)


@pytest.mark.parametrize(
    ("size", "min_side", "expected"),
    [
        ((1600, 1200), 256, (400, 300)),
        ((1600, 1200), 301, (800, 600)),
        ((1600, 1200), 1200, (1600, 1200)),
        ((1600, 1200), 5000, (1600, 1200)),
        ((4096, 2048), 256, (512, 256)),
        ((1201, 1603), 300, (301, 401)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_is_large_enough(
    size: tuple[int, int], min_side: int, expected: tuple[int, int]
) -> None:
    photo = opened(saved(scene(*size), "JPEG"), min_side=min_side, max_pixels=10**8)
    assert photo.image.size == expected
    assert (photo.width, photo.height) == size


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says_exactly_once(format_name: str, orientation: int) -> None:
    upright = scene(512, 384)
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if inverse is None else upright.transpose(inverse)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    # As bytes: pillow-heif then writes the turning into the container too, as cameras do.
    photo = opened(saved(stored, format_name, exif=exif.tobytes()), min_side=384)
    assert (photo.width, photo.height) == (512, 384)
    assert photo.image.size == (512, 384)
    assert difference(photo.image, upright) < 6


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_exif_does_not_define_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert opened(saved(scene(), "JPEG", exif=exif), min_side=64).image.size == (96, 64)


def with_time(value: str) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = value
    return saved(scene(), "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("value", "taken_at"),
    [
        ("2021:04:11 15:47:53", "2021-04-11T15:47:53"),
        ("2021:04:11 15:47:53\0", "2021-04-11T15:47:53"),
        ("0000:00:00 00:00:00", ""),
        ("    :  :     :  :  ", ""),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_the_time_is_that_of_the_camera_or_empty(value: str, taken_at: str) -> None:
    assert opened(with_time(value)).taken_at == taken_at


def test_a_photo_without_exif_has_no_time() -> None:
    assert opened(saved(scene(), "PNG")).taken_at == ""


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0" + b"\xff" * 40])
def test_damaged_exif_does_not_cost_the_photo(exif: bytes) -> None:
    photo = opened(saved(scene(), "JPEG", exif=exif), min_side=64)
    assert (photo.image.size, photo.taken_at) == ((96, 64), "")


@pytest.mark.parametrize(
    ("image", "format_name", "expected"),
    [
        (Image.new("L", (40, 40), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (40, 40), 1), "PNG", (255, 255, 255)),
        (Image.new("LA", (40, 40), (10, 0)), "PNG", (255, 255, 255)),
        (Image.new("LA", (40, 40), (10, 255)), "PNG", (10, 10, 10)),
        (Image.new("RGBA", (40, 40), (*RED, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (40, 40), (0, 0, 0, 51)), "PNG", (204, 204, 204)),
        (Image.new("CMYK", (40, 40), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
        (Image.new("CMYK", (40, 40), (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
        (Image.new("I;16", (40, 40), 65535), "PNG", (255, 255, 255)),
        (Image.new("I;16", (40, 40), 32896), "PNG", (128, 128, 128)),
        (Image.new("I;16", (40, 40), 300), "TIFF", (1, 1, 1)),
        (Image.new("I", (40, 40), 32896), "TIFF", (128, 128, 128)),
        (Image.new("F", (40, 40), 0.5), "TIFF", (128, 128, 128)),
    ],
)
def test_every_mode_becomes_the_colour_that_is_seen(
    image: Image.Image, format_name: str, expected: tuple[int, int, int]
) -> None:
    np.testing.assert_allclose(pixel(saved(image, format_name)), expected, atol=1)


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, *RED])
    assert pixel(saved(image, "PNG", transparency=1)) == (255, 255, 255)
    assert pixel(saved(image, "PNG")) == RED


def test_a_colour_declared_transparent_lies_on_white() -> None:
    assert pixel(saved(Image.new("RGB", (40, 40), RED), "PNG", transparency=RED)) == (255, 255, 255)


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_stands_for_an_animation(format_name: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, (0, 0, 255))]
    data = saved(frames[0], format_name, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(pixel(data, (20, 20)), RED, atol=6)


def test_a_jpeg_with_further_frames_is_a_jpeg() -> None:
    data = saved(scene(800, 600), "MPO", save_all=True, append_images=[scene(80, 60)])
    photo = opened(data, min_side=100)
    assert (photo.format, photo.image.size, photo.width) == ("JPEG", (200, 150), 800)


def test_random_damage_gives_a_photo_or_a_reason_and_nothing_else() -> None:
    rng = np.random.default_rng(5)
    for format_name in ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "HEIF", "AVIF", "PPM", "TGA", "PCX", "SGI", "QOI"):
        data = saved(scene(48, 40), format_name)
        for _ in range(60):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 4):
                damaged[position] = rng.integers(0, 256)
            try:
                photo = opened(bytes(damaged))
            except PhotoError as error:
                assert error.reason  # noqa: PT017 - a photo is as good an outcome
            else:
                assert photo.image.mode == "RGB"


def test_several_threads_decode_the_same_as_one() -> None:
    files = [saved(scene(300 + i, 200), name) for i in range(8) for name in ("JPEG", "PNG", "HEIF", "WEBP")]
    expected = [opened(data).image.tobytes() for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert [photo.image.tobytes() for photo in pool.map(opened, files)] == expected
