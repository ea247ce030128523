"""The bands of a TIFF beside its colours: alpha, near infrared, or what the file does not say.

One rule, at 8 and at 16 bit: grey or RGB is what comes first. A single band more is alpha, and a
note says so where the file does not. Of several, alpha is kept if the file names it first; the
others are dropped, with a note.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ktdn_plugin.photos.exif import directories

_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA = 258, 262, 277, 284, 338  # TIFF 6.0
_ALPHAS = (1, 2)
_RGB, _CMYK = 2, 5
_COLOURS_OF = {0: 1, 1: 1, 3: 1, _CMYK: 4}  # by a TIFF's kind of colours; the others have three
_WITH_ALPHA = (0, 1, _RGB, 3)  # kinds of colours beside which alpha is read
_IGNORED = 288  # a tag that says nothing of a picture: where a file has free space
_RGB_BANDS = 3


class Bands(NamedTuple):
    """A TIFF's bands.

    Attributes:
        photometric: What kind of colours they are, by TIFF's numbers.
        samples: The number of all of them.
        extras: What the file says of the others, by TIFF's numbers; it may say less than there are.
        is_planar: Whether each lies on its own.
        bits: Of each sample.
    """

    photometric: int
    samples: int
    extras: tuple[int, ...]
    is_planar: bool
    bits: int

    @property
    def colours(self) -> int:
        """The number of those that are colours."""
        return _COLOURS_OF.get(self.photometric, _RGB_BANDS)

    @property
    def has_alpha(self) -> bool:
        """Whether the first of the others is taken for alpha."""
        if self.photometric not in _WITH_ALPHA or self.samples <= self.colours:
            return False
        is_single = self.samples == self.colours + 1 and len(self.extras) == 1
        return is_single or self.extras[:1] in ((1,), (2,))

    @property
    def needs_tifffile(self) -> bool:
        """Whether they are more than Pillow and OpenCV know."""
        known = 6 if self.bits == 8 and not self.is_planar else 4
        return self.photometric == _RGB and self.samples > known

    def notes(self) -> list[str]:
        """Returns a line on what is not plain about them."""
        if self.has_alpha and self.extras[0] not in _ALPHAS:
            which = "second" if self.colours == 1 else "fourth"
            return [f"its {which} band, of which it does not say what it is, was kept as alpha"]
        dropped = self.samples - self.colours - self.has_alpha
        if dropped < 1:
            return []
        return [f"{dropped} of its bands {'was' if dropped == 1 else 'were'} dropped"]


def read_bands(content: bytes) -> Bands:
    """Reads the bands of a TIFF's first picture."""
    found = {tag: values for tag, values, _ in _entries(content)}
    return Bands(
        found.get(_PHOTOMETRIC, (1,))[0],
        found.get(_SAMPLES, (1,))[0],
        found.get(_EXTRA, ()),
        found.get(_PLANAR, (1,))[0] == 2,
        found.get(_BITS, (1,))[0],
    )


def colours_alone(content: bytes) -> bytes:
    """Returns a TIFF that says it has its colours alone, for Pillow to read its metadata."""
    block = bytearray(content)
    order = _order(content)
    for tag, _, at in _entries(content):
        if tag == _EXTRA:
            struct.pack_into(order + "H", block, at, _IGNORED)
        elif tag == _SAMPLES:
            struct.pack_into(order + "H", block, at + 8, _RGB_BANDS)
        elif tag == _BITS:
            struct.pack_into(order + "I", block, at + 4, _RGB_BANDS)
        elif tag == _PLANAR:
            struct.pack_into(order + "H", block, at + 8, 1)
    return bytes(block)


def _order(content: bytes) -> str:
    return "<" if content[:2] == b"II" else ">"


def _entries(content: bytes) -> list[tuple[int, tuple[int, ...], int]]:
    """Lists the short numbers of the first directory: tags, values, and where each entry is."""
    found: list[tuple[int, tuple[int, ...], int]] = []
    order = _order(content)
    for start in directories(content)[:1]:
        (count,) = struct.unpack_from(order + "H", content, start)
        for at in range(start + 2, min(start + 2 + 12 * count, len(content) - 11), 12):
            tag, kind, length = struct.unpack_from(order + "HHI", content, at)
            if kind != 3 or not 0 < length < 1000:
                continue
            place = at + 8
            if length > 2:
                (place,) = struct.unpack_from(order + "I", content, place)
            if place + 2 * length <= len(content):
                values = struct.unpack_from(f"{order}{length}H", content, place)
                found.append((tag, values, at))
    return found
