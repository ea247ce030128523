"""The metrics that images are measured by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ktdn_plugin.metrics import RGB8, psnr, psnr_y, ssim, ssim_y

DECIMALS = 4


@dataclass(frozen=True)
class Measure:
    """A metric of an image.

    Attributes:
        name: As it stands in tables.
        compute: Computes it from an image and its clear one, both RGB (h, w, 3) uint8 of the same
            size.
        lower_is_better: Which way is better.
        decimals: As many are shown.
    """

    name: str
    compute: Callable[[RGB8, RGB8], float]
    lower_is_better: bool = False
    decimals: int = DECIMALS

    def text(self, value: float) -> str:
        """Formats a value for a table."""
        return f"{value:.{self.decimals}f}"


ON_RGB = (Measure("psnr", psnr, decimals=2), Measure("ssim", ssim))
ON_Y = (Measure("psnr_y", psnr_y, decimals=2), Measure("ssim_y", ssim_y))
OURS = {measure.name: measure for measure in (*ON_RGB, *ON_Y)}
