"""The ground truth, and the folders and stores that images come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ktdn_plugin.data.basicsr_lmdb import INFO_FILE
from ktdn_plugin.data.image_sets import HAZY_LMDB, ImageSet, of_listing, open_image_set
from ktdn_plugin.data.layouts import FOLDERS_LAYOUT, list_dataset
from ktdn_plugin.data.listing import first_of
from ktdn_plugin.data.lmdb_files import is_lmdb
from ktdn_plugin.data.sources import FileImages, Images, StoreImages
from ktdn_plugin.data.store import Store, is_store, split_name
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.evaluation.pairing import Scenes
from ktdn_plugin.scenes.image_files import list_images
from ktdn_plugin.scenes.names import key_of
from ktdn_plugin.scenes.pairing import Named, Pairing, pair


@dataclass(frozen=True)
class GroundTruth:
    """Clear images, what they are called, and their hazy images where there are any.

    Attributes:
        clear: The clear image of each scene; several may be the same.
        hazy: The hazy image of each scene.
        scenes: The scenes' names.
        split: The split's name, empty where it has none; it says so where images are missing.
        extra: Hazy images of no clear one, which are left out.
    """

    clear: Images
    hazy: Images | None
    scenes: Scenes
    split: str
    extra: Sequence[str] = ()

    @property
    def titles(self) -> list[str]:
        """The scenes' short names."""
        return [scene.title for scene in self.scenes.scenes]


def open_ground_truth(
    path: Path,
    dataset: str | None,
    split: str | None,
    *,
    hazy: Path | None = None,
    allow_incomplete: bool = False,
) -> GroundTruth:
    """Opens the ground truth, without decoding any image.

    Args:
        path: A store, an LMDB of BasicSR's, a folder of clear images, or one with hazy and clear
            ones in it; with ``dataset``, a public dataset as it is unpacked.
        dataset: One of :data:`ktdn_plugin.data.layouts.LAYOUTS`.
        split: Which split of a public dataset; the name of a split that has none of its own.
        hazy: Folder or store of the hazy images, in place of those beside the ground truth.
        allow_incomplete: Take what is there of an incomplete copy, or of incomplete pairs.

    Raises:
        KTDNError: If it is not there, is not what is said, or its images' names are ambiguous, or
            a clear image has no hazy one and that is not allowed.
    """
    require_folder(path, "--gt")
    if is_lmdb(path) or (path / INFO_FILE).is_file():
        images = _open_lmdb(path, dataset, split)
    else:
        images = _open_folder(path, dataset, split, allow_incomplete)
    if hazy is None:
        return _scenes_of(images, path)
    given = open_images(hazy, "--hazy", "hazy")
    pairing = pair_images(given, hazy, images.clear, path)
    if pairing.alone and not allow_incomplete:
        lonely = [f"{images.clear.describe(number)} has no hazy image" for number in pairing.alone]
        raise KTDNError(f"--hazy {hazy}: {first_of(lonely)}")
    pairs = sorted((c, h) for h, c in enumerate(pairing.partners) if c is not None)
    if not pairs:
        raise KTDNError(f"--hazy {hazy}: {first_of(list(pairing.faults.values()))}")
    split = images.split
    if pairing.alone:
        split = f"{split or 'unnamed'} (incomplete: {len(pairing.alone)} missing)"
    images = ImageSet(
        given.select([h for _, h in pairs]), images.clear.select([c for c, _ in pairs]), split
    )
    extra = [given.describe(number) for number in pairing.faults]
    return _scenes_of(images, path, extra)


def pair_images(hazy: Images, hazy_root: Path, clear: Images, clear_root: Path) -> Pairing:
    """Finds the clear image of each hazy one, see :func:`ktdn_plugin.scenes.pairing.pair`.

    Args:
        hazy: Hazy images.
        hazy_root: The folder, or store, that they lie in.
        clear: Clear images; of several that are the same, the first is meant.
        clear_root: The folder, or store, that they lie in.

    Raises:
        KTDNError: If a hazy image may have several, or several one.
    """
    first = {clear.describe(number): number for number in reversed(range(len(clear)))}
    numbers = sorted(first.values())
    pairing = pair(_named(hazy, hazy_root), _named(clear.select(numbers), clear_root))
    if pairing.ambiguous:
        raise KTDNError(first_of([pairing.faults[number] for number in sorted(pairing.ambiguous)]))
    return pairing._replace(
        partners=[None if c is None else numbers[c] for c in pairing.partners],
        alone=[numbers[c] for c in pairing.alone],
    )


def keys_of(images: Images, root: Path) -> list[str]:
    """Returns the names of images within the folder, or store, that they lie in."""
    names = [Path(name) for name in _names(images)]
    return [key_of(name, root if root in name.parents else None) for name in names]


def _named(images: Images, root: Path) -> list[Named]:
    return [Named(images.describe(n), (key,)) for n, key in enumerate(keys_of(images, root))]


def _scenes_of(images: ImageSet, path: Path, extra: Sequence[str] = ()) -> GroundTruth:
    hazy = None if images.hazy is None else _names(images.hazy)
    scenes = Scenes(_names(images.clear), hazy, str(path))
    return GroundTruth(images.clear, images.hazy, scenes, images.split, extra)


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
    """Returns whether a path is a store of hazy and clear images."""
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
    listing = list_dataset(path, layout, split, allow_incomplete=allow_incomplete)
    name = split or ""
    if layout != FOLDERS_LAYOUT:
        name = split_name(listing.dataset, listing.split, listing.missing)
    elif listing.missing:
        name = f"{name or 'unnamed'} (incomplete: {len(listing.missing)} missing)"
    return of_listing(listing, name)
