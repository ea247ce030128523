"""Whether a picture can be written, asked before the work that it is a picture of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.pictures import FORMATS


def check_output(path: Path) -> None:
    """Refuses a place where no picture can be written; leaves nothing there, not even a folder.

    Raises:
        KTDNError: The ending is not one of a picture, or the place is taken or not writable.
    """
    if path.suffix.lower() not in FORMATS:
        raise KTDNError(f"{path}: images are written as .png, .jpg or .jpeg; name it so")
    try:
        if path.is_dir():
            raise KTDNError(f"{path}: a folder; name a file with -o")
        _is_there(path)  # a name that is too long fails here
        folder = path.absolute().parent
        while not _is_there(folder):
            folder = folder.parent
        if not folder.is_dir():
            raise KTDNError(f"{path}: {folder} is no folder; name another place with -o")
        # Permissions alone do not tell: a file system may be read-only, or full.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as file:
            file.write(b"\0")
    except OSError as error:
        raise KTDNError(
            f"{path} cannot be written: {error.strerror or error}; name another place with -o"
        ) from error


def check_is_none_of(path: Path, sources: Iterable[Path]) -> None:
    """Refuses a place where a picture would replace one of the images that it is made from.

    Raises:
        KTDNError: It is one of them.
    """
    place = path.resolve()
    # Names first: to resolve each of a hundred thousand paths would take seconds.
    if any(source.name == place.name and source.resolve() == place for source in sources):
        raise KTDNError(f"{path}: is one of the images; name another place with -o")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()  # not exists(): a link to nowhere is in the way as well
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
