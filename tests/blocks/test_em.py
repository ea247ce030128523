"""EM against the same formula written out, at whole and at odd sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ktdn_plugin import EM
from ktdn_plugin.blocks import EM as EM_AT_HOME


def feature(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def em(in_channels: int, out_channels: int) -> EM:
    torch.manual_seed(0)
    return EM(in_channels, out_channels).double()


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def cell_means(x: Tensor, cell: int) -> Tensor:
    rows, columns = x.shape[2] // cell, x.shape[3] // cell
    whole = x[:, :, : rows * cell, : columns * cell]
    return whole.reshape(*x.shape[:2], rows, cell, columns, cell).mean(dim=(3, 5))


def spread(x: Tensor, height: int, width: int) -> Tensor:
    rows = torch.arange(height) * x.shape[2] // height
    columns = torch.arange(width) * x.shape[3] // width
    return x[:, :, rows][:, :, :, columns]


def written_out(w: dict[str, Tensor], x: Tensor) -> Tensor:
    x = leaky(F.conv2d(x, w["refine1.weight"], w["refine1.bias"], padding=1))
    x = leaky(F.conv2d(x, w["refine2.weight"], w["refine2.bias"], padding=1))
    scales = []
    for i, cell in enumerate((32, 16, 8, 4)):
        kernel, bias = w[f"pool_convs.{i}.weight"], w[f"pool_convs.{i}.bias"]
        scales.append(spread(leaky(F.conv2d(cell_means(x, cell), kernel, bias)), *x.shape[2:]))
    joined = torch.cat([*scales, x], dim=1)
    assert joined.shape[1] == 24
    return torch.tanh(F.conv2d(joined, w["fuse.weight"], w["fuse.bias"], padding=1))


# All but the first two sizes leave a remainder behind the last whole cell.
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (33, 32), (47, 63), (70, 45), (35, 129)])
@pytest.mark.parametrize(("channels", "out_channels"), [(28, 28), (3, 5), (1, 1)])
def test_formula(channels: int, out_channels: int, size: tuple[int, int]) -> None:
    block = em(channels, out_channels)
    x = feature(2, channels, *size)
    before = x.clone()
    y = block(x)
    assert y.shape == (2, out_channels, *size)
    assert y.abs().max() < 1
    assert torch.equal(x, before)
    torch.testing.assert_close(y, written_out(block.state_dict(), x), rtol=1e-9, atol=1e-11)


def test_far_pixels_matter_through_the_pools_alone() -> None:
    block = em(1, 1)
    x = feature(1, 1, 64, 64)
    changed = x.clone()
    changed[..., 0, 0] += 10
    difference = (block(changed) - block(x)).abs()[0, 0]
    assert difference[31, 31] > 0  # the same cell of 32 pixels
    assert difference[33:, 33:].max() == 0  # another one


def test_gradients() -> None:
    block = em(4, 3)
    x = feature(2, 4, 40, 50).requires_grad_()
    block(x).square().sum().backward()
    assert x.grad is not None
    # Every pixel is in the feature itself, those of the dropped remainder too.
    assert x.grad.abs().amax(dim=(0, 1)).gt(0).all()
    assert [name for name, p in block.named_parameters() if p.grad is None] == []
    assert all(p.grad.any() for p in block.parameters())


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1), (16, 16)])
def test_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"at least 32 x 32 pixels, got {size[0]} x {size[1]}"):
        em(2, 2)(feature(1, 2, *size))


def test_smallest() -> None:
    assert em(2, 2)(feature(1, 2, 32, 32)).shape == (1, 2, 32, 32)


def test_one_class_under_both_names() -> None:
    assert EM is EM_AT_HOME
