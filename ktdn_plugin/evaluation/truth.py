"""The ground truth, and the folders and stores that images come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ktdn_plugin.data.basicsr_lmdb import INFO_FILE
from ktdn_plugin.data.image_sets import HAZY_LMDB, ImageSet, open_image_set
from ktdn_plugin.data.images import list_images
from ktdn_plugin.data.layouts import FOLDERS_LAYOUT, LAYOUTS, list_dataset
from ktdn_plugin.data.lmdb_files import is_lmdb
from ktdn_plugin.data.sources import FileImages, Images, StoreImages
from ktdn_plugin.data.store import Store, is_store, split_name
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.evaluation.pairing import Scenes


@dataclass(frozen=True)
class GroundTruth:
    """Clear images, what they are called, and their hazy images where there are any.

    Attributes:
        clear: The clear image of each scene; several may be the same.
        hazy: The hazy image of each scene.
        scenes: The scenes' names.
        split: The split's name, empty where it has none; it says so where images are missing.
    """

    clear: Images
    hazy: Images | None
    scenes: Scenes
    split: str

    @property
    def titles(self) -> list[str]:
        """The scenes' short names."""
        return [scene.title for scene in self.scenes.scenes]


def open_ground_truth(
    path: Path, dataset: str | None, split: str | None, *, allow_incomplete: bool = False
) -> GroundTruth:
    """Opens the ground truth, without decoding any image.

    Args:
        path: A store, an LMDB of BasicSR's, a folder of clear images, or one with hazy and clear
            ones in it; with ``dataset``, a public dataset as it is unpacked.
        dataset: One of :data:`ktdn_plugin.data.layouts.LAYOUTS`.
        split: Which split of a public dataset; the name of a split that has none of its own.
        allow_incomplete: Take what is there of an incomplete copy, or of incomplete pairs.

    Raises:
        KTDNError: If it is not there, is not what is said, or its images' names are ambiguous.
    """
    require_folder(path, "--gt")
    if is_lmdb(path) or (path / INFO_FILE).is_file():
        images = _open_lmdb(path, dataset, split)
    else:
        images = _open_folder(path, dataset, split, allow_incomplete)
    hazy = None if images.hazy is None else _names(images.hazy)
    scenes = Scenes(_names(images.clear), hazy, str(path))
    return GroundTruth(images.clear, images.hazy, scenes, images.split)


def open_images(path: Path, flag: str, side: str) -> Images:
    """Opens a folder's images, or one side of a store.

    Args:
        path: The folder, or the store.
        flag: How it was named, for messages.
        side: What is wanted of a store that has hazy and clear images, ``hazy`` or ``clear``; of
            one that has clear images alone, these are taken.

    Raises:
        KTDNError: If it is not there or holds no image.
    """
    require_folder(path, flag)
    if not is_store(path):
        return FileImages(list_images(path))
    store = Store(path)
    return StoreImages(store, side if side in store.sides else store.sides[0])


def has_both_sides(path: Path) -> bool:
    """Tells a store of hazy and clear images."""
    return path.is_dir() and is_store(path) and len(Store(path).sides) > 1


def require_folder(path: Path, flag: str) -> None:
    """Refuses what is no folder, with the name that may be meant.

    Raises:
        KTDNError: If it is none.
    """
    if path.is_dir():
        return
    if path.exists():
        raise KTDNError(f"{flag}: {path} is a file; name a folder of images, or a store")
    try:
        near = [folder.name for folder in path.parent.iterdir() if folder.is_dir()]
    except OSError:
        near = []
    raise KTDNError(f"{flag}: no such folder: {path}{did_you_mean(path.name, near)}")


def _names(images: Images) -> list[str]:
    return [images.name(number) for number in range(len(images))]


def _open_lmdb(path: Path, dataset: str | None, split: str | None) -> ImageSet:
    if is_lmdb(path):
        paired = is_store(path) and "hazy" in Store(path).sides
    else:
        paired = is_lmdb(path / HAZY_LMDB)
    options = {"dataroot_gt": str(path), "layout": dataset, "split": split}
    return open_image_set(options, paired)


def _open_folder(
    path: Path, dataset: str | None, split: str | None, allow_incomplete: bool
) -> ImageSet:
    layout = dataset or FOLDERS_LAYOUT
    try:
        listing = list_dataset(path, layout, split, allow_incomplete=allow_incomplete)
    except KTDNError as error:
        if layout != FOLDERS_LAYOUT or " are the same image to us" not in str(error):
            raise
        public = ", ".join(name for name in LAYOUTS if name != FOLDERS_LAYOUT)
        raise KTDNError(
            f"{error}; if this is a public dataset, say --dataset ({public})"
        ) from error
    name = split or ""
    if layout != FOLDERS_LAYOUT:
        name = split_name(listing.dataset, listing.split, listing.missing)
    elif listing.missing:
        name = f"{name or 'unnamed'} (incomplete: {len(listing.missing)} missing)"
    if not listing.hazy:
        clear = FileImages(listing.clear, listing.center)
        return ImageSet(None, clear, name)
    hazy = FileImages([listing.hazy[number] for number, _ in listing.pairs])
    partners = [listing.clear[number] for _, number in listing.pairs]
    return ImageSet(hazy, FileImages(partners, listing.center), name)
