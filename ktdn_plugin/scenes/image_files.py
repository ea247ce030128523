"""Finding the image files of a folder, and what their file system and headers say of them."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import OTHER_SUFFIXES, READ_SUFFIXES, missing_for, read_size

SUFFIXES = tuple(READ_SUFFIXES)
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".wmv", ".ts", ".mts")
)
PATIENCE = 3  # seconds after which a bar shows that headers are being read

Item = TypeVar("Item")

_MOST_SUFFIXES = 4  # that a line names of files that are no images
_CONVERT = "save unread images as PNG, JPEG, WebP or TIFF first"

_logger = logging.getLogger(__name__)


def list_images(folder: str | Path, *, announces: bool = True) -> list[Path]:
    """Lists the images of a folder and of all folders below it, sorted by path.

    Hidden files and folders are left out. Whatever else is left out is counted by its kind in a
    warning: formats that are not read, or not without another package, videos, and other files.

    Args:
        folder: The folder.
        announces: Whether to warn of what is left out.

    Raises:
        KTDNError: If the folder is not there or has no image, or one below it cannot be read.
    """
    found = find_files(folder)
    found.require_images()
    if announces:
        found.announce()
    return found.images


@dataclass
class FolderFiles:
    """The files of a folder and of all folders below it, but for hidden ones.

    Attributes:
        folder: The folder.
        images: Those that can be read, sorted by path.
        videos: Videos, sorted by path.
        others: Numbers of images that cannot be read, by format.
        rest: Numbers of all other files, by suffix.
    """

    folder: Path
    images: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    rest: Counter[str] = field(default_factory=Counter)

    def add(self, path: Path) -> None:
        """Adds a file, by its suffix."""
        suffix = path.suffix.lower()
        kind = READ_SUFFIXES.get(suffix)
        if kind and (command := missing_for(kind)):
            self.others[f"{kind} ({command})"] += 1
        elif kind:
            self.images.append(path)
        elif suffix in VIDEO_SUFFIXES:
            self.videos.append(path)
        elif suffix in OTHER_SUFFIXES:
            self.others[OTHER_SUFFIXES[suffix]] += 1
        else:
            self.rest[suffix or "without a suffix"] += 1

    def require_images(self) -> None:
        """Refuses a folder without images.

        Raises:
            KTDNError: If there is none.
        """
        if self.images:
            return
        if self.others:
            counts = _counts(self.others)
            raise KTDNError(f"{self.folder}: holds no readable image, only {counts}{self._cure()}")
        hint = "; set io_backend: {type: lmdb}" if self.folder.suffix == ".lmdb" else ""
        raise KTDNError(f"{self.folder}: holds no image ({', '.join(SUFFIXES)}){hint}")

    def announce(self, *, says_videos: bool = True) -> None:
        """Warns of what is left out.

        Args:
            says_videos: Whether that counts videos.
        """
        counts = [_counts(self.others)] if self.others else []
        if self.videos and says_videos:
            counts.append(f"{len(self.videos)} video{'s' if len(self.videos) > 1 else ''}")
        if self.rest:
            most = dict(self.rest.most_common(_MOST_SUFFIXES))
            left = self.rest.total() - sum(most.values())
            counts += [_counts(Counter(most)), *([f"{left} others"] if left else [])]
        if counts:
            cure = self._cure() if self.others else ""
            _announce(f"{self.folder}: left out: {', '.join(counts)}{cure}")

    def _cure(self) -> str:
        """Returns what to do about images that cannot be read, unless a package is all it takes."""
        needs_more = any("(pip " not in kind for kind in self.others)
        return f"; {_CONVERT}" if needs_more else ""


def find_files(folder: str | Path) -> FolderFiles:
    """Finds the files of a folder and of all folders below it.

    Raises:
        KTDNError: If the folder is not there, or one below it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KTDNError(f"{folder}: no such folder")
    found = FolderFiles(folder)
    seen: set[Path] = set()
    # Links to folders are followed, each folder once: a link may lead back to where it lies.
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        here = Path(parent).resolve()
        folders[:] = [] if here in seen else [name for name in folders if name[0] != "."]
        if here not in seen:
            for name in files:
                if name[0] != ".":
                    found.add(Path(parent, name))
        seen.add(here)
    found.images.sort()
    found.videos.sort()
    return found


def _counts(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


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
    """Reads an image's height and width from its header; once, as long as the file stays the same.

    Raises:
        KTDNError: If it is not a file that can be read, or no image.
    """
    status = file_status(path)
    return _size_of_version(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2**19)  # more than any public dataset has; 200 bytes each
def _size_of_version(path: Path, *_: int) -> tuple[int, int]:
    return read_size(path)


def headers_bar(items: Iterable[Item]) -> Iterable[Item]:
    """Shows a bar where reading many headers takes long."""
    bar: Iterable[Item] = tqdm(
        items, "Reading headers", unit="image", leave=False, delay=PATIENCE, disable=None
    )
    return bar
