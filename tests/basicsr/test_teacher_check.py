"""A teacher that does not reconstruct is found out before it teaches."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import student_of_a_saved_teacher, write_options

from ktdn_plugin import KTDN, cli, load_weights
from ktdn_plugin.metrics import measure
from ktdn_plugin.photos import read_rgb


def reconstruction(pairs: Path) -> float:
    network = KTDN("test_convnext").eval()
    load_weights(network, pairs / "teacher.pth")
    values = []
    for path in sorted((pairs / "val/clear").iterdir()):
        clear = read_rgb(path)
        tensor = torch.from_numpy(clear).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            image = network(tensor).clamp(0, 1).mul(255).round()[0].permute(1, 2, 0)
        values.append(measure(image.numpy().astype(np.uint8), clear).psnr)
    return float(np.mean(values))


def test_its_reconstruction_is_measured(pairs: Path, train) -> None:
    opt = student_of_a_saved_teacher(pairs)
    rows = train(opt)
    assert rows[0] == {
        "kind": "teacher",
        "iter": 0,
        "set": "val",
        "split": "",
        "fingerprint": "",
        "psnr": pytest.approx(reconstruction(pairs), abs=0.01),
    }
    # A run that goes on does not measure it again.
    rows = train(opt, "--auto_resume", "--force_yml", "train:total_iter=6")
    assert [row["kind"] for row in rows].count("teacher") == 1


def test_below_the_threshold_nothing_is_trained(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opt = student_of_a_saved_teacher(pairs)
    found = reconstruction(pairs)
    opt["train"]["teacher_min_psnr"] = round(found + 1, 2)
    monkeypatch.chdir(pairs)
    assert cli.main(["train", "-opt", str(write_options(pairs, opt))]) == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert not (pairs / "experiments").exists()
    assert "this teacher reconstructs poorly: " in line
    said = float(re.search(r"(\S+) dB on val", line).group(1))
    assert said == pytest.approx(found, abs=0.02)
    assert "train.teacher_min_psnr" in line


def test_a_good_teacher_passes(pairs: Path, train) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["train"]["teacher_min_psnr"] = 0.5
    assert train(opt)[0]["kind"] == "teacher"


def test_a_threshold_needs_something_to_measure(pairs: Path, fails) -> None:
    opt = student_of_a_saved_teacher(pairs)
    opt["train"]["teacher_min_psnr"] = 20
    del opt["datasets"]["val"]
    (line,) = fails(opt)
    assert "train.teacher_min_psnr: there is no validation set with clear images" in line
