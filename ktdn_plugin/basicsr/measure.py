"""PSNR and SSIM of one image, as BasicSR measures them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.basicsr import compat


class Measured(NamedTuple):
    """One image's distance from the clear one: PSNR in dB, SSIM, both on RGB."""

    psnr: float
    ssim: float


def measure(image: NDArray[np.uint8], clear: NDArray[np.uint8]) -> Measured:
    """Measures an image against the clear one by BasicSR's PSNR and SSIM.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.
    """
    compat.apply()
    from basicsr.metrics import calculate_psnr, calculate_ssim

    return Measured(
        float(calculate_psnr(image, clear, crop_border=0)),
        float(calculate_ssim(image, clear, crop_border=0)),
    )
