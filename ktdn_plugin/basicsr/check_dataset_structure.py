"""Checks the structure of an options file's ``datasets``: phases, keys, types."""

from __future__ import annotations

from typing import Any

from ktdn_plugin.basicsr.check_values import (
    FLAG,
    SECTION,
    SHARE,
    TEXT,
    Kind,
    check_types,
    is_folder_name,
    unknown_keys,
    whole,
)
from ktdn_plugin.errors import did_you_mean
from ktdn_plugin.scenes.opening import LAYOUTS

DATASET_KEYS = (
    "name", "type", "dataroot_gt", "io_backend", "meta_info_file", "gt_size", "use_hflip",
    "use_rot", "num_worker_per_gpu", "batch_size_per_gpu", "dataset_enlarge_ratio",
    "prefetch_mode", "pin_memory", "persistent_workers", "use_shuffle", "phase", "scale",
    "on_error", "skip_at_most",
)  # fmt: skip
PAIRED_KEYS = (*DATASET_KEYS, "dataroot_lq", "filename_tmpl", "color", "mean", "std")
OUR_KEYS = (
    *DATASET_KEYS, "layout", "split", "allow_incomplete", "use_scale", "color_jitter",
)  # fmt: skip
KNOWN_DATASETS = {
    "ClearImageDataset": OUR_KEYS,
    "PairedHazeDataset": (*OUR_KEYS, "dataroot_lq", "filename_tmpl"),
    "SyntheticHazeDataset": (*OUR_KEYS, "haze", "degradation", "dataroot_depth"),
    "PairedImageDataset": PAIRED_KEYS,
    "SingleImageDataset": tuple(key for key in PAIRED_KEYS if key != "dataroot_gt"),
}

ROOTS = {
    "ClearImageDataset": ("dataroot_gt",),
    "PairedHazeDataset": ("dataroot_gt",),  # dataroot_lq as well where it is no store
    "SyntheticHazeDataset": ("dataroot_gt",),
    "PairedImageDataset": ("dataroot_gt", "dataroot_lq"),
    "SingleImageDataset": ("dataroot_lq",),
}
OUR_DATASETS = ("ClearImageDataset", "PairedHazeDataset", "SyntheticHazeDataset")


_DATASET_TYPES: dict[str, Kind] = {
    "name": (
        lambda value: isinstance(value, str) and is_folder_name(value),
        "the name of a folder: no slashes, no dot in front, at most 150 characters",
    ),
    "type": TEXT,
    "meta_info_file": TEXT,
    "filename_tmpl": TEXT,
    "dataroot_gt": TEXT,
    "dataroot_lq": TEXT,
    "io_backend": SECTION,
    "gt_size": whole(1, 2**14),
    "use_hflip": FLAG,
    "use_rot": FLAG,
    "num_worker_per_gpu": whole(0, 1024),
    "batch_size_per_gpu": whole(1, 2**16),
    "dataset_enlarge_ratio": whole(1, 10**6),
    "pin_memory": FLAG,
    "persistent_workers": FLAG,
    "layout": (
        lambda value: isinstance(value, str) and value in LAYOUTS,
        f"one of {', '.join(LAYOUTS)}",
    ),
    "split": TEXT,
    "allow_incomplete": FLAG,
    "color_jitter": SECTION,
    "haze": SECTION,
    "degradation": SECTION,
    "dataroot_depth": TEXT,
    "on_error": (lambda value: value in ("raise", "skip"), "raise or skip"),
    "skip_at_most": SHARE,
}


def check_dataset_structure(datasets: Any, is_train: bool) -> list[str]:
    """Checks what must hold before defaults can be filled in."""
    if not isinstance(datasets, dict):
        return []
    problems = []
    if is_train and "train" not in datasets:
        problems.append("datasets.train: missing")
    if not is_train and not any(str(phase) != "train" for phase in datasets):
        problems.append("datasets: nothing to test; give test, test_2, ...")
    names = [d.get("name", phase) for phase, d in datasets.items() if isinstance(d, dict)]
    for name in {str(name) for name in names if names.count(name) > 1}:
        problems.append(f"datasets: two are named '{name}'; their results would share a folder")
    for phase, dataset in datasets.items():
        where = f"datasets.{phase}"
        if str(phase).split("_")[0] not in ("train", "val", "test"):
            problems.append(
                f"{where}: unknown phase{did_you_mean(phase, ('train', 'val', 'test'))} "
                "(train, val, val_2, test, ...)"
            )
        if not isinstance(dataset, dict):
            problems.append(f"{where}: must be {SECTION[1]}")
            continue
        problems += check_types(dataset, _DATASET_TYPES, f"{where}.")
        kind = dataset.get("type")
        if kind is None:
            problems.append(f"{where}.type: missing")
        if not isinstance(kind, str):
            continue
        required = ["batch_size_per_gpu"] if phase == "train" else []
        backend = dataset.get("io_backend")
        if kind in KNOWN_DATASETS and isinstance(backend, dict):
            problems += _check_backend(backend, where)
        problems += _check_combinations(dataset, str(phase), where)
        if phase == "train" and kind == "SingleImageDataset":
            problems.append(f"{where}.type: SingleImageDataset has no clear images to learn from")
        if kind in KNOWN_DATASETS:
            problems += unknown_keys(dataset, KNOWN_DATASETS[kind], f"{where}.")
            required += [*ROOTS[kind], *(["gt_size"] if phase == "train" else [])]
        problems += [f"{where}.{key}: missing" for key in required if dataset.get(key) is None]
        if dataset.get("prefetch_mode") not in (None, "cuda"):
            problems.append(
                f"{where}.prefetch_mode: '{dataset['prefetch_mode']}' waits for ever when a file "
                "cannot be read; leave it out (workers read ahead anyway), or use cuda"
            )
    return problems


def _check_combinations(dataset: dict[str, Any], phase: str, where: str) -> list[str]:
    for key in ("on_error", "skip_at_most"):
        if phase != "train" and key in dataset:
            return [f"{where}.{key}: only training may leave images out; figures must be of all"]
    for key in ("use_scale", "color_jitter"):
        if phase != "train" and key in dataset:
            return [f"{where}.{key}: only training changes its images; leave it out"]
    if dataset.get("allow_incomplete") and "layout" not in dataset:
        return [f"{where}.allow_incomplete: needs a layout, which says what is missing"]
    if "skip_at_most" in dataset and dataset.get("on_error") != "skip":
        return [f"{where}.skip_at_most: needs on_error: skip"]
    return []


def _check_backend(backend: dict[str, Any], where: str) -> list[str]:
    known = ("disk", "lmdb")
    kind = backend.get("type")
    if kind not in known:
        hint = did_you_mean(kind, known)
        return [f"{where}.io_backend.type: {kind!r} must be disk or lmdb{hint}"]
    return unknown_keys(backend, ("type",), f"{where}.io_backend.")
