"""The chunks of a PNG file (PNG specification, section 5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_END = len(SIGNATURE) + 12 + 13
"""Where the first chunk, IHDR with its 13 bytes, ends."""

COLOUR = (b"cICP", b"cHRM", b"gAMA", b"sRGB")
"""Chunks that say, beside iCCP, which colours are meant."""


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Lists a PNG's chunks: each one's name, and all of it, length and checksum included."""
    at = len(SIGNATURE)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], content[at : at + 12 + length]
        at += 12 + length


def bit_depth(content: bytes) -> int:
    """Gives the bits of a sample."""
    return content[24]
