"""Checks the images that options name before anything starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktdn_plugin.basicsr.datasets import DATASETS
from ktdn_plugin.basicsr.options.schema import OUR_DATASETS, ROOTS
from ktdn_plugin.data.preflight import check_depth, check_names, check_sides
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.scenes.images import FileImages, Images
from ktdn_plugin.scenes.meta_info import read_meta_info
from ktdn_plugin.scenes.opening import open_lmdbs
from ktdn_plugin.scenes.options import hazy_name
from ktdn_plugin.scenes.problems import some
from ktdn_plugin.training import distributed

_logger = logging.getLogger("basicsr")


def check_images(
    dataset: dict[str, Any], where: str, border: tuple[str, int] = ("", 0)
) -> list[str]:
    """Checks that a dataset's images are there, pair, are large enough, and can be read.

    Args:
        dataset: The dataset's options.
        where: Its place in the options.
        border: The largest border that metrics leave out, and the option that says so.
    """
    kind = dataset["type"]
    if kind not in ROOTS:
        return []
    try:
        if kind in OUR_DATASETS:
            built = _build(dataset)
            sides = built.images.sides
            check_depth(built.dataset)
        elif dataset["io_backend"].get("type") == "lmdb":
            sides = _stock_lmdbs(dataset, ROOTS[kind])
        else:
            sides = _stock_files(dataset, ROOTS[kind])
        crop = dataset["gt_size"] if dataset["phase"] == "train" else None
        skips = dataset.get("on_error") == "skip"
        if crop is not None or kind == "SingleImageDataset":  # nothing is measured on it
            border = ("", 0)
        check_sides(sides, crop, skips=skips, scale=dataset["scale"], border=border)
        if crop is None:
            check_names(sides[0])
    except KTDNError as error:
        return [f"{where}: {error}"]
    return []


def _build(dataset: dict[str, Any]) -> Any:
    """Builds one of our datasets, with all that its options may have wrong."""
    (kind,) = (kind for kind in DATASETS if kind.__name__ == dataset["type"])
    return kind(dataset)


def _stock_lmdbs(dataset: dict[str, Any], roots: Sequence[str]) -> list[Images]:
    if dataset.get("meta_info_file") and distributed.rank() == 0:
        _logger.warning(
            f"{dataset['name']}: {dataset['type']} reads every image of an LMDB; what "
            f"meta_info_file names, {dataset['meta_info_file']}, is ignored."
        )
    images = open_lmdbs({key: Path(dataset[key]) for key in reversed(roots)})
    for one in images:
        one.check()  # LMDB's library is about to map it, which a damaged page would end
    return list(images)


def _stock_files(dataset: dict[str, Any], roots: Sequence[str]) -> list[Images]:
    names = {key: _names(dataset, key) for key in roots}
    if dataset["type"] != "PairedImageDataset":
        return [FileImages(names[roots[0]])]
    pairs = _pairs(dataset, names["dataroot_lq"], names["dataroot_gt"])
    return [FileImages([pair[side] for pair in pairs]) for side in (0, 1)]


def _names(dataset: dict[str, Any], key: str) -> list[Path]:
    root = Path(dataset[key])
    if not root.is_dir():
        raise KTDNError(f"{key}: no such folder: {root}")
    if not dataset.get("meta_info_file"):
        # BasicSR's datasets read every file of one folder, whatever it is.
        found = sorted(path for path in root.iterdir() if path.is_file() and path.name[0] != ".")
        if not found:
            raise KTDNError(f"{key}: the folder {root} is empty")
        return found
    names = read_meta_info(dataset["meta_info_file"])
    if key == "dataroot_lq" and dataset["type"] == "PairedImageDataset":
        names = [hazy_name(dataset, Path(name).name) for name in names]
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise KTDNError(
            f"{dataset['meta_info_file']} names files that are not in {root}: {some(missing)}"
        )
    return [root / name for name in names]


def _pairs(dataset: dict[str, Any], hazy: list[Path], clear: list[Path]) -> list[tuple[Path, Path]]:
    """Matches the two folders as BasicSR's ``PairedImageDataset`` will."""
    if dataset.get("meta_info_file"):
        return list(zip(hazy, clear, strict=True))
    partners = {hazy_name(dataset, path.name): path for path in clear}
    names = {path.name for path in hazy}
    lonely = [f"{name} (for {path.name})" for name, path in partners.items() if name not in names]
    spare = [path.name for path in hazy if path.name not in partners]
    if lonely or spare:
        parts = []
        if lonely:
            parts.append(f"no hazy {some(lonely)} in {dataset['dataroot_lq']}")
        if spare:
            parts.append(f"no clear partner of {some(spare)} in {dataset['dataroot_gt']}")
        raise KTDNError(
            f"hazy and clear images do not pair: {'; '.join(parts)} (names must match, or "
            "follow filename_tmpl)"
        )
    return [(Path(dataset["dataroot_lq"]) / name, path) for name, path in partners.items()]
