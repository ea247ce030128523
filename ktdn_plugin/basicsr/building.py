"""Builds what BasicSR's registries hold, for benchmarks: they know no toolbox themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ktdn_plugin.basicsr import register


def build_registered_network(options: Mapping[str, Any]) -> nn.Module:
    """Returns a network that is registered in BasicSR.

    Args:
        options: A section such as ``network_g`` of an options file.
    """
    register()
    from basicsr.archs import build_network

    network: nn.Module = build_network(dict(options))
    return network


def build_training_dataset(kind: str, hazy: Path | None, clear: Path, size: int) -> Any:
    """Builds a training dataset as its options would, with random crops, flips and turns.

    Args:
        kind: ``PairedImageDataset``, which is BasicSR's, untouched, or ``PairedHazeDataset``, ours.
        hazy: Folder of hazy images; None for a store, which has both.
        clear: Folder of clear images, or a store.
        size: Height and width of the crops.

    Returns:
        The dataset: samples with ``lq`` and ``gt``, in the order of the images' names.
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
    if kind == "PairedImageDataset":  # which leaves the order to the file system
        dataset.paths.sort(key=lambda pair: str(pair["gt_path"]))
    return dataset
