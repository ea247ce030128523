"""Ground truth: the clear image of each hazy one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.images import list_images
from ktdn_plugin.data.store import Store, is_store
from ktdn_plugin.dehaze.inputs import AnySource, StoreSource
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.photos import read_photo
from ktdn_plugin.photos.photo import to_8_bit

RGB8 = NDArray[np.uint8]

_ROLE = re.compile(r"[_-](hazy|haze|gt|clear|clean)$", re.IGNORECASE)
"""What names such as ``01_hazy`` and ``01_GT`` differ in."""


class Clear(NamedTuple):
    """A clear image.

    Attributes:
        label: What people find it by.
        split: The name of the split that it belongs to, empty where it has none.
        read: Gives its pixels, RGB, (h, w, 3), 0 to 255.
    """

    label: str
    split: str
    read: Callable[[], RGB8]


class Truth:
    """The clear images of a folder or a store, found by the names of the hazy ones.

    Args:
        place: The folder or store; None where stores that are dehazed know their own alone.
        split: What to call the split that they are; a store's own name counts before.

    Raises:
        KTDNError: If it is not there, or holds no clear image.
    """

    def __init__(self, place: Path | None, split: str | None = None) -> None:
        self.place = place
        self.split = split or ""
        self.files: list[Path] = []
        self._by_key: dict[str, dict[str, Clear]] = defaultdict(dict)
        for name, clear in self._listed():
            for key in _keys(name):
                self._by_key[key][clear.label] = clear

    def _listed(self) -> Iterator[tuple[PurePosixPath, Clear]]:
        if self.place is None:
            return
        if self.place.is_dir() and is_store(self.place):
            yield from self._of_store(Store(self.place))
            return
        if not self.place.is_dir():
            raise KTDNError(f"--gt {self.place}: no such folder or store")
        self.files = list_images(self.place)
        for path in self.files:
            name = PurePosixPath(path.relative_to(self.place).as_posix())
            yield name, Clear(str(path), self.split, partial(_read, path))

    def _of_store(self, store: Store) -> Iterator[tuple[PurePosixPath, Clear]]:
        if "clear" not in store.sides:
            raise KTDNError(f"--gt {store.path}: this store has no clear images")
        found = [_of_store(store, number) for number in range(store.info.counts["clear"])]
        for number, clear in enumerate(found):
            yield PurePosixPath(store.name("clear", number)), clear
        # Results carry the names of the hazy images, which need not be those of the clear ones.
        for hazy, number in [] if store.pairs is None else store.pairs:
            yield PurePosixPath(store.name("hazy", int(hazy))), found[int(number)]

    def is_of(self, source: AnySource) -> bool:
        """Tells whether there is to be ground truth for something."""
        if self.place is None:
            return isinstance(source, StoreSource) and source.clear is not None
        return True

    def clear_of(self, source: AnySource) -> Clear | None:
        """Finds the clear image of a hazy one.

        Returns:
            None where there is to be none, see :meth:`is_of`.

        Raises:
            KTDNError: If there is none, or more than one, of its name.
        """
        if self.place is None:
            if isinstance(source, StoreSource) and source.clear is not None:
                return _of_store(source.store, source.clear)
            return None
        for key in _keys(PurePosixPath(source.name.as_posix())):
            found = list(self._by_key.get(key, {}).values())
            if len(found) > 1:
                raise KTDNError(
                    f"{source.label}: {found[0].label} and {found[1].label} may both be its ground "
                    "truth; put hazy and clear images into folders of equal structure"
                )
            if found:
                return found[0]
        near = did_you_mean(source.name.stem, {PurePosixPath(key).name for key in self._by_key})
        raise KTDNError(f"{source.label}: no image of this name in --gt {self.place}{near}")


def read_clear(clear: Clear, shape: tuple[int, ...], label: str) -> RGB8:
    """Reads a clear image that has to have the hazy one's size.

    Raises:
        KTDNError: If it cannot be read or has another size.
    """
    pixels = clear.read()
    if pixels.shape != shape:
        sizes = [f"{width} x {height}" for height, width, _ in (shape, pixels.shape)]
        raise KTDNError(f"{label} is {sizes[0]}, its ground truth {clear.label} {sizes[1]}")
    return pixels


def _keys(name: PurePosixPath) -> list[str]:
    """Gives what an image may be found by, from the most exact to the least."""
    plain = name.with_suffix("")
    bare = plain.with_name(_ROLE.sub("", plain.name) or plain.name)
    return list(dict.fromkeys((str(plain), plain.name, str(bare), bare.name)))


def _of_store(store: Store, number: int) -> Clear:
    return Clear(
        store.describe("clear", number), store.info.name, lambda: store.pixels("clear", number)
    )


def _read(path: Path) -> RGB8:
    return to_8_bit(read_photo(path).pixels)
