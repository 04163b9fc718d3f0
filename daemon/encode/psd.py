"""The merged picture of a Photoshop file: what Pillow reads wrongly when there are more channels than colours.

"Adobe Photoshop File Formats Specification", 2019: a header, colour mode data, resources, layers, and the merged picture, one channel
after the other. Channels beyond the colours are transparency and selections; the colours are blended with white already.
"""

# ruff: noqa: PLR2004 - the numbers are those of the specifications

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from daemon.encode.unread import Unread

_HEADER = struct.Struct(">4sH6xHIIHH")
_COLOURS = {0: 1, 1: 1, 2: 1, 3: 3, 4: 4, 8: 1}
_BITMAP, _INDEXED, _RGB, _CMYK = 0, 2, 3, 4
_NAMES = {7: "in multichannel mode", 9: "in Lab colours"}
_VERSION_INFO = 0x0421
_RAW, _RLE = 0, 1


def is_psd(data: bytes) -> bool:
    """Whether the bytes begin as a Photoshop file does."""
    return data[:4] == b"8BPS"


def sides(data: bytes) -> tuple[int, int]:
    """Return the width and height by the header; struct.error where it is cut short."""
    _, _, _, height, width, _, _ = _HEADER.unpack_from(data)
    return width, height


def read(data: bytes) -> Image.Image:
    """Return the merged picture; Unread for what has none, EOFError where it is cut short."""
    _, version, channels, height, width, bits, mode = _HEADER.unpack_from(data)
    if version not in (1, 2):
        message = f"a PSD of version {version}"
        raise Unread(message)
    if mode not in _COLOURS:
        message = f"a PSD {_NAMES.get(mode, f'of the colour mode {mode}')}"
        raise Unread(message)
    if bits not in ((1,) if mode == _BITMAP else (8,) if mode == _INDEXED else (8, 16)):
        message = f"a PSD of {bits} bits a channel"
        raise Unread(message)
    if channels < _COLOURS[mode]:
        message = "a PSD with fewer channels than its colours need"
        raise Unread(message)
    palette, at = _section(data, _HEADER.size, ">I")
    resources, at = _section(data, at, ">I")
    if not _has_composite(resources):
        message = "a PSD without a composite"
        raise Unread(message)
    _, at = _section(data, at, ">I" if version == 1 else ">Q")
    row_bytes = (width * bits + 7) // 8
    planes = _planes(data, at, channels, _COLOURS[mode], height, row_bytes, ">H" if version == 1 else ">I")
    return _picture([_eight_bits(plane, width, bits) for plane in planes], mode, palette)


def _picture(planes: list[np.ndarray], mode: int, palette: bytes) -> Image.Image:
    if mode == _INDEXED:
        if len(palette) < 768:
            raise EOFError
        entries = np.frombuffer(palette[:768], np.uint8).reshape(3, 256).T
        return Image.fromarray(entries[planes[0]])
    if mode == _RGB:
        return Image.fromarray(np.dstack(planes))
    if mode == _CMYK:
        # Photoshop writes 255 for no ink.
        return Image.merge("CMYK", [Image.fromarray(255 - plane) for plane in planes]).convert("RGB")
    # A duotone stores its gray picture.
    return Image.fromarray(255 - planes[0] if mode == _BITMAP else planes[0])


def _eight_bits(plane: np.ndarray, width: int, bits: int) -> np.ndarray:
    if bits == 1:
        return np.unpackbits(plane, axis=1)[:, :width] * np.uint8(255)
    if bits == 16:
        values = np.ascontiguousarray(plane).view(">u2").astype(np.uint32)
        return ((values * 255 + 32767) // 65535).astype(np.uint8)
    return plane


def _section(data: bytes, at: int, length_format: str) -> tuple[bytes, int]:
    """Return a section that begins with its length, and where the next one begins."""
    begin = at + struct.calcsize(length_format)
    (length,) = struct.unpack_from(length_format, data, at)
    if begin + length > len(data):
        raise EOFError
    return data[begin : begin + length], begin + length


def _has_composite(resources: bytes) -> bool:
    """Return what the version resource says; True where it is missing, or the resources are damaged."""
    at = 0
    while at + 12 <= len(resources):
        signature, number, name_length = struct.unpack_from(">4sHB", resources, at)
        at += 6 + (name_length + 2) // 2 * 2
        if signature not in (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR") or at + 4 > len(resources):
            return True
        (length,) = struct.unpack_from(">I", resources, at)
        at += 4
        if number == _VERSION_INFO and length >= 5 and at + 5 <= len(resources):
            return bool(resources[at + 4])
        at += length + length % 2
    return True


def _planes(
    data: bytes, at: int, channels: int, wanted: int, height: int, row_bytes: int, count_format: str
) -> list[np.ndarray]:
    """Return the first so many channels, each [height, row_bytes]."""
    (compression,) = struct.unpack_from(">H", data, at)
    at += 2
    if compression == _RAW:
        size = height * row_bytes
        if at + wanted * size > len(data):
            raise EOFError
        flat = np.frombuffer(data, np.uint8, wanted * size, at)
        return list(flat.reshape(wanted, height, row_bytes))
    if compression != _RLE:
        message = "a PSD whose composite is compressed with ZIP"
        raise Unread(message)
    # The table has a row of every channel, those that nobody looks at included.
    rows = channels * height
    if at + rows * struct.calcsize(count_format) > len(data):
        raise EOFError
    counts = np.frombuffer(data, count_format, rows, at)[: wanted * height].tolist()
    at += rows * struct.calcsize(count_format)
    planes = []
    for first in range(0, wanted * height, height):
        size = sum(counts[first : first + height])
        if at + size > len(data):
            raise EOFError
        try:
            plane = Image.frombytes("L", (row_bytes, height), data[at : at + size], "packbits", "L")
        except ValueError as error:
            raise EOFError from error
        planes.append(np.asarray(plane))
        at += size
    return planes
