"""The photos that a model is tried on: those of the user, or generated ones."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from daemon import beneath
from daemon.encode.images import EXTENSIONS
from daemon.errors import PhotoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_PHOTOS = 200
_GENERATED = 8
_GENERATED_SIDES = (1600, 1200)
# Files that are held in memory to be decoded again and again.
_DECODED_AGAIN = 16


class Sample(NamedTuple):
    name: str
    content: bytes


@dataclass
class Samples:
    """Of every photo the name and the input; of the first ones the file too, to decode it again."""

    names: list[str] = field(default_factory=list)
    inputs: list[np.ndarray] = field(default_factory=list)
    kept: list[Sample] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def add(self, photo: Sample, load: Callable[[Sample], np.ndarray]) -> None:
        """Keep a photo as what `load` makes of it, or the sentence that says why there is nothing to be made."""
        try:
            self.inputs.append(load(photo))
        except PhotoError as error:
            self.unreadable.append(str(error))
            return
        self.names.append(photo.name)
        if len(self.kept) < _DECODED_AGAIN:
            self.kept.append(photo)


def given_photos(given: Sequence[Path], unreadable: list[str]) -> Iterator[Sample]:
    """Yield at most MAX_PHOTOS of the photos at or below `given`; what cannot be read goes, as a sentence, to `unreadable`."""
    for path in islice((found for one in given for found in _photos(one)), MAX_PHOTOS):
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                unreadable.append(f"{path}: it is not a regular file; name a photo, or a folder of them.")
                continue
            yield Sample(str(path), path.read_bytes())
        except FileNotFoundError:
            unreadable.append(f"{path}: there is no such file or folder; name one that is there.")
        except OSError as error:
            unreadable.append(f"{path}: it cannot be read ({error.strerror}); make it readable.")


def _photos(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for directory, subdirectories, files in beneath.walk(os.fspath(path)):
        subdirectories.sort()
        yield from (Path(directory, name) for name in sorted(files) if os.path.splitext(name)[1].lower() in EXTENSIONS)


def generated_photos() -> Iterator[Sample]:
    """Yield JPEG files of a camera's shape, each another coarse pattern."""
    for seed in range(_GENERATED):
        tiles = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(tiles).resize(_GENERATED_SIDES, Image.Resampling.BICUBIC).save(buffer, "JPEG")
        yield Sample(f"{seed}.jpg", buffer.getvalue())
