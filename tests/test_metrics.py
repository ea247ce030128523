"""Metrics against their definitions, those of other packages, and images where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.metrics import (
    SSIM_WINDOW,
    ciede2000,
    measure,
    psnr,
    ssim,
    ssim_pooled,
    to_rgb8,
)


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


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(11, 200), st.integers(11, 200), st.floats(0, 90))
def test_ssim_is_scikit_images(seed: int, height: int, width: int, noise: float) -> None:
    from skimage.metrics import structural_similarity

    image, clear = two_images(seed, height, width, noise)
    smooth = (clear // 16 + 100).astype(np.uint8)  # small variances of large values
    for one, other in ((image, clear), (smooth, clear), (smooth, (smooth + 1).astype(np.uint8))):
        theirs = structural_similarity(
            one, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=255, channel_axis=2,
        )  # fmt: skip
        assert ssim(one, other) == pytest.approx(theirs, abs=1e-9)


def test_the_size_of_bands_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image, clear = two_images(4, 90, 70, 20)
    wanted = ssim(image, clear), ciede2000(image, clear)
    for pixels in (1, 500, 90 * 70):
        monkeypatch.setattr("ktdn_plugin.metrics.BAND_PIXELS", pixels)
        found = ssim(image, clear), ciede2000(image, clear)
        assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("size", [(200, 300), (383, 500), (384, 384), (385, 640), (700, 933)])
def test_pooled_ssim_is_what_dehazing_papers_measure(size: tuple[int, int]) -> None:
    from pytorch_msssim import ssim as theirs

    image, clear = two_images(5, *size, 30)
    image[50:, 50:] = clear[:-50, :-50]
    x, y = (torch.from_numpy(one).permute(2, 0, 1)[None] / 255 for one in (image, clear))
    factor = max(1, round(min(size) / 256))
    pooled = [
        torch.nn.functional.adaptive_avg_pool2d(one, [int(edge / factor) for edge in size])
        for one in (x, y)
    ]
    assert (factor == 1) == (min(size) < 384)
    wanted = float(theirs(*pooled, data_range=1, size_average=False))
    assert ssim_pooled(image, clear) == pytest.approx(wanted, abs=1e-5)
    assert (ssim_pooled(image, clear) == ssim(image, clear)) == (factor == 1)
    assert ssim_pooled(clear, clear) == 1


def test_known_colour_differences() -> None:
    _, clear = two_images(6, 20, 30, 0)
    assert ciede2000(clear, clear) == 0
    white = np.full((4, 5, 3), 255, np.uint8)
    assert ciede2000(white, np.zeros_like(white)) == pytest.approx(100, abs=1e-3)
    half = clear.copy()
    half[:10] = 255 - half[:10]  # half of the pixels differ
    below = ciede2000(half[:10], clear[:10])
    assert ciede2000(half, clear) == pytest.approx(below / 2, abs=1e-9)


def test_psnr_by_its_definition() -> None:
    image, clear = two_images(0, 20, 30, 9.0)
    error = ((image.astype(np.float64) - clear) ** 2).mean()
    assert psnr(image, clear) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-12)
    white = np.full((12, 12, 3), 255, np.uint8)
    assert psnr(white, np.zeros_like(white)) == 0


def test_equal_images() -> None:
    _, clear = two_images(1, 20, 30, 0)
    assert measure(clear, clear) == (math.inf, 1.0)
    assert measure(clear, clear).text(" dB") == "inf dB / 1.000"


def test_a_border_is_left_out() -> None:
    image, clear = two_images(2, 30, 40, 20)
    inner = image[3:-3, 3:-3], clear[3:-3, 3:-3]
    assert psnr(image, clear, 3) == psnr(*inner)
    assert ssim(image, clear, 3) == ssim(*inner)


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_pooled, ciede2000])
def test_what_cannot_be_compared(metric) -> None:
    image, clear = two_images(3, 20, 30, 5)
    with pytest.raises(ValueError, match=r"\(20, 29, 3\) and \(20, 30, 3\) cannot be compared"):
        metric(image[:, :-1], clear)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_measured(metric) -> None:
    image, clear = two_images(3, 20, 30, 5)
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
