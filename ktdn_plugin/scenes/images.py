"""One way to read images, wherever they are: folders, BasicSR's LMDBs, stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import KTDNError
from ktdn_plugin.photos import decode_rgb, read_rgb, read_size
from ktdn_plugin.scenes.lmdb_files import LmdbFile
from ktdn_plugin.scenes.names import key_of
from ktdn_plugin.scenes.store import Store
from ktdn_plugin.storage.journal import stamp_of

Window = tuple[int, int, int, int]
"""Top, left, height and width of a part of an image."""

Numbers = Sequence[int] | NDArray[np.integer[Any]]


class Images(Protocol):
    """A sequence of images; all are RGB, uint8."""

    def __len__(self) -> int:
        """Returns their number."""

    def name(self, number: int) -> str:
        """Returns an image's name, such as its file's path."""

    def describe(self, number: int) -> str:
        """Names an image for people, so that they can find it."""

    def key(self, number: int) -> str:
        """Returns what an image is paired by, see :func:`ktdn_plugin.scenes.names.key_of`."""

    def identify(self, number: int) -> list[Any]:
        """Returns plain values that tell, without reading it, that an image is still the same."""

    def size(self, number: int) -> tuple[int, int]:
        """Returns height and width, decoding nothing where that can be avoided."""

    def read(self, number: int) -> NDArray[np.uint8]:
        """Returns an image, (h, w, 3), read-only; a store's is read where it is used."""

    def select(self, numbers: Numbers) -> Images:
        """Returns some of the images, in an order of their own."""


class FileImages:
    """Image files; each use of one decodes it.

    Args:
        paths: The files.
        center: Height and width of what is kept of a larger image, around its centre (RESIDE's
            clear indoor images have a border that its hazy ones lack); all of it by default.
        root: The folder within which they have names.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        center: tuple[int, int] | None = None,
        root: Path | None = None,
    ) -> None:
        self.paths = list(paths)
        self.center = center
        self.root = root

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, number: int) -> str:
        """Returns the file's path."""
        return str(self.paths[number])

    describe = name

    def key(self, number: int) -> str:
        """Returns the file's path within the folder."""
        path = self.paths[number]
        try:
            return key_of(path, self.root)
        except ValueError:  # it lies elsewhere
            return key_of(path)

    def identify(self, number: int) -> list[Any]:
        """Returns path, size and time of the file, and what is kept of the image."""
        path = self.paths[number]
        return [str(path.absolute()), _stamp(path), self.center and list(self.center)]

    def size(self, number: int) -> tuple[int, int]:
        """Returns height and width out of the file's header."""
        size = read_size(self.paths[number])
        return size if self.center is None else centered(size, self.center)[2:]

    def read(self, number: int) -> NDArray[np.uint8]:
        """Decodes the file."""
        image = read_rgb(self.paths[number])
        return image if self.center is None else cut(image, centered(image.shape, self.center))

    def select(self, numbers: Numbers) -> FileImages:
        """Returns some of the files."""
        return FileImages([self.paths[number] for number in numbers], self.center, self.root)


class BasicSRImages:
    """An LMDB as BasicSR's tools make it: a PNG under each key.

    Args:
        path: The folder, with ``meta_info.txt``.
        keys: Which images.

    Raises:
        KTDNError: If it is none, or cannot be read.
    """

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path = path
        self._file = LmdbFile(path)
        self.keys = list(keys)

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, number: int) -> str:
        """Returns the key."""
        return self.keys[number]

    def describe(self, number: int) -> str:
        """Names LMDB and key."""
        return f"{self.path}, key '{self.keys[number]}'"

    def key(self, number: int) -> str:
        """Returns the key."""
        return self.keys[number]

    def identify(self, number: int) -> list[Any]:
        """Returns path, size and time of the LMDB, and the key."""
        return [str(self.path.absolute()), _stamp(self.path / "data.mdb"), self.keys[number]]

    def check(self) -> None:
        """Checks that LMDB's library can read the file safely (:meth:`LmdbFile.check`)."""
        self._file.check()

    def size(self, number: int) -> tuple[int, int]:
        """Decodes the image to learn its height and width."""
        height, width = self.read(number).shape[:2]
        return height, width

    def read(self, number: int) -> NDArray[np.uint8]:
        """Decodes the image."""
        content = self._file.get(self.keys[number].encode())
        if content is None:
            raise KTDNError(f"{self.describe(number)}: no such image")
        return decode_rgb(content, self.describe(number))

    def select(self, numbers: Numbers) -> BasicSRImages:
        """Returns the images of some of the keys."""
        return BasicSRImages(self.path, [self.keys[number] for number in numbers])


class StoreImages:
    """One side of a store.

    Args:
        store: The store.
        side: ``hazy`` or ``clear``.
        numbers: Which of the side's images, in which order; all by default.

    Raises:
        KTDNError: If the store has no such side.
    """

    def __init__(self, store: Store, side: str, numbers: NDArray[np.int32] | None = None) -> None:
        if side not in store.sides:
            raise KTDNError(
                f"{store.path}: this store has no {side} images, only {' and '.join(store.sides)}"
            )
        self.store = store
        self.side = side
        self.numbers = numbers

    def _number(self, number: int) -> int:
        return number if self.numbers is None else int(self.numbers[number])

    def __len__(self) -> int:
        return self.store.info.counts[self.side] if self.numbers is None else len(self.numbers)

    def name(self, number: int) -> str:
        """Returns the name of the file that the image was."""
        return self.store.name(self.side, self._number(number))

    def describe(self, number: int) -> str:
        """Names store and file."""
        return self.store.describe(self.side, self._number(number))

    def key(self, number: int) -> str:
        """Returns the file's name, without its suffix."""
        return key_of(Path(self.name(number)))

    def identify(self, number: int) -> list[Any]:
        """Returns the store's fingerprint, and which image it is."""
        return [self.store.info.fingerprint, self.side, self._number(number)]

    def verify(self, number: int) -> None:
        """Compares an image's pixels with their checksum.

        Raises:
            KTDNError: If they differ.
        """
        self.store.verify(self.side, self._number(number))

    def size(self, number: int) -> tuple[int, int]:
        """Returns height and width out of the store's table."""
        return self.store.size(self.side, self._number(number))

    def read(self, number: int) -> NDArray[np.uint8]:
        """Returns the image as it lies in the file."""
        return self.store.pixels(self.side, self._number(number))

    def select(self, numbers: Numbers) -> StoreImages:
        """Returns some of the side's images."""
        chosen = np.asarray(numbers, np.int32)
        chosen = chosen if self.numbers is None else self.numbers[chosen]
        return StoreImages(self.store, self.side, chosen)


def _stamp(path: Path) -> list[int] | None:
    try:
        return stamp_of(path)
    except OSError:  # reading it says why
        return None


def centered(size: Sequence[int], wanted: tuple[int, int]) -> Window:
    """Returns the part around an image's centre that is no larger than wanted.

    Args:
        size: The image's height and width.
        wanted: Largest height and width.
    """
    height, width = min(size[0], wanted[0]), min(size[1], wanted[1])
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def cut(image: NDArray[Any], window: Window) -> NDArray[Any]:
    """Returns a view of a part of an image."""
    top, left, height, width = window
    return image[top : top + height, left : left + width]
