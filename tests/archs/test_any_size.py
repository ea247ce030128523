"""Images of any size: what is padded, what is not, and what comes out."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ktdn_plugin import KTDN
from ktdn_plugin.archs.ktdn_arch import pad_to_multiple

ENCODERS = ("test_resnet", "test_convnext")
SIZES = st.integers(1, 70)
WHOLE_SIZES = st.sampled_from([32, 48, 64, 80])


@functools.cache
def network(encoder: str) -> KTDN:
    torch.manual_seed(0)
    return KTDN(encoder).eval()


def image(height: int, width: int, n: int = 1) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(height + width))


def padded_by_numpy(x: Tensor) -> Tensor:
    """Down and right to a multiple of 16 from 32 on; mirrored, or repeated where too short."""
    array = x.numpy()
    for axis in (2, 3):
        size = array.shape[axis]
        missing = max(32, (size + 15) // 16 * 16) - size
        widths = [(0, 0)] * 4
        widths[axis] = (0, missing)
        array = np.pad(array, widths, mode="reflect" if missing <= size - 1 else "edge")
    return torch.from_numpy(array)


def layer_by_layer(net: KTDN, x: Tensor) -> Tensor:
    """The network without any padding or cropping."""
    mean = torch.tensor((0.64, 0.6, 0.58)).view(3, 1, 1)
    std = torch.tensor((0.14, 0.15, 0.152)).view(3, 1, 1)
    stage1, stage2, stage3 = net.encoder((x - mean) / std)
    up = net.shuffle(net.fam16(net.project16(stage3)))
    up = net.shuffle(torch.cat([net.fam8(up), net.project8(stage2)], dim=1))
    up = torch.cat([net.fam4(up), net.project4(stage1)], dim=1)
    return net.tail(net.em(net.shuffle(net.shuffle(up))))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ENCODERS), SIZES, SIZES)
@example("test_resnet", 1, 1)
@example("test_resnet", 16, 16)
@example("test_resnet", 17, 33)
@example("test_resnet", 1, 70)
@example("test_resnet", 31, 49)
@torch.no_grad()
def test_any_size_is_that_of_the_padded_image_cropped(
    encoder: str, height: int, width: int
) -> None:
    net = network(encoder)
    x = image(height, width)
    before = x.clone()
    out = net(x)
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert out.abs().max() < 1
    assert torch.equal(x, before)
    whole = padded_by_numpy(x)
    assert whole.shape[2] % 16 == whole.shape[3] % 16 == 0
    assert torch.equal(out, layer_by_layer(net, whole)[..., :height, :width])


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(ENCODERS), WHOLE_SIZES, WHOLE_SIZES, st.integers(1, 2))
@torch.no_grad()
def test_whole_sizes_are_not_padded(encoder: str, height: int, width: int, n: int) -> None:
    net = network(encoder)
    x = image(height, width, n)
    assert pad_to_multiple(x) is x
    assert torch.equal(net(x), layer_by_layer(net, x))


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(1, 4))
def test_padding(height: int, width: int, channels: int) -> None:
    x = torch.arange(2.0 * channels * height * width).view(2, channels, height, width)
    padded = pad_to_multiple(x)
    assert padded.shape[2] == max(32, -(-height // 16) * 16)
    assert padded.shape[3] == max(32, -(-width // 16) * 16)
    assert torch.equal(padded, padded_by_numpy(x))


def test_gradients_reach_a_padded_image() -> None:
    x = image(19, 45).requires_grad_()
    network("test_resnet")(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().amax(1).gt(0).all()


@torch.no_grad()
def test_other_floating_point_types() -> None:
    net = KTDN("test_resnet").double().eval()
    assert net(image(35, 20).double()).dtype == torch.float64


@pytest.mark.parametrize(
    "shape", [(1, 1, 32, 32), (1, 4, 32, 32), (3, 32, 32), (32, 32), (32,), (), (1, 1, 3, 32, 32)]
)
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    net = network("test_resnet")
    for call in (net, net.forward_features, net.feature_extractor(["mid"])):
        with pytest.raises(ValueError, match=r"RGB images \(n, 3, h, w\), got a tensor \("):
            call(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 3, 32, 32), (1, 3, 0, 32), (1, 3, 32, 0)])
def test_empty_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="RGB images"):
        network("test_resnet")(torch.zeros(shape))


@torch.no_grad()
def test_mean_and_std_are_settings() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    plain = KTDN("test_resnet", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
    other = KTDN("test_resnet", mean=mean, std=std).eval()
    other.load_state_dict(plain.state_dict())  # they are no part of the weights
    x = image(32, 48)
    normalised = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.equal(other(x), plain(normalised))
    assert not torch.equal(other(x), plain(x))


@pytest.mark.parametrize(
    "arguments", [{"mean": (0.5, 0.5)}, {"std": (1, 1, 1, 1)}, {"std": (1, 0, 1)}]
)
def test_wrong_mean_or_std(arguments: dict) -> None:
    with pytest.raises(ValueError, match="mean and std must be three numbers each"):
        KTDN("test_resnet", **arguments)
