"""Photographs as users have them: pixels at 8 or 16 bit, and all metadata.

The only reader and the only writer of image files, whatever they are read for.
"""

from ktdn_plugin.photos.formats import (
    LOSSY,
    OTHER_SUFFIXES,
    PHOTO_SUFFIXES,
    READ_SUFFIXES,
    missing_for,
)
from ktdn_plugin.photos.limits import ReadLimits
from ktdn_plugin.photos.photo import Photo, PhotoPixels, to_8_bit
from ktdn_plugin.photos.reading import (
    decode_photo,
    decode_rgb,
    read_file,
    read_photo,
    read_rgb,
    read_size,
    rgb_of,
)
from ktdn_plugin.photos.writing import (
    check_compression,
    check_size,
    encode_lossy,
    encode_photo,
    encode_png,
    format_of,
    not_kept,
    write_photo,
    write_rgb,
)

__all__ = [
    "LOSSY",
    "OTHER_SUFFIXES",
    "PHOTO_SUFFIXES",
    "READ_SUFFIXES",
    "Photo",
    "PhotoPixels",
    "ReadLimits",
    "check_compression",
    "check_size",
    "decode_photo",
    "decode_rgb",
    "encode_lossy",
    "encode_photo",
    "encode_png",
    "format_of",
    "missing_for",
    "not_kept",
    "read_file",
    "read_photo",
    "read_rgb",
    "read_size",
    "rgb_of",
    "to_8_bit",
    "write_photo",
    "write_rgb",
]
