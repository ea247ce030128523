"""Both toolboxes run the same core: equal steps, and checkpoints that either side takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from configs import log_of, student_config, teacher_config
from helpers import (
    ENCODER,
    evaluation_options,
    models,
    records_of,
    student_options,
    teacher_file,
    teacher_options,
    write_options,
)

from ktdn_plugin import KTDN, cli, load_weights
from ktdn_plugin.checkpoints import Checkpoint

pytestmark = pytest.mark.slow

AVERAGE = {"type": "EMAHook", "ema_type": "WeightAverage", "momentum": 0.1}
SSIM = {"type": "SSIMLoss", "loss_weight": 0.3}
LAB = {"type": "LabLoss", "loss_weight": 0.5}
SAMPLES = {
    "paired": {"type": "PairedHazeDataset"},
    "synthetic": {
        "type": "SyntheticHazeDataset",
        "use_scale": [0.8, 1.0],
        "degradation": {"kinds": {"clouds": 0.5, "depth": 0.5}, "jpeg": {"share": 0.5}},
    },
}


def student_file(folder: Path, network: dict | None = None, seed: int = 5) -> Path:
    torch.manual_seed(seed)
    path = folder / "student.pth"
    torch.save({"params": KTDN(ENCODER, **network or {}).state_dict()}, path)
    return path


def five_basicsr_steps(
    folder: Path, dataset: dict, batch: int, workers: int, network: dict
) -> list[dict]:
    opt = student_options(5)
    opt["network_g"] = {**opt["network_g"], **network}
    train = opt["datasets"]["train"]
    train |= {**dataset, "batch_size_per_gpu": batch, "num_worker_per_gpu": workers}
    if dataset["type"] == "SyntheticHazeDataset":
        del train["dataroot_lq"]
    opt["train"] |= {"ssim_opt": SSIM, "lab_opt": LAB, "clamp_output": True}
    opt["datasets"]["val"]["type"] = "PairedHazeDataset"
    opt["path"] = {"pretrain_network_t": "teacher.pth", "pretrain_network_g": "student.pth"}
    opt["logger"]["save_checkpoint_freq"] = 5
    opt["val"]["val_freq"] = 5
    assert cli.main(["train", "-opt", str(write_options(folder, opt))]) == 0
    return [row for row in records_of(folder, "student") if row["kind"] in ("train", "val")]


def five_mmengine_steps(
    run: Callable, folder: Path, dataset: dict, batch: int, workers: int, network: dict
) -> list[dict]:
    cfg = student_config(
        load_from="student.pth",
        train_cfg__max_iters=5,
        train_cfg__val_interval=5,
        train_dataloader__batch_size=batch,
        train_dataloader__num_workers=workers,
        default_hooks__checkpoint__interval=5,
        param_scheduler__eta_min=0,
        custom_hooks=[AVERAGE, {"type": "CheckpointLayoutHook"}],
    )
    cfg["train_dataloader"]["dataset"] |= dataset
    cfg["model"]["student"] = {**cfg["model"]["student"], **network}
    cfg["model"] |= {"ssim_loss": SSIM, "lab_loss": LAB, "clamp_output": True}
    if dataset["type"] == "SyntheticHazeDataset":
        del cfg["train_dataloader"]["dataset"]["dataroot_lq"]
    assert run("train", cfg) == 0
    (scalars,) = (folder / "work_dirs/config").glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in scalars.read_text().splitlines()]


@pytest.mark.parametrize(
    ("samples", "batch", "workers", "network"),
    [
        ("paired", 2, 0, {}),
        ("synthetic", 3, 1, {}),
        ("paired", 2, 0, {"head": "affine", "widths": [48, 32, 53]}),
    ],
    ids=["paired", "synthetic", "affine"],
)
def test_five_student_steps_are_the_same(
    mmengine_run: Callable, pairs: Path, samples: str, batch: int, workers: int, network: dict
) -> None:
    # Adam makes a whole step of a gradient that is nearly zero, and so of a rounding error: with
    # weights that nobody chose, that happens now and then.
    torch.manual_seed(0)
    teacher_file(pairs)
    student_file(pairs, network)
    theirs = five_basicsr_steps(pairs, SAMPLES[samples], batch, workers, network)
    ours = five_mmengine_steps(mmengine_run, pairs, SAMPLES[samples], batch, workers, network)
    assert len(theirs) == len(ours) == 6
    for one, other in zip(theirs[:5], ours[:5], strict=True):
        assert other["lr"] == pytest.approx(one["lr"][0], abs=1e-12)
        for name in ("rec", "lap", "ssim", "lab", "kt"):
            assert other[f"loss_{name}"] == pytest.approx(one[f"l_{name}"], abs=1e-6)
    assert ours[5]["PSNR"] == pytest.approx(theirs[5]["psnr"], abs=1e-6)
    assert ours[5]["SSIM"] == pytest.approx(theirs[5]["ssim"], abs=1e-6)
    before = KTDN(ENCODER, **network)
    load_weights(before, pairs / "student.pth")
    for key in ("params", "params_ema"):
        one = Checkpoint.read(models(pairs, "student") / "net_g_5.pth").select(key)
        other = Checkpoint.read(pairs / "work_dirs/config/iter_5.pth").select(key)
        assert list(one) == list(other)
        for name, value in one.items():
            assert torch.allclose(value, other[name], rtol=0, atol=1e-6), name
        moved = max(
            float((value - one[name]).abs().max())
            for name, value in before.state_dict().items()
            if value.is_floating_point()
        )
        assert moved > 1e-4  # or it would be no wonder


def test_basicsr_resumes_from_mmengines_checkpoints(mmengine_run: Callable, pairs: Path) -> None:
    cfg = teacher_config(custom_hooks=[AVERAGE, {"type": "CheckpointLayoutHook"}])
    assert mmengine_run("train", cfg) == 0
    saved = pairs / "work_dirs/config/iter_4.pth"
    measured = json.loads(
        next(saved.parent.glob("*/vis_data/scalars.json")).read_text().splitlines()[-1]
    )
    # As the teacher, and as what the student starts from.
    opt = student_options(2)
    opt["path"] = {"pretrain_network_t": str(saved), "pretrain_network_g": str(saved)}
    assert cli.main(["train", "-opt", str(write_options(pairs, opt))]) == 0
    (teacher,) = (row for row in records_of(pairs, "student") if row["kind"] == "teacher")
    assert teacher["psnr"] == pytest.approx(measured["PSNR"], abs=1e-6)  # the average's
    # And to be tested.
    assert cli.main(["test", "-opt", str(write_options(pairs, evaluation_options(saved)))]) == 0


def test_mmengine_resumes_from_basicsrs_checkpoints(mmengine_run: Callable, pairs: Path) -> None:
    assert cli.main(["train", "-opt", str(write_options(pairs, teacher_options()))]) == 0
    saved = models(pairs, "teacher") / "net_g_4.pth"
    (*_, last) = (row for row in records_of(pairs, "teacher") if row["kind"] == "val")
    cfg = student_config(model__teacher_checkpoint=str(saved), load_from=str(saved))
    cfg["custom_hooks"].append({"type": "TeacherCheckHook"})
    assert mmengine_run("train", cfg) == 0
    assert f"reconstructs the validation set at {last['psnr']:.2f} dB" in log_of(pairs)
    # The very figures of BasicSR's side, of the file that it has saved.
    assert mmengine_run("test", teacher_config(), saved, "--work-dir", "tested") == 0
    (figures,) = Path("tested").glob("*/*.json")
    found = json.loads(figures.read_text())
    assert found["PSNR"] == pytest.approx(last["psnr"], abs=1e-9)
    assert found["SSIM"] == pytest.approx(last["ssim"], abs=1e-9)


@pytest.mark.parametrize("key", ["params", "params_ema", None])
def test_a_network_takes_either_sides_file(mmengine_run: Callable, pairs: Path, key: str) -> None:
    teacher_file(pairs)
    cfg = student_config(custom_hooks=[AVERAGE, {"type": "CheckpointLayoutHook"}])
    assert mmengine_run("train", cfg) == 0
    saved = pairs / "work_dirs/config/iter_4.pth"
    network = KTDN(ENCODER)
    load_weights(network, saved, key)
    content = torch.load(saved, weights_only=True)
    weights = content["state_dict"]  # the average
    if key == "params":
        weights = {k.removeprefix("module."): v for k, v in content["ema_state_dict"].items()}
    assert all(torch.equal(v, weights[f"student.{k}"]) for k, v in network.state_dict().items())
    averaged = Checkpoint.read(saved).select("params_ema")
    trained = Checkpoint.read(saved).select("params")
    assert any(not torch.equal(averaged[k], trained[k]) for k in averaged)
    # Neither the teacher nor anything else is in it.
    assert {name.split(".")[0] for name in content["state_dict"]} == {"student"}
