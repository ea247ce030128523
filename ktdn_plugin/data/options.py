"""Builds datasets from their options, which have the same names in both toolboxes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ktdn_plugin.data.augmentation import Augmentation, ColorJitter
from ktdn_plugin.data.datasets import ClearDataset, PairedDataset, SyntheticHazeDataset
from ktdn_plugin.errors import KTDNError, did_you_mean
from ktdn_plugin.haze.degradation import Degradation
from ktdn_plugin.haze.depth import DepthMaps
from ktdn_plugin.haze.scattering import synthesize_haze
from ktdn_plugin.scenes.options import scenes_of_options
from ktdn_plugin.scenes.scene_set import SceneSet

HAZE_KEYS = ("density", "airlight", "tint", "veil", "coverage", "octaves")


class Configured(NamedTuple):
    """A dataset, and what its options name.

    Attributes:
        dataset: The dataset.
        images: Its images.
        split: Name of the split that its figures are of, empty where it was not named.
    """

    dataset: ClearDataset
    images: SceneSet
    split: str


def configure_clear(opt: Mapping[str, Any], training: bool) -> Configured:
    """Builds the dataset of clear images alone.

    Args:
        opt: Which images, see :func:`~ktdn_plugin.scenes.options.scenes_of_options`; in training
            also ``gt_size``, the crop in pixels, ``use_hflip``, ``use_rot``,
            ``use_scale: [low, high]`` and ``color_jitter``.
        training: Random crops; whole images if not.

    Raises:
        KTDNError: If an option is wrong, or the images are not there.
    """
    images = scenes_of_options(opt, paired=False)
    dataset = ClearDataset(images.clear, _augmentation(opt, training))
    return Configured(dataset, images, images.title)


def configure_paired(opt: Mapping[str, Any], training: bool) -> Configured:
    """Builds the dataset of hazy images with their clear ones.

    Args:
        opt: As for :func:`configure_clear`.
        training: Random crops; whole images if not.

    Raises:
        KTDNError: If an option is wrong, or the images are not there or do not pair.
    """
    images = scenes_of_options(opt, paired=True)
    assert images.hazy is not None
    dataset = PairedDataset(images.hazy, images.clear, _augmentation(opt, training))
    return Configured(dataset, images, images.title)


def configure_synthetic(opt: Mapping[str, Any], training: bool) -> Configured:
    """Builds the dataset of clear images over which haze is laid.

    Args:
        opt: As for :func:`configure_clear`, with ``haze``, ranges for
            :func:`~ktdn_plugin.haze.scattering.synthesize_haze`, ``degradation``, see
            :class:`~ktdn_plugin.haze.degradation.Degradation`, and ``dataroot_depth``.
        training: Random crops, another haze at each use; whole images with their own haze if not.

    Raises:
        KTDNError: If an option is wrong, or the images are not there.
    """
    images = scenes_of_options(opt, paired=False)
    depth = None
    if opt.get("dataroot_depth"):
        names = [images.clear.name(number) for number in range(len(images.clear))]
        depth = DepthMaps.of_folder(Path(opt["dataroot_depth"]), names)
    haze = _check_haze(opt.get("haze") or {})
    changes = opt.get("degradation") or {}
    degradation = Degradation.of(changes) if changes else None
    # Other ranges are other data.
    text = json.dumps(haze) + (json.dumps(changes) if changes else "")
    which = f" {zlib.crc32(text.encode()):08x}" if haze or changes else ""
    augmentation = _augmentation(opt, training)
    dataset = SyntheticHazeDataset(
        images.clear, augmentation, haze, depth=depth, degradation=degradation
    )
    return Configured(dataset, images, f"{images.title or 'unnamed'} + synthetic haze{which}")


def _check_haze(ranges: Mapping[str, Any]) -> dict[str, Any]:
    """Tries ranges on a pixel: what is wrong with them shows here, not in a worker."""
    for key in ranges:
        if key not in HAZE_KEYS:
            raise KTDNError(f"haze.{key}: unknown key{did_you_mean(key, HAZE_KEYS)}")
    try:
        synthesize_haze(np.zeros((1, 1, 3), np.uint8), 0, **ranges)
    except (TypeError, ValueError) as error:
        raise KTDNError(f"haze.{error}") from error
    return dict(ranges)


def _augmentation(opt: Mapping[str, Any], training: bool) -> Augmentation | None:
    if not training:
        return None
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
