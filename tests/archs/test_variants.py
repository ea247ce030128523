"""The named networks: what they are, how they are built, and what is said of their cost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ktdn_plugin
from ktdn_plugin import KTDN, KTDNError, create_model, describe_model, list_models
from ktdn_plugin.bench.costs import measure_cost
from ktdn_plugin.cli import main
from ktdn_plugin.variants import VARIANTS


def test_names_and_filters() -> None:
    assert list_models() == ["ktdn", "ktdn_small", "ktdn_tiny"]
    assert list_models("*small") == ["ktdn_small"]
    assert list_models("ktdn") == ["ktdn"]
    assert list_models("KTDN*") == []
    assert list_models("resnet*") == []


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_timm_publishes_imagenet_weights_of_every_encoder(variant) -> None:
    assert timm.list_pretrained(f"{variant.encoder}.*")
    assert timm.get_pretrained_cfg(variant.encoder).has_weights


@pytest.mark.parametrize("name", ["ktdn_small", "ktdn_tiny"])
def test_a_named_network_is_ktdn_with_its_encoder(name: str) -> None:
    network = create_model(name, mean=(0.5, 0.5, 0.5), reduction=4)
    assert type(network) is KTDN
    assert network.training
    assert network.encoder.name == VARIANTS[name].encoder
    assert network.mean.flatten().tolist() == [0.5] * 3
    wanted = KTDN(**VARIANTS[name].arguments, reduction=4).state_dict()
    assert {k: v.shape for k, v in network.state_dict().items()} == {
        k: v.shape for k, v in wanted.items()
    }
    with torch.inference_mode():
        assert network.eval()(torch.rand(1, 3, 37, 50)).shape == (1, 3, 37, 50)


def test_the_published_network_has_its_size() -> None:
    described = describe_model("ktdn", sizes=[(256, 256)])
    assert described.encoder == "res2net101d"
    assert described.parameters == 49_351_930 - 200  # without the layer that is never called


def test_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    trained = create_model("ktdn_tiny")
    torch.save({"params": trained.state_dict()}, tmp_path / "net_g.pth")
    network = create_model("ktdn_tiny", checkpoint=tmp_path / "net_g.pth")
    for key, value in trained.state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key

    torch.save({"params": KTDN("test_resnet").state_dict()}, tmp_path / "other.pth")
    with pytest.raises(
        KTDNError,
        match=r"other\.pth: a checkpoint of a different network: it has encoder "
        r"test_resnet, ktdn_tiny has mobilenetv2_100; ktdn_plugin\.load_network\('.*\.pth'"
        r"\) loads it as it is$",
    ):
        create_model("ktdn_tiny", checkpoint=tmp_path / "other.pth")
    with pytest.raises(KTDNError, match=r"net_g\.pth: .*widths"):
        create_model("ktdn_small", checkpoint=tmp_path / "net_g.pth")
    torch.save({"params": {**trained.state_dict(), "more": torch.zeros(1)}}, tmp_path / "more.pth")
    with pytest.raises(KTDNError, match=r"more\.pth: ") as caught:
        create_model("ktdn_tiny", checkpoint=tmp_path / "more.pth")
    assert "it has encoder" not in str(caught.value)
    with pytest.raises(KTDNError, match=r"'ktdn_tiny': pretrained and checkpoint each set"):
        create_model("ktdn_tiny", pretrained=True, checkpoint=tmp_path / "net_g.pth")
    with pytest.raises(KTDNError, match=r"none\.pth: no such checkpoint"):
        create_model("ktdn_tiny", checkpoint=tmp_path / "none.pth")


def test_what_a_checkpoint_says_of_its_network_is_taken(tmp_path: Path) -> None:
    settings = {"mean": [0.5, 0.25, 0.125], "std": [0.2, 0.3, 0.4], "reduction": 4}
    trained = create_model("ktdn_tiny", **settings)
    path = tmp_path / "net_g.pth"
    told = {"type": "KTDN", "encoder": "mobilenetv2_100", **settings}
    torch.save({"params": trained.state_dict(), "ktdn": {"network": told}}, path)
    for arguments in ({}, {"mean": (0.5, 0.25, 0.125)}):
        network = create_model("ktdn_tiny", checkpoint=path, **arguments)
        assert torch.equal(network.mean, trained.mean)
        assert torch.equal(network.std, trained.std)
        image = torch.rand(1, 3, 32, 32)
        with torch.inference_mode():
            assert torch.equal(network.eval()(image), trained.eval()(image))
    with pytest.raises(KTDNError, match=r"net_g\.pth: .* it says mean \[0\.5, 0\.25, 0\.125\]"):
        create_model("ktdn_tiny", checkpoint=path, mean=(0.1, 0.2, 0.3))


def test_encoder_weights_of_a_file_are_taken(tmp_path: Path) -> None:
    encoder = timm.create_model("mobilenetv2_100", pretrained=False)
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    network = create_model("ktdn_tiny", encoder_weights=tmp_path / "encoder.pth")
    assert torch.equal(network.encoder.body.conv_stem.weight, encoder.conv_stem.weight)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("ktdn_smal", {}, "no model 'ktdn_smal'; did you mean 'ktdn_small'?"),
        ("tiny", {}, "no model 'tiny'; did you mean 'ktdn_tiny'?"),
        ("unet", {}, "no model 'unet' (there are ktdn, ktdn_small, ktdn_tiny)"),
        ("ktdn_tiny", {"reductoin": 4}, "no argument 'reductoin'; did you mean 'reduction'?"),
        ("ktdn_tiny", {"pretrain": True}, "no argument 'pretrain'; did you mean 'pretrained'?"),
        ("ktdn_tiny", {"encoder": "resnet18"}, "use KTDN(encoder=...)"),
        ("ktdn", {"pretrained": True}, "no trained weights ship with it (they do with ktdn_small,"),
        ("ktdn_tiny", {"pretrained": "encoder.pth"}, "pretrained must be True or False, not"),
        ("ktdn_tiny", {"widths": (96, 40, 50)}, "50 channels at stride 4 beside the 16"),
        ("ktdn_tiny", {"scale": 4}, "(it takes mean, std, reduction, head, widths)"),
    ],
)
def test_wrong_names_and_arguments(name: str, kwargs: dict, message: str) -> None:
    with pytest.raises((KTDNError, ValueError), match=re.escape(message)) as caught:
        create_model(name, **kwargs)
    assert len(str(caught.value).splitlines()) == 1


class _Chain(nn.Module):
    """Two layers whose peak one can work out."""

    def __init__(self, middle: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, middle, 3, padding=1, bias=False)
        self.second = nn.Conv2d(middle, 5, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.first(x)
        wide = wide.relu_().view(wide.shape)  # neither takes memory
        return self.second(wide)


@settings(max_examples=25, deadline=None)
@given(middle=st.integers(1, 40), width=st.integers(1, 90), height=st.integers(1, 90))
def test_costs_are_those_computed_by_hand(middle: int, width: int, height: int) -> None:
    cost = measure_cost(_Chain(middle).to("meta"), width, height)
    macs = width * height * (27 * middle + 5 * middle)
    assert cost.flops == 2 * macs
    weights = 27 * middle + 5 * middle
    # A convolution has its own weights twice while it is computed.
    first = 27 * middle + width * height * (3 + middle)
    second = 5 * middle + width * height * (3 + middle + 5)
    assert cost.memory == 4 * (weights + max(first, second))


def test_memory_that_is_given_back_counts_no_longer() -> None:
    deep = nn.Sequential(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(50)))
    cost = measure_cost(deep.to("meta"), 64, 32)
    # The image, a layer's input and its output; the weights, and one layer's a second time.
    assert cost.memory == 4 * (51 * 9 + 3 * 3 * 64 * 32)


def test_costs_grow_with_the_image_and_the_network() -> None:
    described = [describe_model(name) for name in ("ktdn_small", "ktdn_tiny")]
    for model in described:
        crop, photo = model.costs[256, 256], model.costs[1600, 1200]
        # Every layer but the channel attention's works pixel by pixel, and that one is tiny.
        assert photo.flops / crop.flops == pytest.approx(1600 * 1200 / 256**2, rel=1e-3)
        assert crop.memory < photo.memory
    small, tiny = (model.costs[1600, 1200] for model in described)
    assert tiny.flops < small.flops / 1.5
    assert tiny.memory < small.memory


def test_command_prints_the_table(capsys: pytest.CaptureFixture) -> None:
    assert main(["models", "*tiny", "--sizes", "256x256", "64X32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("model", "encoder", "parameters", "256x256:", "GFLOPs", "MiB"),
        *("64x32:", "GFLOPs", "MiB"),
    ]
    model = describe_model("ktdn_tiny", sizes=[(256, 256), (64, 32)])
    words = lines[1].split()
    assert words[:2] == ["ktdn_tiny", VARIANTS["ktdn_tiny"].encoder]
    assert float(words[2]) == pytest.approx(model.parameters / 1e6, abs=0.005)
    for word, size in zip(words[4:8:2], model.costs, strict=True):
        assert float(word) == pytest.approx(model.costs[size].flops / 1e9, abs=0.005)
    for word, size in zip(words[5:8:2], model.costs, strict=True):
        assert float(word) == pytest.approx(model.costs[size].memory / 2**20, abs=0.5)
    assert "a multiplication and an addition being two" in lines[-1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["ktdn_smal"], 1, "error: there is no model 'ktdn_smal'; did you mean 'ktdn_small'?"),
        (["--sizes", "0x10"], 1, "--sizes: '0x10' is not WIDTHxHEIGHT, such as 1600x1200"),
        (["--size", "big"], 1, "--sizes: 'big' is not WIDTHxHEIGHT, such as 1600x1200"),
    ],
)
def test_command_with_wrong_arguments(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["models", *words]) == code
    assert message in capsys.readouterr().err


def test_public_names() -> None:
    assert {"create_model", "list_models", "describe_model"} <= set(ktdn_plugin.__all__)
