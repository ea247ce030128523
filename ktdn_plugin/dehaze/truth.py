"""Ground truth: the clear image of each hazy one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.dehaze.inputs import AnySource, FileSource, StoreSource, identity
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.scenes.images import FileImages, Images, StoreImages
from ktdn_plugin.scenes.lmdb_files import is_lmdb
from ktdn_plugin.scenes.names import clear_beside_hazy, key_of, within_side
from ktdn_plugin.scenes.opening import holds_lmdbs, open_scenes
from ktdn_plugin.scenes.pairing import ImageKeys, pair
from ktdn_plugin.scenes.scene_set import SceneSet
from ktdn_plugin.storage.journal import stamp_of

RGB8 = NDArray[np.uint8]


class Clear(NamedTuple):
    """A clear image.

    Attributes:
        label: A name that lets users find it.
        split: The name of its split, empty if it has none.
        read: Returns its pixels, RGB, (h, w, 3), 0 to 255.
        path: Its file, None in a store.
        stored: What identifies it in a store.
    """

    label: str
    split: str
    read: Callable[[], RGB8]
    path: Path | None = None
    stored: dict[str, Any] | None = None

    def identify(self) -> dict[str, Any] | None:
        """Returns what tells that it is still the same image; None if there is no telling."""
        if self.path is None:
            return self.stored
        try:
            return {"path": str(self.path.absolute()), "stamp": stamp_of(self.path)}
        except OSError:
            return None


class Truth:
    """The clear images of a folder or a store, matched to the hazy ones by name.

    Where a folder holds hazy and clear images of the same scenes, the clear ones are used.

    Args:
        place: The folder or store; None to use only the own clear images of the stores dehazed.
        split: Name of their split; a store's own name takes precedence.
        sources: The candidates for dehazing; see :attr:`sources`.

    Attributes:
        sources: Those to dehaze.
        left: Those that are clear images, which are left alone.
        files: Ground truth files.

    Raises:
        KTDNError: If the place does not exist, holds no clear image or everything to be dehazed,
            or a split is named where it would have no effect.
    """

    def __init__(
        self, place: Path | None, split: str | None = None, sources: Sequence[AnySource] = ()
    ) -> None:
        self.place = place
        self.split = split or ""
        self.sources = list(sources)
        self.left: list[AnySource] = []
        scenes = None if place is None else self._open(place)
        self._check_split(scenes)
        self.files: list[Path] = []
        self._clear: list[Clear] = []
        clear: list[ImageKeys] = []
        if scenes is not None:
            self.files = scenes.files("clear")
            numbers = range(len(scenes.clear))
            split = scenes.title if scenes.dataset else scenes.split
            self._clear = [_clear(scenes.clear, number, split) for number in numbers]
            clear = [
                ImageKeys(self._clear[number].label, scenes.keys(number)) for number in numbers
            ]
        photos = dict.fromkeys(source for source in self.sources if not _is_video(source))
        self._number = {source: number for number, source in enumerate(photos)}
        self._pairing = pair(
            [ImageKeys(source.label, _keys(source)) for source in photos],
            clear,
        )

    def _open(self, place: Path) -> SceneSet:
        if is_lmdb(place) or holds_lmdbs(place):
            scenes = open_scenes(place)
            return scenes if scenes.dataset else replace(scenes, split=self.split)
        # Partners are searched for among the sources, not among neighbouring files.
        scenes = open_scenes(
            place, split=self.split or None, clear_only=True, allow_incomplete=True
        )
        return self._apart(scenes)

    def _check_split(self, scenes: SceneSet | None) -> None:
        """Refuses a split name that no table would show."""
        if not self.split or (scenes is not None and scenes.split == self.split):
            return
        of_stores = [source.store for source in self.sources if isinstance(source, StoreSource)]
        if scenes is not None:
            place, title = scenes.place, scenes.title
        elif of_stores:
            place, title = of_stores[0].path, of_stores[0].info.name
        else:
            raise KTDNError(
                f"--split {self.split}: only labels the table of --gt; remove it, or give "
                "clear images with --gt"
            )
        raise KTDNError(f"--split {self.split}: {place} knows its split, {title}; remove it")

    def check_any(self) -> None:
        """Refuses ground truth that matches no photograph, before any work is done.

        Raises:
            KTDNError: If no photograph has its ground truth.
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
        """Returns whether the ground truth found for a hazy image is that image itself."""
        clear = self._found(source)
        return bool(
            isinstance(source, FileSource)
            and clear
            and clear.path
            and identity(source.path) == identity(clear.path)
        )

    def _apart(self, scenes: SceneSet) -> SceneSet:
        """Removes clear images from the sources, and hazy ones from the clear images."""
        files = [source for source in self.sources if isinstance(source, FileSource)]
        numbers = {identity(path): number for number, path in enumerate(scenes.files("clear"))}
        clear = clear_beside_hazy(key_of(source.name) for source in files)
        left = {source for source in files if key_of(source.name) in clear}
        here = {source: identity(source.path) for source in files if source not in left}
        both = {source for source in here if source.is_of_folder and here[source] in numbers}
        # In a folder inside the ground truth's, all images are hazy; otherwise, what is in both
        # is clear.
        within = scenes.place.resolve()
        hazy = {source for source in both if within in _root(source).resolve().parents}
        left |= both - hazy
        self.left = [source for source in self.sources if source in left]
        self.sources = [source for source in self.sources if source not in left]
        if self.left and not self.sources:
            raise KTDNError(
                f"--gt {scenes.place}: everything to dehaze is ground truth itself, such as "
                f"{self.left[0].label}; name hazy images, which end in _hazy or lie in a folder "
                "of their own"
            )
        gone = {here[source] for source in hazy}
        paths = scenes.files("clear")
        return scenes.only([n for n, path in enumerate(paths) if identity(path) not in gone])

    def is_of(self, source: AnySource) -> bool:
        """Returns whether a source should have ground truth."""
        if self.place is None:
            return isinstance(source, StoreSource) and source.clear is not None
        return True

    def clear_of(self, source: AnySource) -> Clear | None:
        """Finds the clear image of a hazy one.

        Returns:
            The clear image; None if there should be none, see :meth:`is_of`.

        Raises:
            KTDNError: If no image or several match its name, or the match is the image itself.
        """
        if self.place is None:
            if isinstance(source, StoreSource) and source.clear is not None:
                images = StoreImages(source.store, "clear")
                return _clear(images, source.clear, source.store.info.name)
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


def _keys(source: AnySource) -> list[str]:
    """Returns the names relative to the given folder, and to a folder of hazy images in it."""
    key = key_of(source.name)
    return list(dict.fromkeys((key, within_side(key))))


def _is_video(source: AnySource) -> bool:
    return isinstance(source, FileSource) and source.is_video


def _root(source: FileSource) -> Path:
    """Returns the given folder that a photograph was found in."""
    return source.path.parents[len(source.name.parts) - 1]


def read_clear(clear: Clear, shape: tuple[int, ...], label: str) -> RGB8:
    """Reads a clear image, which must have the hazy one's size.

    Raises:
        KTDNError: If it cannot be read or has another size.
    """
    pixels = clear.read()
    if pixels.shape != shape:
        sizes = [f"{width} x {height}" for height, width, _ in (shape, pixels.shape)]
        raise KTDNError(f"{label} is {sizes[0]}, its ground truth {clear.label} {sizes[1]}")
    return pixels


def _clear(images: Images, number: int, split: str) -> Clear:
    path = images.paths[number] if isinstance(images, FileImages) else None
    stored = None
    if isinstance(images, StoreImages):
        fingerprint = images.store.info.fingerprint
        stored = {"fingerprint": fingerprint, "image": images.name(number)}
    return Clear(images.describe(number), split, partial(images.read, number), path, stored)
