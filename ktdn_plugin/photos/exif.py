"""EXIF blocks, edited in place: unknown entries stay as they are.

A block is a small TIFF file: a header, then directories of entries of 12 bytes each (TIFF 6.0,
section 2; EXIF 2.32, section 4.6). To take it apart and to rewrite it would move the makers'
own notes, whose offsets nobody else can adjust.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

PREFIX = b"Exif\0\0"
"""What stands before the block in a JPEG."""

ORIENTATION = 0x0112
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
_EXIF_IFD = 0x8769
_SHORT, _LONG = 3, 4
_UPRIGHT = 1
_EXTRA_SAMPLES, _UNASSOCIATED = 338, 2  # TIFF 6.0
MOST_DIRECTORIES = 10_000  # of a TIFF; more are ignored

_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[2-8]')


class _Entry(NamedTuple):
    """A directory's entry: its tag, the format of its single number, and where that lies."""

    tag: int
    form: str
    at: int


def reset_orientation(block: bytearray) -> int:
    """Sets a block's orientation to upright.

    Args:
        block: An EXIF block, or a whole TIFF file, from its header on; changed in place.

    Returns:
        The orientation that it had, 1 to 8; 1 where it says nothing that makes sense.
    """
    found = _UPRIGHT
    for entry in _entries(block):
        if entry.tag == ORIENTATION:
            (value,) = struct.unpack_from(entry.form, block, entry.at)
            found = value if 1 <= value <= 8 else _UPRIGHT
            struct.pack_into(entry.form, block, entry.at, _UPRIGHT)
    return found


def with_size(exif: bytes, height: int, width: int) -> bytes:
    """Makes a block say an image's size, and drops its thumbnail, which shows what was before.

    Args:
        exif: An EXIF block.
        height: The image's height in pixels.
        width: Its width.

    Returns:
        A block of equal length.
    """
    block = bytearray(exif)
    for entry in _entries(block):
        for tags, value in ((_WIDTHS, width), (_HEIGHTS, height)):
            if entry.tag in tags and value < 2 ** (8 * struct.calcsize(entry.form)):
                struct.pack_into(entry.form, block, entry.at, value)
    end = _end(block)
    if end is not None:
        block[end : end + 4] = bytes(4)
    return bytes(block)


def reset_xmp_orientation(xmp: bytes) -> bytes:
    """Sets the orientation that an XMP packet repeats to upright; its length stays."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def directories(block: bytes | bytearray) -> list[int]:
    """Returns where a TIFF's directories lie, one for each of its pictures; none of a BigTIFF."""
    order = _order(block)
    found: list[int] = []
    at = _start(block, order) if order else 0
    while at and at + 2 <= len(block) and at not in found and len(found) < MOST_DIRECTORIES:
        found.append(at)
        end = at + 2 + 12 * int(struct.unpack_from(order + "H", block, at)[0])
        at = int(struct.unpack_from(order + "I", block, end)[0]) if end + 4 <= len(block) else 0
    return found


def first_picture_alone(content: bytes) -> bytes:
    """Returns a TIFF with its first directory only, so that no other is read.

    A single band beside grey or RGB of which the file does not say what it is becomes alpha, or
    Pillow would drop it.
    """
    block = bytearray(content)
    for entry in _entries(block):
        if entry.tag == _EXTRA_SAMPLES and not any(block[entry.at : entry.at + 2]):
            struct.pack_into(entry.form, block, entry.at, _UNASSOCIATED)
    end = _end(block)
    if end is not None:
        block[end : end + 4] = bytes(4)
    return bytes(block)


def _order(block: bytes | bytearray) -> str:
    return {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]), "")


def _start(block: bytes | bytearray, order: str) -> int:
    return int(struct.unpack_from(order + "I", block, 4)[0]) if len(block) >= 8 else len(block)


def _end(block: bytes | bytearray) -> int | None:
    """Returns where the first directory names the next one, that of the thumbnail."""
    order = _order(block)
    if not order:
        return None
    start = _start(block, order)
    if start + 2 > len(block):
        return None
    end = start + 2 + 12 * int(struct.unpack_from(order + "H", block, start)[0])
    return end if end + 4 <= len(block) else None


def _entries(block: bytearray) -> Iterator[_Entry]:
    """Lists the single numbers of the first directory, and of the EXIF directory it names."""
    order = _order(block)
    starts = [_start(block, order)] if order else []
    for start in starts:
        if start + 2 > len(block):
            return
        (count,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
            tag, kind, length = struct.unpack_from(order + "HHI", block, at)
            if length != 1 or kind not in (_SHORT, _LONG):
                continue
            entry = _Entry(tag, order + ("H" if kind == _SHORT else "I"), at + 8)
            if tag == _EXIF_IFD and len(starts) == 1:
                starts.append(struct.unpack_from(entry.form, block, entry.at)[0])
            yield entry
