"""Finds what to dehaze: photographs in files, folders and stores, and videos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.photos import Photo, ReadLimits, read_photo
from ktdn_plugin.scenes.image_files import VIDEO_SUFFIXES, find_files
from ktdn_plugin.scenes.lmdb_files import is_lmdb
from ktdn_plugin.scenes.store import Store, is_store

DEFAULT_LIMITS = ReadLimits()


@dataclass(frozen=True)
class Source:
    """Something to dehaze.

    Attributes:
        name: Its path within the output folder, with its original suffix.
        label: A name that lets users find it.
    """

    name: Path
    label: str


@dataclass(frozen=True)
class FileSource(Source):
    """A file: a photograph, or a video.

    Attributes:
        path: The file.
        is_of_folder: Whether its folder was given, not the file itself.
        limits: How large a photograph may be.
    """

    path: Path
    is_of_folder: bool = field(default=False, compare=False)
    limits: ReadLimits = field(default=DEFAULT_LIMITS, compare=False)

    @property
    def is_video(self) -> bool:
        """Whether it has a video's suffix."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    def read(self) -> Photo:
        """Reads the photograph; raises as :func:`~ktdn_plugin.photos.read_photo`."""
        return read_photo(self.path, self.limits)


@dataclass(frozen=True)
class StoreSource(Source):
    """A hazy image in a store from ``ktdn prepare``.

    Attributes:
        store: The store.
        number: The hazy image's index.
        clear: The index of its ground truth; None if the store has none.
    """

    store: Store
    number: int
    clear: int | None

    def read(self) -> Photo:
        """Returns the image as it is in the store."""
        return Photo(np.array(self.store.pixels("hazy", self.number)))


AnySource = FileSource | StoreSource


def identity(path: Path) -> tuple[int, int] | None:
    """Returns what a path resolves to, through hard and symbolic links; None if nothing exists."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def find_sources(
    inputs: Sequence[Path], output: Path, limits: ReadLimits = DEFAULT_LIMITS
) -> tuple[list[AnySource], list[Path]]:
    """Finds what to dehaze, in the given order, sorted within a folder.

    Args:
        inputs: Photographs, videos, folders of photographs, and stores.
        output: The folder that results go to; its contents never count as a folder's inputs.
        limits: How large a photograph may be.

    Returns:
        What to dehaze, and the videos found in folders, which are left out.

    Raises:
        KTDNError: If one does not exist, a folder holds nothing to dehaze or cannot be read, or a
            store has no hazy images.
    """
    sources: list[AnySource] = []
    left_out: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise KTDNError(f"{path}: no such file or folder{_near(path)}")
        if path.is_dir() and is_store(path):
            sources += _of_store(Store(path))
        elif is_lmdb(path):
            raise KTDNError(
                f"{path}: an LMDB that is not a store; give the folder of its images, or make a "
                "store of them with 'ktdn prepare'"
            )
        elif path.is_dir():
            photos, videos = _of_folder(path, output, limits)
            sources += photos
            left_out += videos
        else:
            sources.append(FileSource(Path(path.name), str(path), path, limits=limits))
    return sources, left_out


def _near(path: Path) -> str:
    """Suggests an existing name similar to a missing one."""
    try:
        names = [sibling.name for sibling in path.absolute().parent.iterdir()]
    except OSError:
        return f" ({path.parent} is none either)" if not path.parent.is_dir() else ""
    return did_you_mean(path.name, names)


def _of_folder(
    folder: Path, output: Path, limits: ReadLimits
) -> tuple[list[FileSource], list[Path]]:
    files = find_files(folder)
    videos = list(_outside(files.videos, folder, output))
    if videos and not files.images:
        raise KTDNError(
            f"{folder}: contains no photo; to dehaze its videos, give them by name ({videos[0]})"
        )
    files.require_images()
    found = list(_outside(files.images, folder, output))
    if not found:
        raise KTDNError(f"{folder}: contains no photos except those in {output}, which are results")
    files.announce(says_videos=False)  # whose names the run reports
    return [
        FileSource(path.relative_to(folder), str(path), path, True, limits) for path in found
    ], videos


def _outside(paths: Iterable[Path], folder: Path, output: Path) -> Iterable[Path]:
    """Drops what an earlier run wrote, if the output is inside the input."""
    place = output.resolve()
    if not place.is_relative_to(folder.resolve()):
        return paths
    within: dict[Path, bool] = {}
    for path in (paths := list(paths)):
        if path.parent not in within:
            within[path.parent] = path.parent.resolve().is_relative_to(place)
    return [path for path in paths if not within[path.parent]]


def _of_store(store: Store) -> list[StoreSource]:
    if store.pairs is None:
        raise KTDNError(f"{store.path}: this store has only clear images, none to dehaze")
    sources = []
    clear_of = {int(hazy): int(clear) for hazy, clear in store.pairs}
    for number in range(store.info.counts["hazy"]):
        name = PurePosixPath(store.name("hazy", number))
        if name.is_absolute() or ".." in name.parts:
            raise KTDNError(f"{store.path}: its image {name} would be written outside the output")
        label = store.describe("hazy", number)
        sources.append(StoreSource(Path(name), label, store, number, clear_of.get(number)))
    return sources
