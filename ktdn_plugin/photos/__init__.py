"""Photographs as people have them: pixels of 8 or 16 bit, and all that a file says beside them.

The only reader and the only writer of image files, whatever they are read for.
"""

from ktdn_plugin.photos.formats import LOSSY, OTHER_SUFFIXES, PHOTO_SUFFIXES, READ_SUFFIXES
from ktdn_plugin.photos.photo import Photo, PhotoPixels
from ktdn_plugin.photos.reading import decode_photo, decode_rgb, read_photo, read_rgb, read_size
from ktdn_plugin.photos.writing import not_kept, write_photo

__all__ = [
    "LOSSY",
    "OTHER_SUFFIXES",
    "PHOTO_SUFFIXES",
    "READ_SUFFIXES",
    "Photo",
    "PhotoPixels",
    "decode_photo",
    "decode_rgb",
    "not_kept",
    "read_photo",
    "read_rgb",
    "read_size",
    "write_photo",
]
