"""Checks that something can be written before the work that makes it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ktdn_plugin.errors import KTDNError


def check_writable(folder: Path, what: object, advice: str = "choose another place") -> None:
    """Refuses a folder in which, once it is made, nothing can be written; leaves nothing there.

    Args:
        folder: The folder, which need not be there yet.
        what: How the place was named, such as ``-o out``, for the error.
        advice: What to do about it.

    Raises:
        KTDNError: If a file is in the way, or the file system refuses.
    """
    try:
        place = folder.absolute()
        while not os.path.lexists(place):  # a link to nowhere is in the way as well
            place = place.parent
        if not place.is_dir():
            raise KTDNError(f"{what}: {place} is not a folder; {advice}")
        # Permissions alone do not tell: a file system may be read-only, or full.
        with tempfile.NamedTemporaryFile(dir=place, prefix=".", suffix=".part") as file:
            file.write(b"\0")
    except OSError as error:
        raise KTDNError(
            f"{what}: cannot be written ({error.strerror or error}); {advice}"
        ) from error
