"""LPIPS and DISTS by torchmetrics, on backbones of random weights: others would be downloaded."""

from __future__ import annotations

import csv
import sys
import urllib.request
from pathlib import Path

import pytest
import torch
from torchvision import models

from ktdn_plugin.photos import read_rgb

BACKBONES = {"lpips": models.AlexNet_Weights, "dists": models.VGG16_Weights}


def file_of(metric: str, home: Path) -> Path:
    return home / "hub" / "checkpoints" / BACKBONES[metric].DEFAULT.url.rsplit("/", 1)[1]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps downloads, with no way out to get any."""
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed (extra 'metrics')")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    return tmp_path / "cache"


def save_backbone(metric: str, home: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        network = {"lpips": models.alexnet, "dists": models.vgg16}[metric]()
    weights = {}
    for name, value in network.state_dict().items():
        if name.startswith("classifier"):  # of no use here, and nearly all of the file
            weights[name] = torch.zeros(1).expand(value.shape)
        else:
            scale = (2 / value[0].numel()) ** 0.5
            weights[name] = torch.randn(value.shape, generator=draw) * scale
    file = file_of(metric, home)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, file)


@pytest.mark.slow
def test_figures_are_torchmetrics(scenes, evaluate, home: Path) -> None:
    for metric in BACKBONES:
        save_backbone(metric, home)
    words = ("--gt", "val/clear", "--metrics", "lpips", "ciede2000", "dists", "--device", "cpu")
    code, out, err = evaluate("ours", "theirs", *words)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split() == ["method", "psnr", "ssim", "ciede2000", "lpips", "dists"]
    assert lines[4] == "lower is better: ciede2000, lpips, dists"
    with Path("evaluation.csv").open(newline="") as file:
        rows = {(row["image"], row["method"]): row for row in csv.DictReader(file)}
    from torchmetrics.functional.image import (
        deep_image_structure_and_texture_similarity,
        learned_perceptual_image_patch_similarity,
    )

    images = read_rgb("theirs/02.png"), scenes["02"]
    x, y = (torch.from_numpy(one.copy()).permute(2, 0, 1)[None] / 255 for one in images)
    with torch.inference_mode():
        lpips = float(learned_perceptual_image_patch_similarity(x, y, normalize=True))
        dists = float(deep_image_structure_and_texture_similarity(x, y))
    assert float(rows["02", "theirs"]["lpips"]) == pytest.approx(lpips, abs=1e-5)
    assert float(rows["02", "theirs"]["dists"]) == pytest.approx(dists, abs=1e-5)
    for metric in BACKBONES:  # more noise is farther away
        for name in scenes:
            assert float(rows[name, "theirs"][metric]) > float(rows[name, "ours"][metric]) > 0
    text = Path("evaluation.md").read_text(encoding="utf-8")
    assert "- `lpips`: torchmetrics, AlexNet, version 0.1, RGB, full resolution" in text


@pytest.mark.parametrize("metric", ["lpips", "dists"])
def test_weights_that_cannot_be_downloaded(scenes, evaluate, home: Path, metric: str) -> None:
    code, out, err = evaluate("ours", "--gt", "val", "--metrics", metric)
    assert (code, out) == (1, "")
    line = err.splitlines()[-1]
    assert line.startswith(f"error: --metrics {metric}: its weights cannot be downloaded (")
    url = BACKBONES[metric].DEFAULT.url
    assert f"; fetch {url} elsewhere and put it at {file_of(metric, home)}, or remove" in line


def test_weights_that_are_broken(scenes, evaluate, home: Path) -> None:
    file = file_of("lpips", home)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"cut off")
    code, out, err = evaluate("ours", "--gt", "val", "--metrics", "lpips")
    assert (code, out) == (1, "")
    assert f"--metrics lpips: {file} cannot be used (" in err.splitlines()[-1]


def test_torchmetrics_is_not_there(scenes, evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    code, out, err = evaluate("ours", "--gt", "val", "--metrics", "dists")
    assert (code, out) == (1, "")
    assert err == (
        "error: --metrics dists: torchmetrics is not installed: pip install torchmetrics\n"
    )
