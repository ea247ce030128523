"""Encoders from timm: which are taken, which are refused, and that none has idle weights."""

from __future__ import annotations

import pytest
import torch
from timm.models import FeatureInfo
from torch import nn

from ktdn_plugin import KTDN, Encoder, KTDNError
from ktdn_plugin.archs import encoder

BACKBONES = (
    "test_resnet",
    "test_convnext",
    "test_efficientnet",
    "resnet18",
    "mobilenetv3_small_050",
    "swin_tiny_patch4_window7_224",  # features in NHWC
    "edgenext_xx_small",
    "efficientformer_l1",
)


@pytest.mark.parametrize("name", BACKBONES)
def test_odd_size_and_a_gradient_for_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = KTDN(name)
    assert all(module.training for module in network.modules())
    x = torch.rand(2, 3, 33, 41)
    output, features = network(x, return_features=True)
    assert output.shape == x.shape
    assert output.isfinite().all()
    widths = tuple(features[f"stage{k}"].shape[1] for k in (1, 2, 3))
    assert widths == network.encoder.channels
    output.square().mean().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        assert network.eval()(x).isfinite().all()


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_features_are_nchw_at_strides_4_8_16(name: str) -> None:
    encoder = Encoder(name).eval()
    x = torch.rand(1, 3, 48, 80)
    features = encoder(x)
    assert [tuple(f.shape) for f in features] == [
        (1, c, 48 // s, 80 // s) for c, s in zip(encoder.channels, (4, 8, 16), strict=True)
    ]
    for stages in (1, 2):
        cut = encoder.cut(stages)
        assert cut.channels == encoder.channels[:stages]
        assert sum(p.numel() for p in cut.parameters()) < sum(
            p.numel() for p in encoder.parameters()
        )
        for ours, whole in zip(cut(x), features[:stages], strict=True):
            assert torch.equal(ours, whole)
    assert encoder.cut(3) is encoder


@pytest.mark.parametrize("stages", [0, 4, -1])
def test_number_of_stages(stages: int) -> None:
    with pytest.raises(ValueError, match="stages must be 1, 2 or 3"):
        Encoder("test_resnet", stages=stages)


def test_looking_at_a_backbone_draws_no_random_numbers() -> None:
    # Written with its tag, this backbone has not been looked at by another test yet.
    name = "test_resnet.r160_in1k"
    weights = []
    for _ in range(2):
        torch.manual_seed(7)
        weights.append(Encoder(name).state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_stride_that_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureInfo, "reduction", lambda self, idx=None: [4, 8, 16, 16])
    with pytest.raises(KTDNError, match=r"features at strides \[4, 8, 16, 16\]; KTDN needs 4"):
        encoder._inspect_backbone.__wrapped__("test_resnet")


class _Backbone(nn.Module):
    """Has, beside what its feature needs, a weight in between and a block behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.spare = nn.Parameter(torch.ones(4))
        self.blocks = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.blocks[0](self.stem(x))]


def test_what_no_feature_needs_is_dropped_or_frozen() -> None:
    body = _Backbone()
    encoder._drop_unused_tail(body, 1)
    assert len(body.blocks) == 1
    trained = [name for name, p in body.named_parameters() if p.requires_grad]
    assert trained == ["stem.weight", "stem.bias", "blocks.0.weight", "blocks.0.bias"]


@pytest.mark.parametrize("prefix", ["hf-hub:timm/", "hf_hub:timm/", "timm/"])
def test_the_hubs_names_of_timms_models(prefix: str) -> None:
    encoder = Encoder(f"{prefix}test_resnet.r160_in1k")
    assert encoder.name == "test_resnet.r160_in1k"
    with pytest.raises(KTDNError, match="'resnet1' is not a timm model"):
        Encoder(f"{prefix}resnet1")
    with pytest.raises(KTDNError, match="'hf-hub:somebody/resnet18' is not a timm model"):
        Encoder("hf-hub:somebody/resnet18")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet1", r"'resnet1' is not a timm model; did you mean 'resnet18'\?"),
        ("ResNet18", r"'ResNet18' is not a timm model; did you mean 'resnet18'\?"),
        ("", "'' is not a timm model"),
        ("test_vit", r"'test_vit' has features at strides \[16, 16, 16\]; KTDN needs 4, 8 and"),
        ("hrnet_w18_small", "'hrnet_w18_small' does not take a 48 x 80 image"),
        ("inception_v3", r"'inception_v3' does not take .*features have the sizes \[\(8, 16\)"),
        ("halonet26t", r"'halonet26t' does not take a 48 x 80 image \(\w+"),
        ("resnet18.nonsense", "'resnet18.nonsense' cannot be built"),
    ],
)
def test_backbones_that_do_not_do(name: str, message: str) -> None:
    with pytest.raises(KTDNError, match=message) as caught:
        KTDN(name)
    assert "\n" not in str(caught.value)
