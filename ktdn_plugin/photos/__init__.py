"""Photographs as people have them: pixels of 8 or 16 bit, and all that a file says beside them."""

from ktdn_plugin.photos.photo import Photo, PhotoPixels
from ktdn_plugin.photos.reading import read_photo
from ktdn_plugin.photos.writing import PHOTO_SUFFIXES, not_kept, write_photo

__all__ = ["PHOTO_SUFFIXES", "Photo", "PhotoPixels", "not_kept", "read_photo", "write_photo"]
