"""Photos as cameras, browsers and other people's test sets make them; they lie beside the checkout, where there are any."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from daemon.encode.images import EXTENSIONS, decode
from daemon.errors import PhotoError

if TYPE_CHECKING:
    from daemon.encode.encoder import Encoder
    from daemon.encode.images import Decoded

PHOTOS = Path(__file__).parents[4] / "shared" / "photos"
pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"there is no collection of photos at {PHOTOS}")

# What Pillow and libavif do not decode: alpha planes of another range, bitfields and compressions of old writers.
REFUSED = {
    "plum-blossom-large.profile1.8bpc.yuv444.alpha-limited.avif",
    "plum-blossom-large.profile2.12bpc.yuv444.alpha-limited.avif",
    "plum-blossom-small.profile1.10bpc.yuv444.alpha-limited.avif",
    "plum-blossom-small.profile2.12bpc.yuv444.alpha-full.avif",
    "TODO hpredict_cmyk.tiff",
    "old-rle.hdr.tiff",
    "V3_A4_R4_G4_B4.bmp",
    "rgb16-880.bmp",
}


def opened(path: Path) -> Decoded:
    return decode(path.read_bytes(), str(path), min_side=256, max_pixels=100_000_000)


def files(folder: str = "") -> list[Path]:
    return sorted(path for path in (PHOTOS / folder).rglob("*") if path.suffix.lower() in EXTENSIONS)


def test_every_file_gives_a_photo_or_a_reason() -> None:
    refused, formats = set(), set()
    for path in files():
        try:
            photo = opened(path)
        except PhotoError as error:
            assert error.reason  # noqa: PT017 - a photo is as good an outcome
            refused.add(path.name)
        else:
            assert photo.image.mode == "RGB"
            assert min(photo.width, photo.height) > 0
            formats.add(photo.format)
    assert refused <= REFUSED
    assert formats >= {"JPEG", "HEIF", "AVIF", "WEBP", "PNG", "BMP", "GIF", "TIFF"}


def test_what_is_no_photo_is_refused() -> None:
    others = [path for path in PHOTOS.rglob("*") if path.suffix == ".md"]
    assert others
    for path in others:
        with pytest.raises(PhotoError, match="it is text"):
            opened(path)


@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_the_orientation_examples_all_show_the_same(encoder: Encoder, name: str) -> None:
    photos = [opened(PHOTOS / "exif-orientation" / f"{name}_{orientation}.jpg") for orientation in range(9)]
    wide = name == "Landscape"
    assert all((photo.width > photo.height) is wide for photo in photos)
    (rows,) = encoder.encode([encoder.preprocess(photo.image) for photo in photos]).values()
    # Each example has its own number printed on it.
    assert (rows @ rows.T).min() > 0.8


def test_phones_say_when_a_photo_was_taken() -> None:
    photo = opened(PHOTOS / "cameras" / "iphone_13_pro_max.HEIC")
    assert (photo.format, photo.width, photo.height) == ("HEIF", 3024, 4032)
    assert photo.taken_at == "2022-02-16T12:55:41"


def test_photos_of_one_kind_find_each_other(encoder: Encoder) -> None:
    by_label: dict[str, list[np.ndarray]] = defaultdict(list)
    for path in files("pacs"):
        if len(by_label[path.parent.name]) < 10:
            by_label[path.parent.name].append(encoder.preprocess(opened(path).image))
    labels = np.repeat(sorted(by_label), [len(by_label[label]) for label in sorted(by_label)])
    (rows,) = encoder.encode([x for label in sorted(by_label) for x in by_label[label]]).values()
    scores = rows @ rows.T
    np.fill_diagonal(scores, -1)
    assert (labels[scores.argmax(axis=1)] == labels).mean() > 0.9
