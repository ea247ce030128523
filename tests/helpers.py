"""What the tests share: tiny images, and options for tiny runs on them."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
import yaml

from ktdn_plugin import KTDN
from ktdn_plugin.scenes.opening import open_scenes

ENCODER = "test_convnext"

FRESH = ("-m", "ktdn_plugin")
"""The program as a person starts it."""


in_one_and_two = pytest.mark.parametrize("fails", [1, 2], ids=["one", "two"], indirect=True)
"""Runs what must fail in one process, and in two that form a job: for each stage of the checks."""


def write_png(path: Path, seed: int, size: tuple[int, int] = (64, 80)) -> None:
    """Writes a smooth random picture (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.RandomState(seed).randint(0, 256, (6, 8, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))


def make_lmdbs(root: Path, place: Path) -> None:
    """Makes LMDBs of a folder's images by BasicSR's own tool: ``hazy.lmdb``, ``clear.lmdb``."""
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    pairs = open_scenes(root).aligned()
    names = [pairs.name_of(number) for number in range(len(pairs.clear))]
    keys = [re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in names]
    place.mkdir(parents=True)
    for side in ("hazy", "clear"):
        if files := [str(path) for path in pairs.files(side)]:
            target = str(place / f"{side}.lmdb")
            make_lmdb_from_imgs("", target, files, keys, map_size=2**26)


def teacher_options(iterations: int = 4) -> dict:
    """Options of a tiny teacher's training on the ``pairs`` fixture."""
    return {
        "name": "teacher",
        "model_type": "KTDNTeacherModel",
        "scale": 1,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {
            "train": {
                "type": "ClearImageDataset",
                "dataroot_gt": "train/clear",
                "gt_size": 48,
                "num_worker_per_gpu": 0,
                "batch_size_per_gpu": 2,
            },
            "val": {"type": "ClearImageDataset", "dataroot_gt": "val/clear"},
        },
        "network_g": {"type": "KTDN", "encoder": ENCODER},
        "path": {},
        "train": {
            "total_iter": iterations,
            "ema_decay": 0.9,
            "optim_g": {"type": "Adam", "lr": 0.001},
            "scheduler": {"type": "CosineAnnealingRestartLR", "periods": [max(iterations, 100)]},
            "pixel_opt": {"type": "L1Loss"},
            "laplacian_opt": {"type": "LaplacianLoss", "loss_weight": 0.3, "levels": 3},
        },
        "val": {
            "val_freq": 2,
            "save_img": False,
            "metrics": {
                "psnr": {"type": "calculate_psnr", "crop_border": 0},
                "ssim": {"type": "calculate_ssim", "crop_border": 0},
            },
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2},
    }


def student_options(iterations: int = 4) -> dict:
    """Options of a tiny student's training, with the teacher that ``teacher_options`` trains."""
    opt = teacher_options(iterations)
    opt["name"] = "student"
    opt["model_type"] = "KTDNModel"
    for phase in ("train", "val"):
        opt["datasets"][phase] |= {
            "type": "PairedImageDataset",
            "dataroot_lq": f"{phase}/hazy",
        }
    opt["network_t"] = {"type": "KTDN", "encoder": ENCODER}
    opt["path"] = {"pretrain_network_t": "experiments/teacher/models/net_g_latest.pth"}
    opt["train"]["transfer_opt"] = {"type": "KnowledgeTransferLoss", "loss_weight": 1.0}
    return opt


def evaluation_options(checkpoint: str | Path) -> dict:
    """Options of a test run on the ``pairs`` fixture's validation pairs."""
    opt = student_options()
    return {
        "name": "evaluation",
        "model_type": "KTDNModel",
        "num_gpu": 0,
        "datasets": {"test": {"name": "pairs", **opt["datasets"]["val"]}},
        "network_g": opt["network_g"],
        "path": {"pretrain_network_g": str(checkpoint)},
        "val": {**opt["val"], "save_img": True},
    }


def write_options(folder: Path, opt: dict, name: str | None = None) -> Path:
    """Writes an options file, by default named after the run."""
    path = folder / (name or f"{opt['name']}.yml")
    path.write_text(yaml.safe_dump(opt, sort_keys=False))
    return path


def log_of(folder: Path, name: str, kind: str = "train") -> str:
    base = "experiments" if kind == "train" else "results"
    return "".join(p.read_text() for p in sorted((folder / base / name).glob(f"{kind}_*.log")))


def losses_of(text: str, name: str) -> list[float]:
    return [float(value) for value in re.findall(rf"\b{name}: (\S+)", text)]


SPEED = ("seconds", "images_per_second", "data_share", "memory_gib")


def records_of(folder: Path, name: str) -> list[dict]:
    """Gives what a run recorded, without what no two runs have in common."""
    lines = (folder / "experiments" / name / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: value for key, value in row.items() if key not in SPEED} for row in rows]


def launch_of(processes: int, *flags: str) -> tuple[str, ...]:
    """The words that start the command line in several processes."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    return (*torchrun, *flags, "-m", "ktdn_plugin")


def assert_same(one: object, other: object, where: str = "") -> None:
    """Compares checkpoints' contents bit by bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{index}]")
    else:
        assert one == other, where


def models(folder: Path, name: str) -> Path:
    return folder / "experiments" / name / "models"


def teacher_file(folder: Path, encoder: str = "test_convnext") -> Path:
    path = folder / "teacher.pth"
    torch.save({"params": KTDN(encoder).state_dict()}, path)
    return path


def one(lines: list[str]) -> str:
    assert len(lines) == 1, lines
    return lines[0]


def student_of_a_saved_teacher(pairs: Path) -> dict:
    opt = student_options()
    opt["path"]["pretrain_network_t"] = str(teacher_file(pairs))
    return opt


def load_fuzzer(name: str) -> ModuleType:
    """Gives a module of ``tests/fuzz``, which is no package."""
    folder = Path(__file__).parent / "fuzz"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f"fuzz_{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module
