"""PSNR and SSIM on the Y channel are what BasicSR's ``test_y_channel`` gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktdn_plugin.metrics import luma, psnr, psnr_y, ssim_y


def two_images(seed: int, height: int, width: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    clear = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (clear + draw.normal(0, noise, clear.shape)).clip(0, 255).astype(np.uint8), clear


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(11, 40), st.integers(11, 40), st.floats(2, 90))
def test_what_basicsr_measures(seed: int, height: int, width: int, noise: float) -> None:
    from ktdn_plugin.basicsr import compat

    compat.apply()
    from basicsr.metrics import calculate_psnr, calculate_ssim

    image, clear = two_images(seed, height, width, noise)
    bgr = image[..., ::-1], clear[..., ::-1]
    options = {"crop_border": 0, "test_y_channel": True}
    # BasicSR makes the channel in single precision.
    assert psnr_y(image, clear) == pytest.approx(calculate_psnr(*bgr, **options), abs=1e-4)
    assert ssim_y(image, clear) == pytest.approx(calculate_ssim(*bgr, **options), abs=1e-6)


def test_luma_of_known_colours() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0]]], np.uint8)
    np.testing.assert_allclose(luma(colours), [[16, 235, 81.481, 144.553]], atol=1e-9)


def test_equal_images_and_images_that_do_not_compare() -> None:
    image, clear = two_images(1, 20, 20, 20)
    assert psnr_y(clear, clear) == float("inf")
    assert ssim_y(clear, clear) == 1
    assert psnr_y(image, clear) != psnr(image, clear)
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr_y(image[:-1], clear)
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim_y(image[:10], clear[:10])
