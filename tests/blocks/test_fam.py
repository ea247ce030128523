"""FAM and its two attentions, against the same formulas written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ktdn_plugin import FAM, ChannelAttention, PixelAttention

BLOCKS = (FAM, ChannelAttention, PixelAttention)
WIDTHS = (*range(1, 8), 8, 24)


def feature(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def block(kind: type[nn.Module], *args: int) -> nn.Module:
    torch.manual_seed(0)
    return kind(*args).double()


def channel_attention(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    squeezed = torch.einsum("nc,dc->nd", x.mean(dim=(2, 3)), w["0.weight"][:, :, 0, 0])
    squeezed = (squeezed + w["0.bias"]).clamp(min=0)
    logits = torch.einsum("nd,cd->nc", squeezed, w["2.weight"][:, :, 0, 0]) + w["2.bias"]
    return x / (1 + torch.exp(-logits))[:, :, None, None]


def pixel_attention(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    squeezed = torch.einsum("nchw,dc->ndhw", x, w["0.weight"][:, :, 0, 0])
    squeezed = (squeezed + w["0.bias"].view(-1, 1, 1)).clamp(min=0)
    logits = torch.einsum("ndhw,d->nhw", squeezed, w["2.weight"][0, :, 0, 0]) + w["2.bias"]
    return x / (1 + torch.exp(-logits))[:, None]


def below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


@pytest.mark.parametrize("channels", WIDTHS)
def test_formulas(channels: int) -> None:
    x = feature(2, channels, 5, 7)
    ca, pa = block(ChannelAttention, channels), block(PixelAttention, channels)
    torch.testing.assert_close(
        ca(x), channel_attention(x, below(ca.state_dict(), "attention.")), rtol=1e-10, atol=1e-12
    )
    torch.testing.assert_close(
        pa(x), pixel_attention(x, below(pa.state_dict(), "attention.")), rtol=1e-10, atol=1e-12
    )

    fam = block(FAM, channels)
    w = fam.state_dict()
    inner = F.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1).clamp(min=0) + x
    inner = F.conv2d(inner, w["conv2.weight"], w["conv2.bias"], padding=1)
    inner = channel_attention(inner, below(w, "channel_attention.attention."))
    inner = pixel_attention(inner, below(w, "pixel_attention.attention."))
    torch.testing.assert_close(fam(x), x + inner, rtol=1e-10, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(BLOCKS),
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_shape_is_kept_and_input_left_alone(
    kind: type[nn.Module], n: int, channels: int, height: int, width: int
) -> None:
    x = feature(n, channels, height, width)
    before = x.clone()
    y = block(kind, channels)(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert torch.equal(x, before)


@pytest.mark.parametrize("channels", WIDTHS)
@pytest.mark.parametrize("kind", BLOCKS)
def test_gradients(kind: type[nn.Module], channels: int) -> None:
    module = block(kind, channels)
    x = feature(2, channels, 4, 5).requires_grad_()
    module(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.any()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []
    # The last layer of either attention has nothing behind it that could be dead.
    assert all(p.grad.any() for name, p in module.named_parameters() if name.endswith("2.bias"))


def test_gradient_is_the_formula_s() -> None:
    x = feature(1, 3, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(block(FAM, 3, 1), (x,))


@pytest.mark.parametrize(
    ("channels", "reduction", "squeezed"),
    [(1024, 8, 128), (192, 8, 24), (8, 8, 1), (7, 8, 1), (1, 8, 1), (6, 4, 1), (12, 3, 4)],
)
def test_bottleneck(channels: int, reduction: int, squeezed: int) -> None:
    with torch.device("meta"):
        fam = FAM(channels, reduction)
    shapes = {key: tuple(value.shape) for key, value in fam.state_dict().items()}
    assert shapes["conv1.weight"] == shapes["conv2.weight"] == (channels, channels, 3, 3)
    assert shapes["channel_attention.attention.0.weight"] == (squeezed, channels, 1, 1)
    assert shapes["channel_attention.attention.2.weight"] == (channels, squeezed, 1, 1)
    assert shapes["pixel_attention.attention.0.weight"] == (squeezed, channels, 1, 1)
    assert shapes["pixel_attention.attention.2.weight"] == (1, squeezed, 1, 1)
    assert sum(key.endswith("bias") for key in shapes) == 6


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("arguments", [(0,), (-4,), (8, 0)])
def test_impossible_widths(kind: type[nn.Module], arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="channels and reduction must be at least 1"):
        kind(*arguments)
