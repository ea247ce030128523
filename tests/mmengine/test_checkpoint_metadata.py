"""Checkpoints of mmengine's side tell what they are of, and go on loading everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mmengine
import torch
from checkpoint_files import metadata_of_run
from configs import student_config, teacher_config
from helpers import ENCODER, assert_same, teacher_file

from ktdn_plugin import load_network
from ktdn_plugin.checkpoints.convert import convert

WORK = Path("work_dirs/config")
AVERAGE = {"type": "EMAHook", "ema_type": "WeightAverage", "momentum": 0.1}


def described(path: Path) -> dict:
    return torch.load(path, weights_only=True)["meta"]["ktdn"]


def test_a_run(mmengine_run: Callable, pairs: Path) -> None:
    teacher_file(pairs)
    # Beside a teacher of the published head; what both share, 'mid', is as wide.
    network = {"head": "affine", "widths": [48, 32, 53]}
    cfg = student_config(
        model__student={"type": "KTDN", "encoder": ENCODER, **network},
        custom_hooks=[AVERAGE, {"type": "CheckpointLayoutHook"}],
    )
    assert mmengine_run("train", cfg) == 0
    found = described(WORK / "iter_4.pth")
    assert json.loads(json.dumps(found)) == found
    metrics = found.pop("metrics")
    toolbox = f"mmengine {mmengine.__version__}"
    assert found == metadata_of_run(toolbox, "config", "student", **network)
    (scalars,) = WORK.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    measured = [{key: row[key] for key in ("PSNR", "SSIM")} for row in rows if "PSNR" in row]
    figures = dict(zip((2, 4), measured, strict=True))
    # A checkpoint is saved before its own validation, and once more where that is the best.
    last = metrics["last"]["val"]
    assert last["figures"] == figures[last["iteration"]]
    best = max((i for i in figures if i <= last["iteration"]), key=lambda i: figures[i]["PSNR"])
    value = figures[best]["PSNR"]
    assert metrics["best"]["val"] == {"PSNR": {"iteration": best, "value": value}}

    (path,) = WORK.glob("best_PSNR_iter_*.pth")
    found = described(path)
    iteration = int(path.stem.rpartition("_")[2])
    assert found["run"]["iteration"] == iteration
    assert found["metrics"]["best"]["val"]["PSNR"]["iteration"] == iteration
    assert load_network(path).encoder.name == ENCODER


def test_a_resumed_run_tells_the_same(mmengine_run: Callable, pairs: Path) -> None:
    cfg = {"train_cfg__val_interval": 3, "default_hooks__checkpoint__max_keep_ckpts": 10}
    assert mmengine_run("train", teacher_config(train_cfg__max_iters=8, **cfg)) == 0
    whole = {path.name: described(path) for path in WORK.glob("iter_*.pth")}
    WORK.rename("whole")
    assert mmengine_run("train", teacher_config(train_cfg__max_iters=4, **cfg)) == 0
    assert mmengine_run("train", teacher_config(train_cfg__max_iters=8, **cfg), "--resume") == 0
    assert whole["iter_6.pth"]["run"]["stage"] == "teacher"
    for name in ("iter_6.pth", "iter_8.pth"):
        assert_same(described(WORK / name), whole[name])


def test_converted_files_start_and_test_runs(mmengine_run: Callable, pairs: Path) -> None:
    teacher_file(pairs)
    convert("teacher.pth", "converted.pth", "mmengine")
    cfg = teacher_config(load_from="converted.pth", train_cfg__max_iters=1)
    assert mmengine_run("train", cfg) == 0
    assert mmengine_run("test", student_config(), "converted.pth") == 0
    convert(WORK / "iter_1.pth", "back.safetensors")
    assert load_network("back.safetensors").encoder.name == ENCODER
