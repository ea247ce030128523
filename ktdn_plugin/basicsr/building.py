"""Builds what BasicSR's registries hold, for benchmarks, which are independent of toolboxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ktdn_plugin.basicsr import register


def build_registered_network(options: Mapping[str, Any]) -> nn.Module:
    """Builds a network registered in BasicSR.

    Args:
        options: A section of an options file, such as ``network_g``.
    """
    register()
    from basicsr.archs import build_network

    network: nn.Module = build_network(dict(options))
    return network


def build_training_dataset(kind: str, hazy: Path | None, clear: Path, size: int) -> Any:
    """Builds a training dataset as its options would, with random crops, flips and turns.

    Args:
        kind: ``PairedImageDataset``, BasicSR's, unmodified, or ``PairedHazeDataset``, ours.
        hazy: Folder of hazy images; None for a store, which has both.
        clear: Folder of clear images, or a store.
        size: Height and width of the crops.

    Returns:
        The dataset: samples with ``lq`` and ``gt``, ordered by image name.
    """
    register()
    import basicsr.data  # noqa: F401 - registers PairedImageDataset
    from basicsr.utils.registry import DATASET_REGISTRY

    options = {
        "phase": "train",
        "scale": 1,
        "dataroot_gt": str(clear),
        "gt_size": size,
        "use_hflip": True,
        "use_rot": True,
        "io_backend": {"type": "disk"},
    }
    if hazy is not None:
        options["dataroot_lq"] = str(hazy)
    dataset = DATASET_REGISTRY.get(kind)(options)
    if kind == "PairedImageDataset":  # its order depends on the file system
        dataset.paths.sort(key=lambda pair: str(pair["gt_path"]))
    return dataset
