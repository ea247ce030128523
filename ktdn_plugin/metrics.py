"""PSNR, SSIM and CIEDE2000 as image restoration measures them: on RGB, full size, 8 bit.

What is measured on the Y channel alone, as papers on super-resolution do, or on smaller images, is
named so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ktdn_plugin.errors import printable

if TYPE_CHECKING:
    from torch import Tensor

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window (sigma 1.5) in pixels; no image may be smaller."""

POOLED_SIDE = 256
"""Shorter side in pixels that :func:`ssim_pooled` brings images near to."""

BAND_PIXELS = 2**15
"""Pixels that are measured at a time, in rows: what lies in a processor's cache is fast."""

LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966])
"""Of R, G and B in Y, over 255 and above 16 (ITU-R BT.601)."""

UNNAMED_SPLIT = "unnamed split"
"""What tables call a split that nobody has named: its figures compare with nothing."""

RGB8 = NDArray[np.uint8]


class Measured(NamedTuple):
    """One image's distance from the clear one: PSNR in dB, SSIM, both on RGB."""

    psnr: float
    ssim: float

    def text(self, unit: str = "") -> str:
        """Formats both for people, as papers round them.

        Args:
            unit: What follows PSNR, such as ``" dB"``.

        Example:
            >>> Measured(20.444, 0.81251).text(" dB")
            '20.44 dB / 0.813'
        """
        return f"{self.psnr:.2f}{unit} / {self.ssim:.3f}"


def measure(image: RGB8, clear: RGB8) -> Measured:
    """Measures an image by PSNR and SSIM, see :func:`psnr` and :func:`ssim`."""
    return Measured(psnr(image, clear), ssim(image, clear))


def psnr(image: RGB8, clear: RGB8, crop_border: int = 0) -> float:
    """Computes the peak signal-to-noise ratio.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.
        crop_border: Pixels at each edge that are left out.

    Returns:
        dB, over all pixels and channels together; infinite for equal images.

    Raises:
        ValueError: If the shapes differ, or nothing is left of the images.
    """
    image, clear = _cropped(image, clear, crop_border, least=1)
    # Not all at once in float64: eight times the images' memory is a lot for large ones.
    error = float(np.mean(np.square(image.astype(np.int32) - clear), dtype=np.float64))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(image: RGB8, clear: RGB8, crop_border: int = 0) -> float:
    """Computes the structural similarity.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 2004: Gaussian window of 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03, the
    mean over all places where the window fits, then over the channels.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.
        crop_border: Pixels at each edge that are left out.

    Returns:
        At most 1, for equal images.

    Raises:
        ValueError: If the shapes differ, or the window does not fit into the images.
    """
    return _ssim(*_cropped(image, clear, crop_border, least=SSIM_WINDOW))


def ssim_pooled(image: RGB8, clear: RGB8) -> float:
    """Computes the structural similarity of images that average pooling has made smaller.

    As DehazeFormer (Song et al., IEEE TIP 2023, ``test.py``), FocalNet (Cui et al., ICCV 2023) and
    ConvIR (Cui et al., TPAMI 2024, ``eval.py``) measure it: both images are brought to a shorter
    side of about 256 pixels by adaptive average pooling with the factor
    ``max(1, round(min(h, w) / 256))``, after Wang's suggestion of the scale at which images are
    looked at; then :func:`ssim`, with its window and constants, on RGB. Its values are higher than
    those at full size, and do not compare with them.

    Two things differ from those scripts by a little: they measure the network's output before it
    is rounded to 8 bit; and FocalNet's and ConvIR's take ``h`` and ``w`` of the image as it is
    padded for the network, not as it is.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.

    Returns:
        At most 1, for equal images.

    Raises:
        ValueError: If the shapes differ, or the window does not fit into the pooled images.
    """
    image, clear = _cropped(image, clear, 0, least=SSIM_WINDOW)
    factor = max(1, round(min(image.shape[:2]) / POOLED_SIDE))
    if factor > 1:
        height, width = (int(edge / factor) for edge in image.shape[:2])
        return _ssim(_pooled(image, height, width), _pooled(clear, height, width))
    return _ssim(image, clear)


def ciede2000(image: RGB8, clear: RGB8) -> float:
    """Computes the mean colour difference, CIEDE2000.

    Source: Luo, Cui and Rigg, "The Development of the CIE 2000 Colour-Difference Formula:
    CIEDE2000", 2001, by scikit-image, between the pixels' CIELAB colours (sRGB, D65, the observer
    of 2 degrees).

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.

    Returns:
        0 for equal images; about 1 can just be seen, white and black differ by 100.

    Raises:
        ValueError: If the shapes differ.
    """
    # Loaded where it is used: it takes a second.
    from skimage.color import deltaE_ciede2000, rgb2lab

    image, clear = _cropped(image, clear, 0, least=1)
    height, width = image.shape[:2]
    total = 0.0
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bands = (rgb2lab(one[top : top + rows]) for one in (clear, image))
        total += float(deltaE_ciede2000(*bands).sum())
    return total / (height * width)


def describe_missing(metric: str, missing: Sequence[tuple[str, str]], images: int) -> str:
    """Returns a message on the images for which a metric has no value.

    Args:
        metric: The metric.
        missing: Each such image's name, and why.
        images: How many images there are.
    """
    name, reason = missing[0]
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    rest = "the mean is over the others" if len(missing) < images else "there is no mean"
    return (
        f"{metric}: no value for {len(missing)} of {images} images, "
        f"{printable(name)}{more} ({printable(reason)}); {rest}"
    )


def luma(image: RGB8) -> NDArray[np.float64]:
    """Computes the Y channel of YCbCr, as ``test_y_channel`` means it: ITU-R BT.601, not rounded.

    Args:
        image: RGB (h, w, 3), 0 to 255.

    Returns:
        (h, w), 16 to 235.
    """
    return 16 + np.asarray(image @ LUMA_WEIGHTS, np.float64) / 255


def psnr_y(image: RGB8, clear: RGB8) -> float:
    """Computes the peak signal-to-noise ratio of the Y channel, see :func:`luma`.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.

    Returns:
        dB, with a peak of 255; infinite for equal channels.

    Raises:
        ValueError: If the shapes differ.
    """
    image, clear = _cropped(image, clear, 0, least=1)
    error = float(np.mean(np.square(luma(image) - luma(clear))))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim_y(image: RGB8, clear: RGB8) -> float:
    """Computes the structural similarity of the Y channel, see :func:`ssim` and :func:`luma`.

    Args:
        image: RGB (h, w, 3), 0 to 255.
        clear: Same shape.

    Returns:
        At most 1, for equal channels.

    Raises:
        ValueError: If the shapes differ, or the window does not fit into the images.
    """
    image, clear = _cropped(image, clear, 0, least=SSIM_WINDOW)
    return _ssim(luma(image), luma(clear))


def to_rgb8(image: Tensor) -> RGB8:
    """Converts a network's output to 8-bit RGB, as it would be saved.

    Args:
        image: (3, h, w), floating point; clamped to [0, 1].

    Returns:
        (h, w, 3), 0 to 255, rounded to the nearest, halves to the even number.
    """
    values = image.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    return np.ascontiguousarray((values * 255).round().astype(np.uint8))


def _cropped(image: RGB8, clear: RGB8, border: int, least: int) -> tuple[RGB8, RGB8]:
    if image.shape != clear.shape:
        raise ValueError(f"images of {image.shape} and {clear.shape} cannot be compared")
    height, width = (edge - 2 * border for edge in image.shape[:2])
    if min(height, width) < least:
        raise ValueError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels is too small to measure: "
            f"at least {least} x {least} are needed"
            + (f" inside a border of {border}" if border else "")
        )
    window = slice(border, border + height), slice(border, border + width)
    return image[window], clear[window]


def _ssim(image: NDArray[Any], clear: NDArray[Any]) -> float:
    """Computes the structural similarity of arrays (h, w) or (h, w, channels), 0 to 255.

    In float64, since the variances are small differences of large numbers.
    """
    gauss = cv2.getGaussianKernel(SSIM_WINDOW, 1.5, cv2.CV_64F)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    edge = SSIM_WINDOW // 2
    inner = (slice(edge, -edge),) * 2  # where the whole window lies in the image
    height, width = (length - 2 * edge for length in image.shape[:2])
    rows = max(1, BAND_PIXELS // width)

    def blurred(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cv2.sepFilter2D(values, -1, gauss, gauss))[inner]

    total = 0.0
    for top in range(0, height, rows):
        band = slice(top, top + rows + 2 * edge)
        x, y = image[band].astype(np.float64), clear[band].astype(np.float64)
        mean_x, mean_y = blurred(x), blurred(y)
        product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        covariance, variances = blurred(x * y) - product, blurred(x * x + y * y) - squares
        likeness = (2 * product + c1) * (2 * covariance + c2)
        likeness /= (squares + c1) * (variances + c2)
        total += float(likeness.sum())
    return total / (height * width * (image.shape[2] if image.ndim == 3 else 1))


def _pooled(image: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """Averages over windows that divide an image, as torch's ``adaptive_avg_pool2d`` does.

    Windows that do not divide evenly overlap.
    """
    for axis, (before, after) in enumerate(zip(image.shape[:2], (height, width), strict=True)):
        lines = np.moveaxis(image, axis, 0)
        windows = ((n * before // after, -(-(n + 1) * before // after)) for n in range(after))
        means = [lines[first:last].mean(0, dtype=np.float64) for first, last in windows]
        image = np.stack(means, axis)
    return image


@dataclass(frozen=True)
class Measure:
    """A metric of an image.

    Attributes:
        name: As it stands in tables; the protocol's, where there are several.
        compute: Computes it from an image and its clear one, both RGB (h, w, 3) uint8 of the same
            size.
        about: The protocol, in a few words.
        lower_is_better: Which way is better.
        decimals: As many are shown.
    """

    name: str
    compute: Callable[[RGB8, RGB8], float]
    about: str = ""
    lower_is_better: bool = False
    decimals: int = 4

    def text(self, value: float) -> str:
        """Formats a value for a table."""
        return f"{value:.{self.decimals}f}"


ON_RGB = (
    Measure("psnr", psnr, "dB, RGB, full resolution", decimals=2),
    Measure("ssim", ssim, "RGB, full resolution"),
)
ON_Y = (
    Measure("psnr_y", psnr_y, "dB, Y channel (BT.601), full resolution", decimals=2),
    Measure("ssim_y", ssim_y, "Y channel (BT.601), full resolution"),
)
MEASURES = {
    measure.name: measure
    for measure in (
        *ON_RGB,
        *ON_Y,
        Measure(
            "ssim_pooled",
            ssim_pooled,
            "RGB, average-pooled to a shorter side of about 256 pixels, as DehazeFormer, FocalNet "
            "and ConvIR measure",
        ),
        Measure("ciede2000", ciede2000, "colour difference in CIELAB, mean over pixels", True, 3),
    )
}
"""The metrics that are computed here, by name."""

TITLES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ciede2000": "CIEDE2000",
    "lpips": "LPIPS",
    "dists": "DISTS",
    "niqe": "NIQE",
}
"""How metrics are written in text, by the names that columns begin with."""

HIGHER_IS_BETTER = frozenset(("psnr", "ssim"))
LOWER_IS_BETTER = frozenset(TITLES) - HIGHER_IS_BETTER
