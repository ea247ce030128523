"""The head that gives gain and offset, the decoder's widths, and what is refused of both."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ktdn_plugin import KTDN

WIDTHS = (48, 20, 40)  # 12, 8 and 3 channels


def affine(**options: object) -> KTDN:
    torch.manual_seed(0)
    return KTDN("test_resnet", head="affine", **options)


def stir(network: KTDN) -> KTDN:
    """Gives a tail that is all zeros numbers, as a training would."""
    with torch.no_grad():
        for parameter in network.tail.parameters():
            parameter.normal_(0, 0.1)
    return network


def image(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(32, 48), (19, 45), (1, 1)])
@torch.no_grad()
def test_starts_as_the_identity(size: tuple[int, int]) -> None:
    x = image(*size)
    assert torch.equal(affine().eval()(x), x)
    assert torch.equal(affine(widths=WIDTHS).train()(x), x)


@torch.no_grad()
def test_gain_and_offset_are_of_each_pixel_and_colour() -> None:
    network = stir(affine()).eval()
    seen: list[Tensor] = []
    network.tail.register_forward_hook(lambda module, args, output: seen.append(output))
    x = image(19, 45)
    out = network(x)
    assert seen[0].shape == (2, 6, 32, 48)
    gain, offset = seen[0][:, :3, :19, :45], seen[0][:, 3:, :19, :45]
    torch.testing.assert_close(out, x * (1 + gain) + offset)
    assert out.shape == x.shape
    assert (out - x).abs().min(dim=1)[0].mean() > 0.01
    assert out.min() < -0.01 or out.max() > 1.01  # not squashed, as tanh would


@torch.no_grad()
def test_half_precision_keeps_what_the_image_has() -> None:
    x = image(32, 48)
    network = affine().eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(x)
    assert out.dtype == torch.float32
    assert torch.equal(out, x)


@pytest.mark.parametrize("widths", [None, WIDTHS])
def test_every_parameter_gets_a_gradient(widths: tuple[int, ...] | None) -> None:
    # One channel behind a ReLU may happen to be dead; as many as before it are not all.
    network = stir(affine(widths=widths, reduction=1)).train()
    network(torch.rand(2, 3, 48, 32)).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    still = [n for n, p in network.named_parameters() if not p.grad.abs().sum() > 0]
    assert [name for name in still if not name.startswith("encoder.")] == []


def test_the_heads_differ_in_nothing_but_the_last_layer() -> None:
    torch.manual_seed(0)
    tanh = KTDN("test_resnet").state_dict()
    other = affine().state_dict()
    assert tanh.keys() == other.keys()
    differing = [key for key in tanh if not torch.equal(tanh[key], other[key])]
    assert differing == ["tail.1.weight", "tail.1.bias"]
    assert other["tail.1.weight"].shape[0] == 6


@pytest.mark.parametrize("head", ["tanh", "affine"])
@torch.no_grad()
def test_widths_are_the_decoders(head: str) -> None:
    network = KTDN("mobilenetv2_100", head=head, widths=[192, 80, 160]).eval()
    convs = [network.fam16.conv1, network.fam8.conv1, network.fam4.conv1, network.tail[1]]
    assert [conv.in_channels for conv in convs] == [192, 48, 32, 12]
    projections = (network.project16, network.project8, network.project4)
    assert [one.out_channels for one in projections] == [192, 80, 160]
    x = image(40, 33)
    out, features = network(x, return_features=True)
    assert out.shape == x.shape
    assert features["mid"].shape == (2, 192, 3, 3)
    alone = network.feature_extractor(["mid"]).eval()(x)
    assert torch.equal(alone["mid"], features["mid"])


def test_widths_that_the_encoder_has_already_need_no_projection() -> None:
    plain, named = KTDN("resnet18"), KTDN("resnet18", widths=(256, 128, 64))
    assert plain.state_dict().keys() == named.state_dict().keys()
    assert not [key for key in named.state_dict() if key.startswith("project")]


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((190, 80, 160), r"190 channels at stride 16 do not fit .* 188 and 192$"),
        ((192, 81, 160), r"81 channels at stride 8 beside the 48 from .* multiple of 4; .* 80 and"),
        ((192, 80, 161), r"161 channels at stride 4 beside the 32 from .* of 16; .* 160 and 176$"),
        ((2, 80, 160), r"2 channels at stride 16 .* fit: 4$"),
        ((192, 80), r"three positive whole numbers.*got \(192, 80\)"),
        ((192, 80.0, 160), "three positive whole numbers"),
        ((192, 0, 160), "three positive whole numbers"),
        ((True, 80, 160), "three positive whole numbers"),
        (192, "three positive whole numbers"),
        ([], "three positive whole numbers"),
        ("192", "three positive whole numbers"),
    ],
)
def test_widths_that_do_not_fit(widths: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        KTDN("test_resnet", widths=widths)
    assert "\n" not in str(caught.value)


def test_unknown_heads() -> None:
    with pytest.raises(ValueError, match=r"no head 'afine'; did you mean 'affine'\? \(it has tanh"):
        KTDN("test_resnet", head="afine")
    with pytest.raises(ValueError, match=r"no head True \(it has tanh, affine\)"):
        KTDN("test_resnet", head=True)
