"""The chunks of a PNG file (PNG specification, section 5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_END = len(SIGNATURE) + 12 + 13
"""Where the first chunk, IHDR with its 13 bytes, ends."""

COLOUR = (b"cICP", b"cHRM", b"gAMA", b"sRGB")
"""Chunks that say, beside iCCP, which colours are meant."""


_MORE_THAN_PIXELS = (b"acTL", b"eXIf", b"tRNS")
_TEXTS = (b"iTXt", b"tEXt", b"zTXt")


def chunks(content: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Lists a PNG's chunks: each one's name, and all of it, length and checksum included."""
    view = memoryview(content)
    at = len(SIGNATURE)
    while at + 12 <= len(view):
        (length,) = struct.unpack_from(">I", view, at)
        yield bytes(view[at + 4 : at + 8]), view[at : at + 12 + length]
        at += 12 + length


def bit_depth(content: bytes) -> int:
    """Returns the bits of a sample."""
    return content[24]


def is_plain_png(content: bytes | memoryview) -> bool:
    """Returns whether a file is a single 8-bit RGB PNG that needs no processing.

    That is: it is neither cut off nor damaged, nothing in it turns it, and no part of it is
    transparent. Any decoder gives the same pixels for such a file, and says nothing of its own.
    """
    if bytes(content[: len(SIGNATURE)]) != SIGNATURE or bytes(content[24:26]) != b"\x08\x02":
        return False
    name = b""
    for name, part in chunks(content):
        if name in _MORE_THAN_PIXELS:
            return False
        # EXIF data in a text, and what an XMP packet says of the orientation
        if name in _TEXTS and bytes(part[8:24]).startswith((b"Raw profile type", b"XML:com.adobe")):
            return False
        if zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:], "big"):
            return False
    return name == b"IEND"


def size_of(content: bytes | memoryview) -> tuple[int, int]:
    """Returns the height and width that a PNG's header says."""
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def has_texts_behind(file: BinaryIO) -> bool:
    """Returns whether metadata follows a PNG's pixels.

    Args:
        file: Open at any place; it is moved.
    """
    at, has_pixels = len(SIGNATURE), False
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return False
        length, name = struct.unpack(">I4s", head)
        if has_pixels and name in (b"eXIf", *_TEXTS):
            return True
        has_pixels |= name == b"IDAT"
        at += 12 + length
