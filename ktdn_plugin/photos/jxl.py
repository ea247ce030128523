"""JPEG XL, which the package ``pillow-jxl-plugin`` decodes; its header is read here.

The package decodes a file as soon as it is opened, and reads colours at 8 bit without saying so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.photos.photo import PhotoPixels

_BARE = b"\xff\x0a"
_SIDES = ((9, 1), (13, 1), (18, 1), (30, 1))  # bits and offset of a side, by its selector
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_TYPES = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2, "I;16": 1}  # channels, by the decoder's modes

_METADATA = {b"Exif": "EXIF data", b"xml ": "XMP packet"}


class Header(NamedTuple):
    """What a file's header says.

    Attributes:
        height: In pixels, turned upright.
        width: In pixels, turned upright.
        bits: Of each sample.
        is_float: Whether samples are floating-point numbers.
        is_animated: Whether there may be several pictures.
    """

    height: int
    width: int
    bits: int
    is_float: bool
    is_animated: bool


class Decoded(NamedTuple):
    """What a file holds.

    Attributes:
        jpeg: The JPEG file that it was made from without loss, and nothing else then.
        values: (h, w, channels), as it is meant to be shown.
        exif: The EXIF block.
        xmp: The XMP packet.
        icc: The colour profile.
        unread: What of its metadata is there and cannot be read.
    """

    jpeg: bytes
    values: PhotoPixels
    exif: bytes
    xmp: bytes
    icc: bytes
    unread: list[str]


def read_header(content: bytes) -> Header:
    """Reads a file's header (ISO/IEC 18181-1, annexes A and D).

    Raises:
        ValueError: If there is none.
    """
    stream = _codestream(content)
    if not stream.startswith(_BARE):
        raise ValueError("no codestream")
    bits = _Bits(stream[2:])
    height, width = _size(bits)
    if bits.take(1):  # all of the rest is as usual
        return Header(height, width, 8, False, False)
    is_animated = False
    if bits.take(1):
        if bits.take(3) >= 4:
            height, width = width, height
        if bits.take(1):
            _size(bits)  # as which it is to be shown
        if bits.take(1):
            raise NotImplementedError("with a preview")
        is_animated = bool(bits.take(1))
        if is_animated:
            bits.choose(((0, 100), (0, 1000), (10, 1), (30, 1)))
            bits.choose(((0, 1), (0, 1001), (8, 1), (10, 1)))
            bits.choose(((0, 0), (3, 0), (16, 0), (32, 0)))
            bits.take(1)
    is_float = bool(bits.take(1))
    usual = ((0, 32), (0, 16), (0, 24), (6, 1)) if is_float else ((0, 8), (0, 10), (0, 12), (6, 1))
    return Header(height, width, bits.choose(usual), is_float, is_animated)


def decode_jxl(content: bytes) -> Decoded:
    """Decodes a file.

    Raises:
        RuntimeError: If it is damaged.
        NotImplementedError: If it has other channels than grey, RGB and alpha.
    """
    from pillow_jxl import Decoder

    is_jpeg, info, data, icc, boxes = Decoder(num_threads=-1)(content)
    empty: NDArray[np.uint8] = np.empty((0, 0, 1), np.uint8)
    if is_jpeg:
        return Decoded(bytes(data), empty, b"", b"", b"", [])
    if info.mode not in _TYPES:
        raise NotImplementedError(f"colour mode {info.mode}")
    dtype = np.uint16 if info.mode == "I;16" else np.uint8
    shape = info.height, info.width, _TYPES[info.mode]
    values = np.frombuffer(data, dtype).reshape(shape)
    found = {bytes(box.box_type): bytes(box.data) for box in reversed(boxes)}
    exif = found.get(b"Exif", b"")
    exif = exif[4:] if exif[4:8] in (b"II*\0", b"MM\0*") else exif  # behind an offset
    packed = [bytes(box.data)[:4] for box in boxes if bytes(box.box_type) == b"brob"]
    unread = [words for kind, words in _METADATA.items() if kind in packed]
    return Decoded(b"", values, exif, found.get(b"xml ", b""), bytes(icc or b""), unread)


def _codestream(content: bytes) -> bytes:
    """Returns the beginning of the codestream, which may lie in a container of boxes."""
    if content.startswith(_BARE):
        return content[:64]
    at = 0
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        head = 16 if length == 1 else 8
        if head == 16:
            length = int.from_bytes(content[at + 8 : at + 16], "big")
        if kind in (b"jxlc", b"jxlp"):
            start = at + head + (4 if kind == b"jxlp" else 0)  # a part's number
            return content[start : start + 64]
        at += max(length, 8) if length else len(content)
    return b""


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if is_small else bits.choose(_SIDES)
    if ratio := bits.take(3):
        across, down = _RATIOS[ratio - 1]
        return height, height * across // down
    return height, 8 * (bits.take(5) + 1) if is_small else bits.choose(_SIDES)


class _Bits:
    """Numbers of some bits each, the lowest bit first."""

    def __init__(self, content: bytes) -> None:
        self._bits: Iterator[int] = iter([byte >> n & 1 for byte in content for n in range(8)])

    def take(self, count: int) -> int:
        return sum(next(self._bits, 0) << place for place in range(count))

    def choose(self, choices: Any) -> int:
        """Returns an offset and a number, of which two bits say how they are written."""
        count, offset = choices[self.take(2)]
        return int(offset + self.take(count))
