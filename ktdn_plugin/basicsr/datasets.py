"""BasicSR's side of the datasets: options in, samples with BasicSR's keys out."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ktdn_plugin.basicsr.image_sets import ImageSet, open_image_set
from ktdn_plugin.data.augmentation import Augmentation, ColorJitter
from ktdn_plugin.data.datasets import (
    ClearDataset,
    PairedDataset,
)
from ktdn_plugin.data.datasets import (
    SyntheticHazeDataset as CoreSyntheticHazeDataset,
)
from ktdn_plugin.data.depth import DepthMaps
from ktdn_plugin.data.haze import synthesize_haze
from ktdn_plugin.errors import KTDNError, did_you_mean


class ClearImageDataset(Dataset):
    """Clear images, which are input and target at once, for the teacher's stage.

    Args:
        opt: The dataset's options:

            - ``dataroot_gt``, ``layout``, ``split``, ``meta_info_file``: which images, see
              :func:`ktdn_plugin.basicsr.image_sets.open_image_set`;
            - ``phase``: ``train`` gives random crops, anything else whole images;
            - ``gt_size``: the crop in pixels; ``use_hflip``, ``use_rot``: random flips and quarter
              turns; ``use_scale: [low, high]``: random scale; ``color_jitter``: random
              ``brightness``, ``contrast``, ``saturation`` and ``hue``. In training only.

    Raises:
        KTDNError: If an option is wrong, or the images are not there.
    """

    paired = False

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.images = open_image_set(opt, self.paired)
        self.split = self.images.split
        self.fingerprint = self.images.fingerprint
        augmentation = augmentation_of(opt) if opt["phase"] == "train" else None
        self.dataset = self._build(self.images, augmentation)

    def _build(self, images: ImageSet, augmentation: Augmentation | None) -> ClearDataset:
        return ClearDataset(images.clear, augmentation)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Gives ``lq`` and ``gt``, RGB tensors (3, h, w) in [0, 1], and their names as paths.

        Raises:
            KTDNError: If an image cannot be read, or is smaller than the crop.
        """
        sample = self.dataset[index]
        return {
            "lq": sample["hazy"],
            "gt": sample["clear"],
            "lq_path": sample["name"],
            "gt_path": sample.get("clear_name", sample["name"]),
        }


class PairedHazeDataset(ClearImageDataset):
    """Hazy images with the clear ones of their scenes, for the student's stage.

    Args:
        opt: As for :class:`ClearImageDataset`; without a store or a layout, ``dataroot_lq`` names
            the hazy images' folder or LMDB, and ``filename_tmpl`` how a hazy file is named after
            its clear one.

    Raises:
        KTDNError: If an option is wrong, or the images are not there or do not pair.
    """

    paired = True

    def _build(self, images: ImageSet, augmentation: Augmentation | None) -> ClearDataset:
        assert images.hazy is not None
        return PairedDataset(images.hazy, images.clear, augmentation)


class SyntheticHazeDataset(ClearImageDataset):
    """Clear images over which non-homogeneous haze is laid when they are asked for.

    In training each use of an image gets another haze; in validation an image keeps its own.

    Args:
        opt: As for :class:`ClearImageDataset`, and

            - ``haze``: ranges of ``density``, ``airlight``, ``tint``, ``veil`` and ``coverage``,
              each ``[low, high]``, and ``octaves``, see
              :func:`ktdn_plugin.data.haze.synthesize_haze`;
            - ``dataroot_depth``: a folder with a depth map for each image, of its name.

    Raises:
        KTDNError: If an option is wrong, or the images are not there.
    """

    def _build(self, images: ImageSet, augmentation: Augmentation | None) -> ClearDataset:
        depth = None
        if self.opt.get("dataroot_depth"):
            names = [images.clear.name(number) for number in range(len(images.clear))]
            depth = DepthMaps.of_folder(Path(self.opt["dataroot_depth"]), names)
        haze = _check_haze(self.opt.get("haze") or {})
        # Other ranges are other data.
        text = json.dumps({key: list(v) if isinstance(v, tuple) else v for key, v in haze.items()})
        which = f" {zlib.crc32(text.encode()):08x}" if haze else ""
        self.split = f"{self.split or 'unnamed'} + synthetic haze{which}"
        return CoreSyntheticHazeDataset(images.clear, augmentation, haze, depth=depth)


HAZE_KEYS = ("density", "airlight", "tint", "veil", "coverage", "octaves")
DATASETS = (ClearImageDataset, PairedHazeDataset, SyntheticHazeDataset)


def _check_haze(ranges: dict[str, Any]) -> dict[str, Any]:
    """Tries ranges on a pixel: what is wrong with them shows here, not in a worker."""
    for key in ranges:
        if key not in HAZE_KEYS:
            raise KTDNError(f"haze.{key}: unknown key{did_you_mean(key, HAZE_KEYS)}")
    try:
        synthesize_haze(np.zeros((1, 1, 3), np.uint8), 0, **ranges)
    except (TypeError, ValueError) as error:
        raise KTDNError(f"haze.{error}") from error
    return ranges


def augmentation_of(opt: dict[str, Any]) -> Augmentation:
    """Makes the augmentation that a dataset's options ask for.

    Raises:
        KTDNError: If a value is wrong.
    """
    jitter = opt.get("color_jitter")
    if jitter is not None and not isinstance(jitter, dict):
        raise KTDNError("color_jitter: must be a section of 'key: value' lines")
    scale = opt.get("use_scale") or (1.0, 1.0)
    return Augmentation(
        opt["gt_size"],
        opt.get("use_hflip", True),
        opt.get("use_rot", True),
        tuple(scale) if isinstance(scale, list) else scale,
        ColorJitter.of(jitter) if jitter else None,
    )
