"""Ground truth: the clear image of each hazy one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.data.store import Store, is_store
from ktdn_plugin.dehaze.inputs import AnySource, FileSource, StoreSource, identity
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.photos import read_photo
from ktdn_plugin.photos.photo import to_8_bit
from ktdn_plugin.scenes.folders import find_images
from ktdn_plugin.scenes.names import clear_beside_hazy, key_of
from ktdn_plugin.scenes.pairing import Named, pair

RGB8 = NDArray[np.uint8]


class Clear(NamedTuple):
    """A clear image.

    Attributes:
        label: What people find it by.
        split: The name of the split that it belongs to, empty where it has none.
        read: Gives its pixels, RGB, (h, w, 3), 0 to 255.
        path: The file that it is, None in a store.
    """

    label: str
    split: str
    read: Callable[[], RGB8]
    path: Path | None = None


class Truth:
    """The clear images of a folder or a store, found by the names of the hazy ones.

    Where a folder holds hazy and clear images of the same scenes, the clear ones are meant.

    Args:
        place: The folder or store; None where stores that are dehazed know their own alone.
        split: What to call the split that they are; a store's own name counts before.
        sources: What is there to be dehazed; see :attr:`sources`.

    Attributes:
        sources: Those that are to be dehazed.
        left: Those of the sources that are clear images: they are left as they are.
        files: Files of ground truth.

    Raises:
        KTDNError: If the place is not there, or holds no clear image or all that is given, or
            the split is named where nothing would be called so.
    """

    def __init__(
        self, place: Path | None, split: str | None = None, sources: Sequence[AnySource] = ()
    ) -> None:
        self.place = place
        self.split = split or ""
        self.sources = list(sources)
        self.left: list[AnySource] = []
        is_folder = place is not None and not (place.is_dir() and is_store(place))
        self._check_split(is_folder)
        if place is not None and is_folder:
            paths = self._apart(place)
            clear = [Clear(str(path), self.split, partial(_read, path), path) for path in paths]
            keys = [[key_of(path, place)] for path in paths]
        else:
            clear, keys = self._of_store()
        self.files = [one.path for one in clear if one.path]
        self._clear = clear
        photos = dict.fromkeys(source for source in self.sources if not _is_video(source))
        self._number = {source: number for number, source in enumerate(photos)}
        self._pairing = pair(
            [Named(source.label, [key_of(source.name)]) for source in photos],
            [Named(one.label, each) for one, each in zip(clear, keys, strict=True)],
        )

    def _check_split(self, is_folder: bool) -> None:
        """Refuses a split's name that no table would show."""
        if not self.split or is_folder:
            return
        of_stores = [source.store for source in self.sources if isinstance(source, StoreSource)]
        if self.place is not None:
            store = Store(self.place)
        elif of_stores:
            store = of_stores[0]
        else:
            raise KTDNError(
                f"--split {self.split}: names the images in the table of --gt; leave it out, or "
                "name clear images by --gt"
            )
        raise KTDNError(
            f"--split {self.split}: {store.path} knows its split, {store.info.name}; leave it out"
        )

    def check_any(self) -> None:
        """Refuses ground truth of which none is any photograph's, before there is work done.

        Raises:
            KTDNError: If there is none for any.
        """
        photos = list(self._number)
        if self.place is None or not photos:
            return
        if any(self._found(one) and not self._is_itself(one) for one in photos):
            return
        try:
            self.clear_of(photos[0])
        except KTDNError as error:
            if len(photos) == 1:
                raise
            what = f"none of the {len(photos)} photos has its ground truth"
            raise KTDNError(f"{error}; {what}") from error

    def _found(self, source: AnySource) -> Clear | None:
        number = self._pairing.partners[self._number[source]]
        return None if number is None else self._clear[number]

    def _is_itself(self, source: AnySource) -> bool:
        """Returns whether what is found for a hazy image is that image."""
        clear = self._found(source)
        return bool(
            isinstance(source, FileSource)
            and clear
            and clear.path
            and identity(source.path) == identity(clear.path)
        )

    def _apart(self, place: Path) -> list[Path]:
        """Finds the clear images, and leaves out of the sources those that are clear images."""
        if not place.is_dir():
            raise KTDNError(f"--gt {place}: no such folder or store")
        found = find_images(place)
        files = [source for source in self.sources if isinstance(source, FileSource)]
        there = {identity(path) for path in found.clear}
        clear = clear_beside_hazy(key_of(source.name) for source in files)
        left = {source for source in files if key_of(source.name) in clear}
        here = {source: identity(source.path) for source in files if source not in left}
        both = {source for source in here if source.is_of_folder and here[source] in there}
        # Of a folder within that of the ground truth, all is hazy; else what is in both is clear.
        within = place.resolve()
        hazy = {source for source in both if within in _root(source).resolve().parents}
        left |= both - hazy
        self.left = [source for source in self.sources if source in left]
        self.sources = [source for source in self.sources if source not in left]
        if self.left and not self.sources:
            raise KTDNError(
                f"--gt {place}: all that is to be dehazed is ground truth itself, such as "
                f"{self.left[0].label}; name hazy images, which end in _hazy or lie in a folder "
                "of their own"
            )
        gone = {here[source] for source in hazy}
        return [path for path in found.clear if identity(path) not in gone]

    def _of_store(self) -> tuple[list[Clear], list[list[str]]]:
        if self.place is None:
            return [], []
        store = Store(self.place)
        if "clear" not in store.sides:
            raise KTDNError(f"--gt {store.path}: this store has no clear images")
        count = store.info.counts["clear"]
        keys = [[key_of(Path(store.name("clear", number)))] for number in range(count)]
        # Results carry the names of the hazy images, which need not be those of the clear ones.
        for hazy, number in [] if store.pairs is None else store.pairs:
            keys[int(number)].append(key_of(Path(store.name("hazy", int(hazy)))))
        return [_of_store(store, number) for number in range(count)], keys

    def is_of(self, source: AnySource) -> bool:
        """Returns whether there is to be ground truth for something."""
        if self.place is None:
            return isinstance(source, StoreSource) and source.clear is not None
        return True

    def clear_of(self, source: AnySource) -> Clear | None:
        """Finds the clear image of a hazy one.

        Returns:
            None where there is to be none, see :meth:`is_of`.

        Raises:
            KTDNError: If there is none, or more than one, of its name, or it is that itself.
        """
        if self.place is None:
            if isinstance(source, StoreSource) and source.clear is not None:
                return _of_store(source.store, source.clear)
            return None
        number = self._number[source]
        if number in self._pairing.faults:
            names = {Path(one.label).stem for one in self._clear} - {source.name.stem}
            near = (
                "" if number in self._pairing.ambiguous else did_you_mean(source.name.stem, names)
            )
            raise KTDNError(f"{self._pairing.faults[number]} (--gt {self.place}){near}")
        if self._is_itself(source):
            raise KTDNError(
                f"{source.label}: is itself the image of this name in --gt {self.place}; name "
                "another folder of clear images"
            )
        return self._found(source)


def _is_video(source: AnySource) -> bool:
    return isinstance(source, FileSource) and source.is_video


def _root(source: FileSource) -> Path:
    """Returns the folder that was named, of a photograph in it."""
    return source.path.parents[len(source.name.parts) - 1]


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


def _of_store(store: Store, number: int) -> Clear:
    return Clear(
        store.describe("clear", number), store.info.name, lambda: store.pixels("clear", number)
    )


def _read(path: Path) -> RGB8:
    return to_8_bit(read_photo(path).pixels)
