"""PSNR and SSIM against their definitions, BasicSR's, and images where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.metrics import SSIM_WINDOW, measure, psnr, ssim, to_rgb8


def two_images(seed: int, height: int, width: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    clear = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    noisy = (clear + draw.normal(0, noise, clear.shape)).clip(0, 255).astype(np.uint8)
    return noisy, clear


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 999), st.integers(11, 60), st.integers(11, 60), st.floats(0, 90),
    st.integers(0, 4),
)  # fmt: skip
def test_digit_for_digit_what_basicsr_measures(
    seed: int, height: int, width: int, noise: float, border: int
) -> None:
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.metrics import calculate_psnr, calculate_ssim

    image, clear = two_images(seed, height, width, noise)
    theirs = calculate_psnr(image, clear, crop_border=border)
    assert psnr(image, clear, border) == pytest.approx(theirs, abs=1e-9)
    if min(height, width) - 2 * border >= SSIM_WINDOW:
        theirs = calculate_ssim(image, clear, crop_border=border)
        assert ssim(image, clear, border) == pytest.approx(theirs, abs=1e-9)


def test_psnr_by_its_definition() -> None:
    image, clear = two_images(0, 20, 30, 9.0)
    error = ((image.astype(np.float64) - clear) ** 2).mean()
    assert psnr(image, clear) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-12)
    white = np.full((12, 12, 3), 255, np.uint8)
    assert psnr(white, np.zeros_like(white)) == 0


def test_equal_images() -> None:
    _, clear = two_images(1, 20, 30, 0)
    assert measure(clear, clear) == (math.inf, 1.0)


def test_a_border_is_left_out() -> None:
    image, clear = two_images(2, 30, 40, 20)
    inner = image[3:-3, 3:-3], clear[3:-3, 3:-3]
    assert psnr(image, clear, 3) == psnr(*inner)
    assert ssim(image, clear, 3) == ssim(*inner)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_measured(metric) -> None:
    image, clear = two_images(3, 20, 30, 5)
    with pytest.raises(ValueError, match=r"\(20, 29, 3\) and \(20, 30, 3\) cannot be compared"):
        metric(image[:, :-1], clear)
    with pytest.raises(ValueError, match=r"30 x 20 pixels is too small .* border of 10"):
        metric(image, clear, 10)


def test_ssim_says_how_small_an_image_may_be() -> None:
    image, clear = two_images(3, 10, 30, 5)
    with pytest.raises(ValueError, match=r"30 x 10 pixels is too small .*: at least 11 x 11"):
        ssim(image, clear)


def test_pictures_of_tensors_are_basicsrs() -> None:
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.utils import tensor2img

    torch.manual_seed(0)
    image = torch.randn(3, 17, 9) * 0.5 + 0.5
    image[0, 0, :4] = torch.tensor([0.5 / 255, 1.5 / 255, -1.0, 2.0])
    assert np.array_equal(to_rgb8(image), tensor2img([image], rgb2bgr=False))
    assert to_rgb8(image.bfloat16()).dtype == np.uint8
