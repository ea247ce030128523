"""Configs for tiny runs of mmengine's on the ``pairs`` fixture."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from helpers import ENCODER
from mmengine.config import Config

from ktdn_plugin import cli

Edit = Callable[[dict], object]
_RUNS = count()
REMOVED = object()
"""A value that takes its key out of a config."""


def set_in(path: str, value: object) -> Edit:
    """Gives what changes a config: sections and places in lists are parted by dots."""

    def edit(cfg: dict) -> None:
        *sections, last = (int(key) if key.isdigit() else key for key in path.split("."))
        node: Any = cfg
        for section in sections:
            node = node[section]
        if value is REMOVED:
            del node[last]
        else:
            node[last] = value

    return edit


def teacher_config(**changes: object) -> dict:
    """Gives the config of a tiny teacher's training.

    Args:
        **changes: Values by their place in the config, ``__`` for a dot:
            ``train_cfg__max_iters=8``; ``REMOVED`` takes a key out.
    """
    loader = {
        "batch_size": 1,
        "num_workers": 0,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {"type": "ClearImageDataset", "dataroot_gt": "val/clear", "split": "tiny-val"},
    }
    measured = [{"type": "PSNR"}, {"type": "SSIM"}]
    cfg = {
        "default_scope": "ktdn_plugin",
        "model": {
            "type": "KTDNTeacher",
            "generator": {"type": "KTDN", "encoder": ENCODER},
            "pixel_loss": {"type": "PixelLoss"},
            "laplacian_loss": {"type": "LaplacianLoss", "loss_weight": 0.3, "levels": 3},
        },
        "train_dataloader": {
            "batch_size": 2,
            "num_workers": 0,
            "sampler": {"type": "SeededSampler"},
            "dataset": {
                "type": "ClearImageDataset",
                "dataroot_gt": "train/clear",
                "gt_size": 48,
            },
        },
        "val_dataloader": loader,
        "test_dataloader": _copy(loader),
        "val_evaluator": measured,
        "test_evaluator": _copy(measured),
        "train_cfg": {"type": "SeededTrainLoop", "max_iters": 4, "val_interval": 2},
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "Adam", "lr": 0.001}},
        "param_scheduler": {
            "type": "CosineAnnealingLR",
            "T_max": 100,
            "eta_min": 1e-6,
            "by_epoch": False,
            "end": 100,
        },
        "default_hooks": {
            "timer": {"type": "IterTimerHook"},
            "logger": {"type": "LoggerHook", "interval": 1},
            "param_scheduler": {"type": "ParamSchedulerHook"},
            "checkpoint": {
                "type": "CheckpointHook",
                "interval": 2,
                "by_epoch": False,
                "max_keep_ckpts": 3,
                "save_best": "PSNR",
                "rule": "greater",
                "backend_args": {"backend": "ktdn_whole_files"},
            },
            "sampler_seed": {"type": "DistSamplerSeedHook"},
        },
        "custom_hooks": [
            {"type": "EMAHook", "ema_type": "ExponentialMovingAverage", "momentum": 0.1},
            {"type": "CheckpointLayoutHook"},
            {"type": "DehazingVisualizationHook", "images": 1},
        ],
        "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}]},
        "log_processor": {"type": "LogProcessor", "by_epoch": False, "window_size": 1},
        "env_cfg": {"mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
        "randomness": {"seed": 0},
    }
    return _changed(cfg, changes)


def student_config(**changes: object) -> dict:
    """Gives the config of a tiny student's training.

    Its teacher is what ``helpers.teacher_file`` saves, or what ``teacher_config`` has trained where
    ``model__teacher_checkpoint`` says so.

    Args:
        **changes: As for :func:`teacher_config`.
    """
    cfg = teacher_config()
    losses = {name: cfg["model"][name] for name in ("pixel_loss", "laplacian_loss")}
    cfg["model"] = {
        "type": "KTDNDistiller",
        "student": {"type": "KTDN", "encoder": ENCODER},
        "teacher": {"type": "KTDN", "encoder": ENCODER},
        "teacher_checkpoint": "teacher.pth",
        "transfer_loss": {"type": "KnowledgeTransferLoss", "features": {"mid": 1.0}},
        **losses,
    }
    for phase in ("train", "val", "test"):
        folder = "train" if phase == "train" else "val"
        cfg[f"{phase}_dataloader"]["dataset"] |= {
            "type": "PairedHazeDataset",
            "dataroot_lq": f"{folder}/hazy",
        }
    return _changed(cfg, changes)


def write_config(folder: Path, cfg: dict, name: str = "config.py") -> Path:
    """Writes a config as a Python file, whose name names the work directory."""
    path = folder / name
    # Not by Config.dump, which formats for a third of a second.
    lines = (f"{key} = {value!r}\n" for key, value in cfg.items())
    path.write_text("".join(lines), encoding="utf-8")
    return path


def run_stage(folder: Path, stage: str, cfg: dict, *flags: object) -> int:
    """Runs ``ktdn mmengine STAGE`` in this process and in this folder; gives its exit code.

    The run writes to ``work_dirs/config``.
    """
    # Of two runs in one second mmengine would take the first one's log and pictures for both.
    path = write_config(folder, {"experiment_name": f"run_{next(_RUNS)}", **cfg})
    before = Path.cwd()
    os.chdir(folder)
    try:
        return cli.main(["mmengine", stage, str(path), *map(str, flags)])
    finally:
        os.chdir(before)


def log_of(folder: Path, name: str = "config") -> str:
    """Gives the text of all logs of a run."""
    logs = sorted((folder / "work_dirs" / name).glob("*/*.log"))
    return "".join(log.read_text() for log in logs)


def _copy(section: Any) -> Any:
    return Config({"section": section}).to_dict()["section"]


def _changed(cfg: dict, changes: dict[str, object]) -> dict:
    for place, value in changes.items():
        set_in(place.replace("__", "."), value)(cfg)
    return cfg
