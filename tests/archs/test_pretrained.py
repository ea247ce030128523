"""Pretrained encoder weights: exactly those asked for, or an error; never random ones."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

import ktdn_plugin
from ktdn_plugin import KTDN, Encoder, KTDNError

# How timm's feature networks rename what they flatten, by backbone.
RENAMED = {
    "test_resnet": {},
    "test_efficientnet": {},
    "test_convnext": {"stem_": "stem.", "stages_": "stages."},
    "edgenext_xx_small": {"stem_": "stem.", "stages_": "stages."},
}


def timm_weights(name: str) -> dict[str, Tensor]:
    """A classifier's weights, none of them what a fresh network has."""
    stream = torch.Generator().manual_seed(0)
    return {
        key: torch.rand(value.shape, generator=stream).to(value.dtype)
        for key, value in timm.create_model(name).state_dict().items()
    }


def save(weights: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", list(RENAMED))
def test_local_file(name: str, suffix: str, tmp_path: Path) -> None:
    weights = timm_weights(name)
    file = save(weights, tmp_path / f"model{suffix}")
    for pretrained in (file, str(file)):
        body = KTDN(name, pretrained=pretrained).encoder.body.state_dict()
        assert body
        for key, value in body.items():
            for flat, nested in RENAMED[name].items():
                key = key.replace(flat, nested)
            assert torch.equal(value, weights[key]), key


def test_local_file_of_a_training_run(tmp_path: Path) -> None:
    weights = timm_weights("test_resnet")
    content = {
        "epoch": 3,
        "arch": "test_resnet",
        "state_dict": {f"module.{key}": value for key, value in weights.items()},
    }
    torch.save(content, tmp_path / "last.pth.tar")
    body = Encoder("test_resnet", tmp_path / "last.pth.tar").body.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in body.items())


def test_shallow_encoder_from_a_whole_file(tmp_path: Path) -> None:
    weights = timm_weights("test_convnext")
    file = save(weights, tmp_path / "model.safetensors")
    body = Encoder("test_convnext", file, stages=1).body.state_dict()
    assert torch.equal(body["stem_0.weight"], weights["stem.0.weight"])
    assert not [key for key in body if key.startswith("stages_1")]


@pytest.mark.parametrize("other", ["test_efficientnet", "resnet18"])
def test_file_of_another_backbone(other: str, tmp_path: Path) -> None:
    file = save(timm_weights(other), tmp_path / "other.safetensors")
    with pytest.raises(
        KTDNError, match=r"other\.safetensors does not contain the weights"
    ) as caught:
        Encoder("test_resnet", pretrained=file)
    message = str(caught.value)
    assert "\n" not in message
    assert "'test_resnet'" in message
    assert "such as" in message


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(KTDNError, match=rf"{name}: no such checkpoint file"):
        Encoder("test_resnet", pretrained=tmp_path / name)


def test_empty_path_is_no_wish_for_random_weights() -> None:
    with pytest.raises(KTDNError, match="no such checkpoint file"):
        Encoder("test_resnet", pretrained="")


def test_true_takes_timm_s_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    create_model = timm.create_model

    def downloads(name: str, pretrained: bool = False, **options: object) -> torch.nn.Module:
        model = create_model(name, **options)
        if pretrained:
            for parameter in model.parameters():
                torch.nn.init.constant_(parameter, 0.125)
        return model

    monkeypatch.setattr(timm, "create_model", downloads)
    fetched = KTDN("test_resnet", pretrained=True).encoder.parameters()
    assert all(p.eq(0.125).all() for p in fetched)
    fresh = KTDN("test_resnet", pretrained=False).encoder.parameters()
    assert not all(p.eq(0.125).all() for p in fresh)


def test_weights_without_published_files() -> None:
    hub_log = logging.getLogger("huggingface_hub")
    before = hub_log.level
    with pytest.raises(KTDNError, match="'resnetblur18': timm publishes no weights for it"):
        Encoder("resnetblur18", pretrained=True)
    assert hub_log.level == before  # which was raised for the client's own warnings


OFFLINE = """
from ktdn_plugin import KTDN, KTDNError
for name in ("test_resnet", "test_convnext"):
    try:
        KTDN(name, pretrained=True)
        print("loaded something")
    except KTDNError as error:
        print(error)
"""


@pytest.mark.slow
def test_without_access_it_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        cwd=Path(ktdn_plugin.__file__).parents[1],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = done.stdout.splitlines()
    for line, name in zip(lines, ("test_resnet", "test_convnext"), strict=True):
        assert line.startswith(f"encoder '{name}': its ImageNet weights cannot be downloaded (")
        assert f"fetch model.safetensors of 'timm/{name}.r160_in1k'" in line
        assert line.endswith("pretrained: /path/to/model.safetensors")
