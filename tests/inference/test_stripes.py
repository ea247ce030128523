"""Finding out how far a part of a network looks, and running it in stripes."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import SqueezeExcite
from torch import Tensor, nn
from torch.nn import functional as F

from ktdn_plugin.inference.stripes import Halo, find_halo, run_striped, stripes


def conv(kernel: int, stride: int = 1, dilation: int = 1, channels: int = 4) -> nn.Conv2d:
    return nn.Conv2d(
        channels, 4, kernel, stride, padding=dilation * (kernel - 1) // 2, dilation=dilation
    )


class Norm(nn.Module):
    """Normalises by the whole image's statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Positions(nn.Module):
    """Adds something small that depends on the row's number."""

    def __init__(self, size: float = 0.01) -> None:
        super().__init__()
        self.conv = conv(3)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.linspace(0, self.size, x.shape[2], device=x.device, dtype=x.dtype)
        return self.conv(x) + rows.view(-1, 1)


class Windows(nn.Module):
    """Takes averages inside windows of so many rows, counted from the top."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.conv = conv(1)
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        x = F.pad(self.conv(x), (0, 0, 0, -height % self.rows))
        means = x.unflatten(2, (-1, self.rows)).mean(3, keepdim=True)
        return means.expand(-1, -1, -1, self.rows, -1).flatten(2, 3)[:, :, :height]


class Overwrites(nn.Module):
    """Doubles its input in place before it looks around."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.mul_(2))


# Of each: the part, its stride, and the rows that it looks up and down, as multiples of the stride.
LOCAL = {
    "a point": (lambda: conv(1), 1, (0, 0)),
    "3x3": (lambda: conv(3), 1, (1, 1)),
    "a stack": (lambda: nn.Sequential(conv(3), nn.ReLU(), conv(5), conv(3)), 1, (4, 4)),
    "dilated": (lambda: conv(3, dilation=7), 1, (7, 7)),
    # Row r of the result looks at rows 2r - 1 to 2r + 1: one up, none below its own two.
    "a stride": (lambda: conv(3, 2), 2, (2, 0)),
    "a kernel as large as the stride": (lambda: nn.Conv2d(4, 4, 4, 4), 4, (0, 0)),
    # 4r - 5 to 4r + 5: 5 up, 2 below its own four.
    "a stem": (lambda: nn.Sequential(conv(7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)), 4, (8, 4)),
    "per-pixel norm": (lambda: nn.Sequential(conv(3), nn.LocalResponseNorm(2)), 1, (1, 1)),
    # More than half of the first probe's size: to be found with the next one.
    "far": (lambda: nn.Sequential(conv(3, dilation=40), conv(3, dilation=20)), 1, (60, 60)),
}

NOT_LOCAL = {
    "squeeze and excitation": (lambda: nn.Sequential(conv(3), SqueezeExcite(4)), 1),
    "norm of the image": (lambda: nn.Sequential(conv(3), Norm()), 1),
    "a stride's squeeze and excitation": (lambda: nn.Sequential(conv(3, 2), SqueezeExcite(4)), 2),
    "positions": (Positions, 1),
    "overwrites its input": (Overwrites, 1),
    "wants wide images": (lambda: nn.Conv2d(4, 4, (3, 100), padding=(1, 0)), 1),
    "too far": (lambda: conv(3, dilation=200), 1),
    "past the largest probe's edges": (lambda: conv(3, dilation=400), 1),
    **{f"windows of {rows}": (functools.partial(Windows, rows), 1) for rows in (2, 3, 5, 8, 11)},
}


@pytest.mark.parametrize(("build", "stride", "reach"), LOCAL.values(), ids=LOCAL)
@torch.no_grad()
def test_the_halo_is_what_it_needs_and_no_more(build, stride: int, reach: tuple[int, int]) -> None:
    torch.manual_seed(0)
    part = build().eval()
    halo = find_halo(part, 4, stride)
    assert halo == Halo(stride, *reach)
    whole = torch.randn(2, 4, 70 * stride, 8 * stride)
    wanted = part(whole)

    def rows_of(top: int, bottom: int) -> Tensor:
        assert 0 <= top < bottom <= 70 * stride
        return whole[:, :, top:bottom]

    for height in (1, 3, 16, 69, 70, 100):
        result = run_striped(part, rows_of, 70, height, halo)
        torch.testing.assert_close(result, wanted, rtol=0, atol=1e-5)
    if max(reach):
        less = Halo(stride, max(reach[0] - stride, 0), max(reach[1] - stride, 0))
        assert not torch.allclose(run_striped(part, rows_of, 70, 3, less), wanted, atol=1e-3)


@pytest.mark.parametrize(("build", "stride"), NOT_LOCAL.values(), ids=NOT_LOCAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_what_is_not_local_has_no_halo(build, stride: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    part = build().eval().to(dtype)
    assert find_halo(part, 4, stride) is None
    assert {parameter.dtype for parameter in part.parameters()} == {dtype}


def test_a_narrow_format_has_the_same_halo() -> None:
    torch.manual_seed(0)
    part = nn.Sequential(conv(7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)).to(torch.bfloat16)
    assert find_halo(part, 4, 4) == Halo(4, 8, 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 310))
def test_stripes_cover_all_rows_once(rows: int, height: int) -> None:
    cut = list(stripes(rows, height))
    assert [row for top, bottom in cut for row in range(top, bottom)] == list(range(rows))
    assert all(bottom - top == height for top, bottom in cut[:-1])


@torch.no_grad()
def test_a_stripe_that_holds_all_is_not_copied() -> None:
    made = []

    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            made.append(x * 2)
            return made[-1]

    result = run_striped(Part(), lambda a, b: torch.ones(1, 4, b - a, 5), 20, 20, Halo(1, 0, 0))
    assert result.data_ptr() == made[0].data_ptr()
