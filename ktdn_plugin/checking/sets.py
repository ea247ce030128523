"""The sets that are to be checked: stores, folders, and folders of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.checking.findings import Finding, Side
from ktdn_plugin.checking.stores import judge_store
from ktdn_plugin.data.layouts import FOLDERS_LAYOUT, list_dataset
from ktdn_plugin.data.lmdb_files import is_lmdb
from ktdn_plugin.data.sources import FileImages, Images, StoreImages
from ktdn_plugin.data.store import Store, is_store
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.names import side_of_folder

BASICSR_LMDBS = ("hazy.lmdb", "clear.lmdb")


@dataclass(frozen=True)
class ImageSet:
    """Images that belong together.

    Attributes:
        path: Where they are.
        name: What to call them: the path, and which part of which dataset.
        clear: The clear images.
        hazy: The hazy ones, where there are any.
        pairs: Number of the hazy and of the clear image of each pair.
        findings: What was wrong before any image was read.
        store: The store that they are in, if they are in one.
    """

    path: Path
    name: str
    clear: Images
    hazy: Images | None = None
    pairs: list[tuple[int, int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    store: Store | None = None

    def side(self, side: Side) -> Images:
        """Returns the images of a side."""
        images = self.clear if side == "clear" else self.hazy
        assert images is not None
        return images

    def read(self, side: Side, number: int) -> NDArray[np.uint8]:
        """Reads an image, and compares it with its checksum where there is one.

        Raises:
            KTDNError: If it cannot be read, or differs.
        """
        if self.store is not None:
            self.store.verify(side, number)
        return self.side(side).read(number)


def open_sets(paths: Sequence[Path], dataset: str | None, splits: Sequence[str]) -> list[ImageSet]:
    """Finds the sets.

    A folder that is no set itself, but has stores or folders of pairs in it, counts as those.

    Args:
        paths: Stores and folders.
        dataset: How folders are laid out, see :mod:`ktdn_plugin.data.layouts`; as ``folders``
            where none is named.
        splits: Which parts of the dataset, each a set; its usual one where there are none.

    Returns:
        The sets, in the order of the paths, sets of one path sorted by name.

    Raises:
        KTDNError: If a path is no set and has none, or is given twice, or if dataset or splits do
            not fit.
    """
    layout = FOLDERS_LAYOUT if dataset is None else dataset
    found = [part for path in paths for part in _parts_of(Path(path), layout)]
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise KTDNError(f"{path}: given twice; leave one out")
        seen.add(path.resolve())
    _check_splits(layout, splits, found)
    only_stores = all(is_lmdb(path) for path in found)
    wanted: Sequence[str | None] = splits or (None,)
    sets = []
    for path in found:
        if is_lmdb(path):
            opened = _open_store(path)
            # Beside a folder they may be meant for that.
            if only_stores:
                _check_is_of(opened, dataset, splits)
            sets.append(opened)
        else:
            sets += [_open_folder(path, layout, split) for split in wanted]
    return sets


def _check_splits(layout: str, splits: Sequence[str], found: Sequence[Path]) -> None:
    for number, split in enumerate(splits):
        if split in splits[:number]:
            raise KTDNError(f"--split {split}: given twice; leave one out")
    folder = next((path for path in found if not is_lmdb(path)), None)
    if layout == FOLDERS_LAYOUT and len(splits) > 1 and folder is not None:
        raise KTDNError(
            f"{folder}: has one split only, which --split names; give --split once, or name the "
            "layout with --dataset"
        )


def _check_is_of(image_set: ImageSet, dataset: str | None, splits: Sequence[str]) -> None:
    assert image_set.store is not None
    info = image_set.store.info
    if dataset not in (None, info.dataset):
        raise KTDNError(
            f"{image_set.path}: a store of '{info.dataset}', not of '{dataset}'; leave out "
            "--dataset, which is for folders"
        )
    if splits and info.split not in splits:
        raise KTDNError(
            f"{image_set.path}: a store of the split '{info.split}', not of "
            f"'{' or '.join(splits)}'; leave out --split, which is for folders"
        )


def _parts_of(path: Path, dataset: str) -> list[Path]:
    if not path.is_dir() or is_lmdb(path):
        return [path]
    try:
        below = sorted(p for p in path.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as error:
        raise KTDNError(f"{path}: {error.strerror or error}") from error
    if _holds_sides(path):
        return [path]
    for part in below:
        if part.name in BASICSR_LMDBS:
            _refuse_basicsr(part)
    parts = [p for p in below if is_lmdb(p) or (dataset == FOLDERS_LAYOUT and _holds_sides(p))]
    return parts or [path]


def _holds_sides(folder: Path) -> bool:
    return any(side_of_folder(p.name) and p.is_dir() for p in folder.iterdir())


def _open_folder(path: Path, dataset: str, split: str | None) -> ImageSet:
    # Incomplete ones are listed with what is missing, and the files are looked into below.
    listing = list_dataset(path, dataset, split, allow_incomplete=True, check_files=False)
    findings = [
        Finding("missing", "error", f"{path}: {line}; add or remove it") for line in listing.missing
    ]
    name = str(path) if dataset == FOLDERS_LAYOUT else f"{path} ({listing.name})"
    clear = FileImages(listing.clear, listing.center)
    hazy = FileImages(listing.hazy) if listing.hazy else None
    return ImageSet(path, name, clear, hazy, listing.pairs, findings)


def _refuse_basicsr(path: Path) -> None:
    if is_lmdb(path) and (path / "meta_info.txt").is_file() and not is_store(path):
        raise KTDNError(
            f"{path}: an LMDB for BasicSR ('ktdn prepare --format basicsr'), which is not read "
            "here; check the folder that it was made from"
        )


def _open_store(path: Path) -> ImageSet:
    _refuse_basicsr(path)
    store = Store(path)
    if "clear" not in store.sides:
        raise KTDNError(f"{path}: this store has no clear images to compare with")
    hazy = StoreImages(store, "hazy") if "hazy" in store.sides else None
    pairs = [] if store.pairs is None else [(int(h), int(c)) for h, c in store.pairs]
    missing = [Finding("missing", "warning", f"{path}: {line}") for line in store.info.missing]
    findings = judge_store(store) + missing
    name = f"{path} ({store.info.dataset}/{store.info.split})"
    return ImageSet(path, name, StoreImages(store, "clear"), hazy, pairs, findings, store)
