"""Checkpoints and training states that were written before still load and resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from ktdn_plugin import cli, load_network

KEPT = Path(__file__).parent


@pytest.mark.parametrize(
    ("file", "head", "mean", "std"),
    [
        ("teacher_net_g_4.pth", "tanh", 0.0938247, 0.0406225),
        ("mmengine_student_iter_4.pth", "affine", 0.5028647, 0.2888298),
        ("student.safetensors", "affine", 0.5029500, 0.2889124),
    ],
)
@torch.no_grad()
def test_networks(file: str, head: str, mean: float, std: float) -> None:
    network = load_network(KEPT / file).eval()
    assert (network.encoder.name, network.head) == ("test_efficientnet", head)
    made = network(torch.linspace(0, 1, 3 * 48 * 64).reshape(1, 3, 48, 64))
    assert float(made.mean()) == pytest.approx(mean, abs=1e-5)
    assert float(made.std()) == pytest.approx(std, abs=1e-5)


@pytest.fixture
def here(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(pairs)
    models = pairs / "experiments/teacher/models"
    models.mkdir(parents=True)
    for name in ("net_g_4.pth", "net_g_latest.pth"):
        shutil.copy(KEPT / "teacher_net_g_4.pth", models / name)
    return pairs


def test_basicsrs_training_resumes(here: Path) -> None:
    states = here / "experiments/teacher/training_states"
    states.mkdir()
    shutil.copy(KEPT / "teacher_4.state", states / "4.state")
    text = (KEPT / "teacher.yml").read_text().replace("total_iter: 4", "total_iter: 6")
    Path("teacher.yml").write_text(text)
    assert cli.main(["train", "-opt", "teacher.yml", "--auto_resume"]) == 0
    lines = Path("experiments/teacher/metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    assert [row["iter"] for row in rows] == [5, 6]
    # As the version that wrote it went on.
    assert [row["l_rec"] for row in rows] == pytest.approx([0.3280605, 0.2728098], abs=1e-4)
    assert [row["l_lap"] for row in rows] == pytest.approx([0.0118757, 0.0111149], abs=1e-5)


def test_mmengines_training_resumes(here: Path) -> None:
    work = here / "work_dirs/student"
    work.mkdir(parents=True)
    shutil.copy(KEPT / "mmengine_student_iter_4.pth", work / "iter_4.pth")
    (work / "last_checkpoint").write_text(str(work / "iter_4.pth"))
    shutil.copy(KEPT / "student.py", "student.py")
    words = ["mmengine", "train", "student.py", "--resume"]
    assert cli.main([*words, "--cfg-options", "train_cfg.max_iters=6"]) == 0
    (log,) = work.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows = [row for row in rows if "loss_rec" in row]
    assert [row["iter"] for row in rows] == [5, 6]
    assert [row["loss_rec"] for row in rows] == pytest.approx([0.2425231, 0.2867245], abs=1e-4)
    assert [row["loss_kt"] for row in rows] == pytest.approx([0.4338990, 0.4611071], abs=1e-4)
