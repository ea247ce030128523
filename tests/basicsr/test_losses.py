"""Losses that an options file adds, BasicSR's own among them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from helpers import one, teacher_options, write_options
from torchvision.models.vgg import cfgs, make_layers

from ktdn_plugin import cli
from ktdn_plugin.basicsr import register

PERCEPTUAL = {
    "type": "PerceptualLoss",
    "layer_weights": {"relu2_1": 1},
    "vgg_type": "vgg11",
    "perceptual_weight": 0.1,
}


def patch_vgg(monkeypatch: pytest.MonkeyPatch, build) -> None:
    register()
    from basicsr.archs import vgg_arch

    monkeypatch.setattr(vgg_arch, "vgg", SimpleNamespace(vgg11=build))


@pytest.mark.parametrize("style", [0, 1])
def test_basicsrs_perceptual_loss_and_a_loss_of_another_name(
    train, monkeypatch: pytest.MonkeyPatch, style: float
) -> None:
    torch.manual_seed(0)
    layers = make_layers(cfgs["A"])
    patch_vgg(monkeypatch, lambda pretrained: SimpleNamespace(features=layers))
    opt = teacher_options(1)
    opt["train"] |= {
        "perceptual_opt": {**PERCEPTUAL, "style_weight": style},
        "edge_opt": {"type": "CharbonnierLoss", "loss_weight": 0.5},
        "clamp_output": True,
    }
    row = one([row for row in train(opt) if row["kind"] == "train"])
    assert row["l_edge"] > 0
    assert row["l_perceptual"] > 0
    assert {"l_rec", "l_lap"} < set(row)


def test_perceptual_loss_without_its_weights(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(pretrained: bool) -> None:
        raise URLError("no route to host")

    monkeypatch.chdir(pairs)
    patch_vgg(monkeypatch, offline)
    opt = teacher_options(1)
    opt["train"]["perceptual_opt"] = PERCEPTUAL
    assert cli.main(["train", "-opt", str(write_options(pairs, opt))]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    message = one(lines)
    assert "train.perceptual_opt: its weights could not be downloaded" in message
    assert "to experiments/pretrained_models/vgg19-dcbb9e9d.pth" in message
