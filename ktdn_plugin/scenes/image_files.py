"""Finding the image files of a folder, and what their file system and headers say of them."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import OTHER_SUFFIXES, READ_SUFFIXES, read_size

SUFFIXES = tuple(READ_SUFFIXES)
PATIENCE = 3  # seconds after which a bar shows that headers are being read

Item = TypeVar("Item")

_CONVERT = "save them as PNG, JPEG, WebP or TIFF first"

_logger = logging.getLogger(__name__)


def list_images(folder: str | Path, *, announces: bool = True) -> list[Path]:
    """Lists the images of a folder and of all folders below it, sorted by path.

    Hidden files and folders are left out. Images of formats that are not read are left out, too,
    and counted in a warning.

    Args:
        folder: The folder.
        announces: Whether to warn of what is left out.

    Raises:
        KTDNError: If the folder is not there or has no image, or one below it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KTDNError(f"{folder}: no such folder")
    paths: list[Path] = []
    others: Counter[str] = Counter()
    seen: set[Path] = set()
    # Links to folders are followed, each folder once: a link may lead back to where it lies.
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        here = Path(parent).resolve()
        folders[:] = [] if here in seen else [name for name in folders if name[0] != "."]
        if here not in seen:
            for name in files:
                suffix = Path(name).suffix.lower()
                if name[0] != "." and suffix in READ_SUFFIXES:
                    paths.append(Path(parent, name))
                elif name[0] != "." and suffix in OTHER_SUFFIXES:
                    others[OTHER_SUFFIXES[suffix]] += 1
        seen.add(here)
    counts = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
    if not paths:
        if others:
            raise KTDNError(f"{folder}: holds no readable image, only {counts}; {_CONVERT}")
        hint = "; set io_backend: {type: lmdb}" if folder.suffix == ".lmdb" else ""
        raise KTDNError(f"{folder}: holds no image ({', '.join(SUFFIXES)}){hint}")
    if others and announces:
        _announce(f"{folder}: skipped, since they cannot be read: {counts}; {_CONVERT}")
    return sorted(paths)


@lru_cache(maxsize=256)  # a folder may be listed more than once
def _announce(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # one process speaks for those that train together
        _logger.warning("%s", line)


def _refuse(error: OSError) -> None:
    """Stops at a folder that the walk would otherwise skip silently."""
    raise KTDNError(f"{error.filename}: {error.strerror or error}") from error


def name_within(path: Path, root: Path) -> str:
    """Returns a path relative to a folder, where it lies in it; the same on every system."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def file_status(path: Path) -> os.stat_result:
    """Returns a file's status, with its size and time.

    Raises:
        KTDNError: If it is not a file that can be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
        raise KTDNError(f"{path}: not a regular file; remove it")
    return status


def file_image_size(path: Path) -> tuple[int, int]:
    """Reads an image's height and width from its header.

    Raises:
        KTDNError: If it is not a file that can be read, or no image.
    """
    file_status(path)
    return read_size(path)


def headers_bar(items: Iterable[Item]) -> Iterable[Item]:
    """Shows a bar where reading many headers takes long."""
    bar: Iterable[Item] = tqdm(
        items, "Reading headers", unit="image", leave=False, delay=PATIENCE, disable=None
    )
    return bar
