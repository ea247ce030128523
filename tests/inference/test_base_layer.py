"""The base layer of large images, taken from a small copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_rule import draw_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_dehazer import network
from torch import Tensor, nn
from torch.nn import functional as F

from ktdn_plugin import KTDN, KTDNError
from ktdn_plugin.inference import Dehazer, base_layer
from ktdn_plugin.inference.base import small_size
from ktdn_plugin.inference.base_layer import replace_base, shrink, shrink_images
from ktdn_plugin.inference.frames import Frames

CPU = torch.device("cpu")
SIZES = st.integers(2, 60)


def resize(images: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def plainly(network: nn.Module, x: Tensor, size: tuple[int, int]) -> Tensor:
    """The same by whole images."""
    whole, small = network(x).clamp(0, 1), network(resize(x, size)).clamp(0, 1)
    change = F.interpolate(small - resize(whole, size), x.shape[2:], mode="bilinear")
    return (whole + change).clamp(0, 1)


class Darker(nn.Module):
    """Takes more away, the larger the image is."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 - x.shape[3] / 400) + 0.1 * x.roll(1, 3)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(1, 60), st.integers(1, 2), st.integers(1, 70))
def test_strips_compute_what_whole_images_do(
    height: int, width: int, longer: int, n: int, strip: int
) -> None:
    size = small_size(height, width, min(longer, max(height, width)))
    x = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(height))
    frames = Frames(x, CPU)
    frames.write(0, height, Darker()(x))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_layer, "STRIP", strip)
        small = shrink_images(frames, size)
        assert torch.allclose(small, resize(x, size), atol=1e-6)
        replace_base(frames, Darker()(small).clamp(0, 1))
    assert torch.allclose(frames.result, plainly(Darker(), x, size), atol=1e-5)


def test_detail_stays_and_the_rest_is_replaced() -> None:
    rows, columns = np.mgrid[:128, :160]
    detail = 0.1 * ((rows + columns) % 2)
    slope = columns / 400
    frames = Frames((slope + detail).astype(np.float32)[None, ..., None].repeat(3, 3), CPU)
    frames.write(0, 128, frames.read(0, 128))
    wanted = 0.8 - rows / 400
    base = torch.from_numpy(wanted).float().expand(1, 3, 128, 160)
    replace_base(frames, shrink(lambda top, bottom: base[:, :, top:bottom], 128, (32, 40)))
    off = frames.result[0, 8:-8, 8:-8, 0] - (wanted + detail - detail.mean())[8:-8, 8:-8]
    assert np.abs(off).max() < 0.002


def affine() -> KTDN:
    drawn = KTDN("test_resnet", head="affine").eval()
    draw_weights(drawn, ("bn2.weight",))
    return drawn


@pytest.mark.parametrize("kind", ["uint8", "uint16", ">u2", "float32", "tensor"])
def test_all_kinds_of_images(kind: str) -> None:
    made = Dehazer(affine(), device="cpu", base_size=64)
    values = np.random.RandomState(0).randint(0, 256, (2, 70, 130, 3)) / 255
    x = torch.from_numpy(values).permute(0, 3, 1, 2).float()
    largest = {"uint8": 255, "uint16": 65535, ">u2": 65535}.get(kind, 1)
    images = x if kind == "tensor" else np.rint(values * largest) if largest > 1 else values
    images = images if kind == "tensor" else images.astype(kind)
    with torch.no_grad():
        wanted = plainly(affine(), x, (34, 64)).permute(0, 2, 3, 1).numpy()
    for one, expected in ((images, wanted), (images[0], wanted[0])):
        result = made(one)
        assert (result.dtype, result.shape) == (one.dtype, one.shape)
        if kind == "tensor":
            result = result.movedim(-3, -1).numpy()
        # Rounded twice, and the mean of what is rounded may be a little off as well.
        tolerance = 1.2 / largest if largest > 1 else 0
        assert np.abs(result / largest - expected).max() < tolerance + 1e-5


def test_auto_is_half_of_a_large_image_for_the_affine_head_alone() -> None:
    auto, off = (Dehazer(affine(), device="cpu", base_size=one) for one in ("auto", "off"))
    small, large = torch.rand(3, 16, 320), torch.rand(3, 16, 700)
    assert torch.equal(auto(small), off(small))
    assert not torch.allclose(auto(large), off(large), atol=0.01)
    for size in (322, 640, 700, 1600, 4000):
        expected = max(1, round(16 * min(max(size // 2, 320), 768) / size))
        assert auto._small_size(16, size) == (expected, min(max(size // 2, 320), 768))
    published = Dehazer(network(), device="cpu")
    plain = Dehazer(network(), device="cpu", base_size="off")
    assert torch.equal(published(large), plain(large))


def test_strength_applies_to_both_layers() -> None:
    image = np.random.RandomState(0).randint(60, 200, (40, 90, 3)).astype(np.uint8)
    made = Dehazer(affine(), device="cpu", base_size=48, strength=0)
    assert np.abs(made(image).astype(int) - image).max() <= 1


def test_memory_that_is_enough_for_both() -> None:
    made = Dehazer(affine(), device="cpu", base_size=64)
    least = made.needs(48, 96)[1]
    assert least >= Dehazer(affine(), device="cpu", base_size="off").needs(48, 96)[1] * 0.9
    limited = Dehazer(affine(), device="cpu", base_size=64, max_memory=int(least * 1.1))
    assert limited(np.zeros((48, 96, 3), np.uint8)).shape == (48, 96, 3)


@pytest.mark.parametrize("wrong", [31, 0, -5, True, "half", "31", "", None, 64.0])
def test_sizes_that_are_none(wrong: object) -> None:
    with pytest.raises(KTDNError, match=r"^base_size: .* is not auto, off or a number of pixels"):
        Dehazer(network(), device="cpu", base_size=wrong)
