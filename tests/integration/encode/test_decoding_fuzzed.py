"""Two thousand photos that something happened to: each is a photo or a reason, and none does anything else to the daemon."""

from __future__ import annotations

import io
import itertools
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
import pytest
import skimage.data
from PIL import Image

from daemon.encode.decoding.decoders import Decoders, Limits
from daemon.errors import PhotoError

if TYPE_CHECKING:
    from collections.abc import Callable

PHOTOS = 2000
FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "GIF", "BMP", "TGA", "JPEG2000")
INTERESTING = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
MIB = 2**20
SLOWEST_SECONDS = 10.0


def originals() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2021:05:06 07:08:09"
    image = Image.fromarray(skimage.data.astronaut()).resize((192, 160))
    found = {}
    for name in FORMATS:
        file = io.BytesIO()
        image.save(file, name, **({"exif": exif} if name in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF") else {}))
        found[name] = file.getvalue()
    return found


def flipped(data: bytearray, dice: random.Random) -> bytes:
    for _ in range(dice.choice((1, 2, 8, 64))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data)


def overwritten(data: bytearray, dice: random.Random) -> bytes:
    """Lengths, counts and offsets are what headers hold."""
    for _ in range(dice.choice((1, 2, 4))):
        start, length = dice.randrange(min(len(data), 512)), dice.choice((1, 2, 4))
        data[start : start + length] = bytes([dice.choice(INTERESTING)]) * length
    return bytes(data)


def cut(data: bytearray, dice: random.Random) -> bytes:
    return bytes(data[: dice.randrange(len(data))])


def spliced(data: bytearray, dice: random.Random) -> bytes:
    start, end = sorted(dice.randrange(len(data)) for _ in range(2))
    place = dice.randrange(len(data))
    return bytes(data[:place] + data[start:end] + data[place:])


def emptied(data: bytearray, dice: random.Random) -> bytes:
    start = dice.randrange(len(data))
    return bytes(data[:start] + bytes(min(4096, len(data) - start)) + data[start + 4096 :])


MUTATIONS: tuple[Callable[[bytearray, random.Random], bytes], ...] = (flipped, overwritten, cut, spliced, emptied)


# After each that is none, another copy of the decoder begins, which takes its turn on a busy machine.
@pytest.mark.timeout(300)
def test_every_damaged_photo_is_a_photo_or_a_reason_and_costs_no_memory() -> None:
    dice = random.Random(20260)
    files = originals()
    decoders = Decoders(1, Limits(10**8, 30.0, 1024 * MIB), warm=1)
    decoders.start()
    outcomes: Counter[str] = Counter()
    try:
        for number, (name, mutate) in zip(range(PHOTOS), itertools.cycle(itertools.product(files, MUTATIONS))):
            data = mutate(bytearray(files[name]), dice)
            began = time.monotonic()
            outcomes[outcome(decoders, data, f"/p/a.{name.lower()}")] += 1
            assert time.monotonic() - began < SLOWEST_SECONDS, f"{name}, {mutate.__name__}, photo {number}"
            if number == PHOTOS // 4:
                settled = memory_bytes()
        grown = memory_bytes() - settled
    finally:
        decoders.stop()
    assert outcomes["photo"] > PHOTOS // 10
    assert outcomes["refused"] > PHOTOS // 10
    assert outcomes["garbled"] == 0
    # A crash is what the decoders are for; here and now there is none.
    assert outcomes["crashed"] == decoders.replaced == 0
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB more after the last {PHOTOS * 3 // 4} photos"


def outcome(decoders: Decoders, data: bytes, path: str) -> str:
    try:
        decoded = decoders.decode(data, path, min_side=96)
    except PhotoError as error:
        # A sentence on one line, for every list and log that it comes into.
        return (
            "crashed"
            if error.reason.startswith("it made its decoder")
            else "refused"
            if error.reason.isprintable()
            else "garbled"
        )
    return "photo" if decoded.image.mode == "RGB" else "garbled"


def memory_bytes() -> int:
    """Return what this process and its decoders hold in memory, in bytes."""
    us = psutil.Process()
    return sum(int(one.memory_info().rss) for one in [us, *us.children(recursive=True)])
