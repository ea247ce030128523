"""Suppresses libraries' own messages about odd files: ours name the file."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator

import cv2
from PIL import _imaging

for _name in ("PIL", "tifffile"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

# Pillow leaves libtiff's handler of errors in place, which prints them. Where Pillow has libtiff
# built in, as on Windows, the handler is out of reach and they stay.
with contextlib.suppress(AttributeError, OSError):
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)

_lock = threading.Lock()
_before = contextlib.ExitStack()
_inside = 0


@contextlib.contextmanager
def suppress_library_messages() -> Iterator[None]:
    """Turns off Pillow's warnings and OpenCV's log while any thread is inside."""
    global _inside
    with _lock:
        if not _inside:
            _before.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            _before.callback(_set_log_level, _set_log_level(0))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _before.close()


def _set_log_level(level: int) -> int:
    """Sets OpenCV's log level, whose functions have moved in version 5; returns the one before."""
    places = (cv2, getattr(cv2.utils, "logging", None))
    there = next((place for place in places if hasattr(place, "setLogLevel")), None)
    return level if there is None else int(there.setLogLevel(level))
