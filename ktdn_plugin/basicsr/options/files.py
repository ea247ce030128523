"""Checks the files that options name before anything starts: data and checkpoints.

Every check returns lines for people, so that all problems are shown at once.
"""

from __future__ import annotations

import os
import shutil

import torch

from ktdn_plugin.basicsr.options import Options
from ktdn_plugin.basicsr.options.checkpoints import check_checkpoints
from ktdn_plugin.basicsr.options.images import check_images


def check_files(opt: Options, is_train: bool) -> list[str]:
    """Checks all data sets and checkpoints of a run."""
    problems = []
    metrics = (opt.get("val") or {}).get("metrics") or {}
    borders = {
        f"val.metrics.{name}.crop_border": metric.get("crop_border", 0)
        for name, metric in metrics.items()
        if isinstance(metric, dict)
    }
    whole = [(key, value) for key, value in borders.items() if isinstance(value, int)]
    border = max(whole, key=lambda pair: pair[1], default=("", 0))
    for phase, dataset in opt["datasets"].items():
        if (dataset["phase"] in ("train", "val")) if is_train else (dataset["phase"] != "train"):
            problems += check_images(dataset, f"datasets.{phase}", border)
    problems += check_checkpoints(opt, is_train)
    return problems + _check_gpus(opt)


def _check_gpus(opt: Options) -> list[str]:
    there = torch.cuda.device_count()
    problems = []
    if opt["num_gpu"] > there:
        problems.append(
            f"num_gpu: {opt['num_gpu']} requested, but torch sees {there} here; use num_gpu: auto "
            "(all there are, or the CPU) or 0 (CPU)"
        )
    train = opt.get("train") or {}
    if opt["num_gpu"] > 1 and not opt["dist"]:
        for key in ("amp", "compile"):
            if train.get(key, "off") not in ("off", False):
                problems.append(
                    f"train.{key}: {opt['num_gpu']} GPUs in one process cannot do it; start one "
                    f"process for each: torchrun --nproc_per_node={opt['num_gpu']} -m ktdn_plugin "
                    "train ... (or set num_gpu: 1)"
                )
    if train.get("compile") and not _has_compiler():
        problems.append(
            "train.compile: torch.compile needs a C++ compiler, and none was found; install "
            "g++ (or set CXX), or remove this key"
        )
    for phase, dataset in opt["datasets"].items():
        if dataset.get("prefetch_mode") == "cuda" and not opt["num_gpu"]:
            problems.append(f"datasets.{phase}.prefetch_mode: cuda needs a GPU; remove this key")
    return problems


def _has_compiler() -> bool:
    names = (os.environ.get("CXX") or "", "g++", "clang++", "c++", "cl")
    return any(name and shutil.which(name) for name in names)
