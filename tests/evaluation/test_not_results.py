"""Images among the results that no method has made: ground truth, and sheets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ENCODER

from ktdn_plugin import KTDN
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.evaluation.methods import open_baselines
from ktdn_plugin.evaluation.output import Saving
from ktdn_plugin.metrics import psnr
from ktdn_plugin.photos import read_rgb, write_rgb
from ktdn_plugin.scenes.opening import open_scenes


def test_ground_truth_among_results(scenes, evaluate) -> None:
    for path in Path("val/clear").iterdir():
        shutil.copy(path, "theirs")
    code, out, err = evaluate("theirs", "--gt", "val/clear")
    assert (code, out) == (1, "")
    assert err == (
        f"error: theirs: {Path('theirs/01_GT.png')} is a copy of the ground truth "
        f"{Path('val/clear/01_GT.png')}, and {Path('theirs/01.png')} lies beside it; keep only "
        "results there\n"
    )
    assert not Path("evaluation.csv").exists()
    # A result of the ground truth's name is taken all the same.
    write_rgb(Path("theirs/01_GT.png"), read_rgb("theirs/01.png"))
    for number in (2, 3):
        Path(f"theirs/0{number}.png").replace(f"theirs/0{number}_GT.png")
    assert evaluate("theirs", "--gt", "val/clear")[0] == 0


def test_the_ground_truth_itself(scenes, evaluate) -> None:
    for words in (("val/clear", "--gt", "val"), ("val/clear", "--gt", "val/clear")):
        code, _, err = evaluate(*words)
        assert code == 1
        assert f"{Path('val/clear/01_GT.png')} is the ground truth itself" in err
    Path("linked").mkdir()
    for path in Path("val/clear").iterdir():
        os.link(path, Path("linked", path.name))
    assert "linked/01_GT.png is the ground truth itself" in evaluate("linked", "--gt", "val")[2]


def test_comparison_sheets_are_left_out(scenes, evaluate) -> None:
    for name in scenes:
        write_rgb(Path(f"theirs/{name}_compare.png"), np.zeros((70, 200, 3), np.uint8))
    Path("theirs/metrics.csv").write_text("split,image\n")
    code, out, err = evaluate("theirs", "--gt", "val/clear")
    assert (code, err) == (0, "")
    mean = np.mean([psnr(read_rgb(f"theirs/{name}.png"), scenes[name]) for name in scenes])
    assert out.splitlines()[2].split()[:2] == ["theirs", f"{mean:.2f}"]


def test_an_invalid_device_without_a_checkpoint(scenes, evaluate) -> None:
    code, _, err = evaluate("ours", "--gt", "val", "--device", "nonsense")
    assert (code, err.startswith("error: device 'nonsense' is not one of")) == (1, True)


def test_too_little_memory_names_each_photo_once(scenes, evaluate) -> None:
    torch.save({"params": KTDN(ENCODER).state_dict()}, "net.pth")
    words = ("--checkpoint", "net.pth", "--encoder", ENCODER, "--device", "cpu")
    code, _, err = evaluate("ours", "--gt", "val", *words, "--max-memory", "2MB")
    assert code == 1
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    for name, line in zip(scenes, errors, strict=True):
        assert line.startswith(f"error: net: {Path(f'val/hazy/{name}_hazy.png')}: ")
        assert "do not fit" in line


def test_saved_images_stay_in_their_folder(scenes, evaluate) -> None:
    truth = open_scenes("val").aligned()
    methods = open_baselines(truth.hazy, ["dcp"])
    for name in ("../x", "/x", "a/../../x"):
        titles = ["01", name, "03"]
        with pytest.raises(KTDNError, match="would be written outside the folder"):
            Saving(Path("saved"), methods, truth, titles)
