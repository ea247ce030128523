"""Folding batch norms: what is folded, what must stay, and that nothing else changes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d, StdConv2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.inference.folding import fold_batch_norms
from ktdn_plugin.training.batch_norm import batch_norms

# Encoder, batch norms, and how many of them follow a convolution directly.
ENCODERS = [
    ("test_resnet", 12, 12),
    ("resnet18", 15, 15),
    ("res2net50d", 71, 71),  # grouped by hand
    ("resnest14d", 18, 18),  # split attention
    ("regnetx_002", 22, 22),  # grouped
    ("test_efficientnet", 9, 9),  # depthwise; batch norms that carry activations
    ("mobilenetv3_small_050", 24, 24),
    ("ghostnet_050", 34, 34),
    ("hgnetv2_b0", 33, 33),
    ("test_byobnet", 10, 10),
    ("efficientvit_b0", 20, 20),
    ("densenet121", 87, 43),  # before the convolution
    ("repvgg_a0", 59, 42),  # beside the convolution
    ("convnext_atto", 0, 0),
]


@torch.no_grad()
def used(network: nn.Module, size: tuple[int, ...] = (2, 3, 64, 64)) -> nn.Module:
    """Gives batch norms what training would: statistics near the data's, and weights not 1."""
    generator = torch.Generator().manual_seed(1)

    def near(value: Tensor, spread: float) -> None:
        value.mul_(1 + spread * torch.randn(value.shape, generator=generator).clamp(-2, 2))

    for norm in batch_norms(network):
        norm.momentum = 1.0
    network.train()(torch.rand(size, generator=generator))
    for norm in batch_norms(network):
        near(norm.running_var, 0.2)
        near(norm.running_mean, 0.3)
        if norm.affine:
            near(norm.weight, 0.3)
            norm.bias.add_(0.3 * torch.randn(norm.bias.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize(("encoder", "count", "folded"), ENCODERS)
@torch.no_grad()
def test_encoders(encoder: str, count: int, folded: int) -> None:
    torch.manual_seed(0)
    network = used(KTDN(encoder)).double()
    assert len(batch_norms(network)) == count
    image = torch.rand(1, 3, 48, 80, dtype=torch.float64)
    wanted = network(image)
    assert fold_batch_norms(network) == folded
    assert len(batch_norms(network)) == count - folded
    torch.testing.assert_close(network(image), wanted, rtol=0, atol=1e-11)
    # Folding is no work for nothing: a second time finds nothing that is left.
    assert fold_batch_norms(network) == 0


@torch.no_grad()
def test_an_affine_head() -> None:
    torch.manual_seed(0)
    network = KTDN("test_resnet", head="affine", widths=(160, 64, 54))
    nn.init.normal_(network.tail[1].weight, std=0.05)  # which starts at zero
    network = used(network).double()
    image = torch.rand(1, 3, 48, 80, dtype=torch.float64)
    wanted = network(image)
    assert (wanted - image).abs().max() > 0.1
    assert fold_batch_norms(network) == 12
    torch.testing.assert_close(network(image), wanted, rtol=0, atol=1e-11)


@torch.no_grad()
def test_float32_is_as_exact_as_before() -> None:
    torch.manual_seed(0)
    network = used(KTDN("test_resnet"))
    truth, image = copy.deepcopy(network).double(), torch.rand(1, 3, 50, 70)
    wanted, before = truth(image.double()), network(image)
    fold_batch_norms(network)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    after = network(image)
    assert after.dtype == torch.float32
    assert (after - wanted).abs().max() <= max(3 * (before - wanted).abs().max(), 1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["plain", "act"]),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 2]),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
@torch.no_grad()
def test_any_convolution(
    groups: int,
    bias: bool,
    affine: bool,
    kind: str,
    kernel: int,
    stride: int,
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 8, kernel, stride, padding=1, groups=groups, bias=bias)
    norm: nn.Module = (
        nn.BatchNorm2d(8, affine=affine)
        if kind == "plain"
        else BatchNormAct2d(8, affine=affine, act_layer=nn.SiLU)
    )
    network = used(nn.Sequential(convolution, norm), (2, 4, 9, 11)).to(memory_format=layout)
    image = torch.rand(2, 4, 9, 11).contiguous(memory_format=layout)
    wanted = copy.deepcopy(network).double()(image.double())
    assert fold_batch_norms(network, image) == 1
    torch.testing.assert_close(network(image).double(), wanted, rtol=1e-5, atol=1e-6)
    assert isinstance(network[1], nn.Identity if kind == "plain" else nn.SiLU)
    assert network[0].weight.is_contiguous(memory_format=layout)
    assert network[0].weight.requires_grad
    assert network[0].bias is not None


class Net(nn.Module):
    """A convolution and a batch norm, put together by a function."""

    def __init__(self, run: Callable[[Net, Tensor], object], conv: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.run = run

    def forward(self, x: Tensor) -> object:
        return self.run(self, x)


def both(net: Net, x: Tensor) -> list[Tensor]:
    y = net.conv(x)
    return [y, net.norm(y)]


def listened_to(net: Net, x: Tensor) -> Tensor:
    return net.norm(net.conv(x))


MUST_STAY = {
    "used by a function too": lambda net, x: net.norm(y := net.conv(x)) + y,
    "given out too": both,
    "changed in place between": lambda net, x: net.norm(net.relu(net.conv(x))),
    "changed by a function between": lambda net, x: net.norm(net.conv(x).mul_(2)),
    "convolution runs twice": lambda net, x: net.norm(net.conv(net.conv(x))),
    "batch norm runs twice": lambda net, x: net.norm(net.norm(net.conv(x))),
    "convolution runs again": lambda net, x: net.norm(net.conv(x)) + net.conv(x + 1),
    "batch norm is first": lambda net, x: net.conv(net.norm(x)),
    "batch norm is alone": lambda net, x: net.norm(x),
    "a function is between": lambda net, x: net.norm(net.conv(x) + 1),
}


@pytest.mark.parametrize("forward", MUST_STAY.values(), ids=MUST_STAY)
@torch.no_grad()
def test_what_must_stay(forward: Callable) -> None:
    torch.manual_seed(0)
    network = used(Net(forward))
    state = copy.deepcopy(network.state_dict())
    assert fold_batch_norms(network) == 0
    assert isinstance(network.norm, nn.BatchNorm2d)
    assert_equal(network.state_dict(), state)


def test_convolutions_that_work_their_weights_out_stay() -> None:
    torch.manual_seed(0)
    for conv in (
        StdConv2d(3, 3, 3, padding=1),
        torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)),
        nn.ConvTranspose2d(3, 3, 3),
    ):
        network = used(Net(listened_to, conv))
        assert fold_batch_norms(network) == 0


def test_modules_that_someone_listens_to_stay() -> None:
    for name in ("conv", "norm"):
        network = used(Net(listened_to))
        getattr(network, name).register_forward_hook(lambda module, args, output: None)
        assert fold_batch_norms(network) == 0


def test_modules_of_several_names_stay() -> None:
    network = Net(listened_to)
    network.also = network.norm
    assert fold_batch_norms(used(network)) == 0


@torch.no_grad()
def test_one_weight_of_two_convolutions() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    network = used(nn.Sequential(first, nn.BatchNorm2d(3), second, nn.BatchNorm2d(3)))
    image = torch.rand(1, 3, 8, 8)
    wanted = network(image)
    assert fold_batch_norms(network) == 2
    torch.testing.assert_close(network(image), wanted)


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for key, value in one.items():
        assert value.dtype == other[key].dtype
        assert torch.equal(value, other[key]), key


@torch.no_grad()
def test_a_network_that_would_change_is_refused_and_restored() -> None:
    def looks_at_its_modules(net: Net, x: Tensor) -> Tensor:
        y = net.norm(net.conv(x))
        return y if isinstance(net.norm, _BatchNorm) else y * (1 + 1e-6)

    torch.manual_seed(0)
    network = used(Net(looks_at_its_modules))
    state, image = copy.deepcopy(network.state_dict()), torch.rand(1, 3, 16, 16)
    norm, conv, wanted = network.norm, network.conv, network(image)
    with pytest.raises(KTDNError, match=r"would change its output by .* use it unfolded"):
        fold_batch_norms(network)
    assert network.norm is norm
    assert network.conv is conv
    assert_equal(network.state_dict(), state)
    assert torch.equal(network(image), wanted)
    assert not norm._forward_hooks
    assert not conv._forward_pre_hooks


def test_an_error_inside_restores_as_well() -> None:
    def needs_its_norm(net: Net, x: Tensor) -> Tensor:
        net.norm.running_mean.sum()
        return net.norm(net.conv(x))

    network = used(Net(needs_its_norm))
    state = copy.deepcopy(network.state_dict())
    with pytest.raises(AttributeError):
        fold_batch_norms(network)
    assert_equal(network.state_dict(), state)


def test_nan_and_infinity_are_refused() -> None:
    network = used(Net(listened_to))
    network.norm.running_var[1] = float("nan")
    state = copy.deepcopy(network.state_dict())
    with pytest.raises(KTDNError, match="output is NaN or infinite"):
        fold_batch_norms(network)
    assert list(network.state_dict()) == list(state)


def test_training_mode_is_refused() -> None:
    network = used(Net(listened_to))
    network.norm.train()
    with pytest.raises(ValueError, match="eval mode"):
        fold_batch_norms(network)
    assert isinstance(network.norm, nn.BatchNorm2d)


@torch.no_grad()
def test_narrow_formats() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        network = used(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())).to(dtype)
        image = torch.rand(1, 3, 9, 9).to(dtype)
        wanted = copy.deepcopy(network).double()(image.double())
        assert fold_batch_norms(network) == 1
        assert {value.dtype for value in network.state_dict().values()} == {dtype}
        rounding = 8 * torch.finfo(dtype).eps * float(wanted.abs().max())
        torch.testing.assert_close(network(image).double(), wanted, rtol=0, atol=rounding)


@torch.no_grad()
def test_a_batch_norm_whose_weights_would_overflow_stays() -> None:
    network = used(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))).half()
    network[0].weight.mul_(0).add_(100)
    network[1].running_var.fill_(0)  # a factor of 316
    network[1].weight.fill_(4)
    network[1].running_mean.fill_(150)
    assert fold_batch_norms(network, torch.full((1, 3, 4, 4), 0.5)) == 0
    assert isinstance(network[1], nn.BatchNorm2d)


def test_inside_inference_mode() -> None:
    network = used(Net(listened_to))
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        wanted = network(image)
        assert fold_batch_norms(network, torch.rand(1, 3, 16, 16)) == 1
        torch.testing.assert_close(network(image), wanted)
    assert not network.conv.weight.is_inference()
    network(image).sum().backward()  # ordinary weights, as before
