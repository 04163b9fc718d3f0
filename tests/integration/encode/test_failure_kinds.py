"""Why a file is not indexed, for programs: the kind of a failure, also where a process of its own has found it."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from daemon.beneath import Disk
from daemon.encode.decoding import process
from daemon.encode.decoding.decoders import Decoders, Limits
from daemon.errors import FailureKind, PhotoError
from daemon.reading import read_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = Limits(max_pixels=10**6, timeout_seconds=30.0, memory_bytes=2**30)


def saved(image: Image.Image, format_name: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, format_name)
    return file.getvalue()


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    decoders = Decoders(1, LIMITS, warm=1)
    decoders.start()
    yield decoders
    decoders.stop()


NOISE = saved(Image.effect_noise((400, 300), 90))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"Dear diary,\n", "not_an_image"),
        (bytes(range(256)) * 8, "not_an_image"),
        (b"", "damaged"),
        (NOISE[: len(NOISE) // 2], "damaged"),
        (saved(Image.new("L", (2000, 2000)), "PNG"), "too_large"),
    ],
)
def test_what_a_decoder_refuses_has_its_kind(decoders: Decoders, data: bytes, kind: FailureKind) -> None:
    with pytest.raises(PhotoError) as caught:
        decoders.decode(data, "a.jpg", min_side=8)
    assert caught.value.kind == kind


def test_what_takes_too_long_has_its_kind(decoders: Decoders) -> None:
    decoders.decode(NOISE, "a.jpg", min_side=8)
    slow = saved(Image.new("L", (12_000, 12_000)), "PNG")
    decoders.limits = Limits(10**9, 0.05, LIMITS.memory_bytes)
    with pytest.raises(PhotoError) as caught:
        decoders.decode(slow, "a.png", min_side=8)
    decoders.limits = LIMITS
    assert caught.value.kind == "timeout"


def test_what_ends_its_decoders_has_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    # A program that says that it is ready, reads a little, and ends.
    ends = "import os; os.write(0, (0).to_bytes(4, 'little')); os.read(0, 1)"
    monkeypatch.setattr(process.Decoder.__init__, "__defaults__", ((sys.executable, "-c", ends),))
    decoders = Decoders(1, LIMITS, warm=0)
    with pytest.raises(PhotoError) as caught:
        decoders.decode(NOISE, "a.jpg", min_side=8)
    decoders.stop()
    assert caught.value.kind == "crashed"


def test_what_cannot_be_read_has_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(NOISE)
    with pytest.raises(PhotoError) as caught:
        read_whole(os.fspath(file), len(NOISE) - 1, Disk([str(tmp_path)]))
    assert caught.value.kind == "too_large"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_has_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.touch(mode=0o000)
    with pytest.raises(PhotoError) as caught:
        read_whole(os.fspath(file), 1000, Disk([str(tmp_path)]))
    assert caught.value.kind == "unreadable"
